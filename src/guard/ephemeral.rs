//! The claims of pods' ephemeral volumes, which come and go with their pods.
//!
//! Kubernetes names such a claim POD-VOLUME and makes the pod its controller when it creates the claim. When the pod is
//! replaced the garbage collector removes the claim; were that refused, or were Tagout asked at all, rollouts would
//! stop with Tagout away. So such claims are no rule's business, and so that nobody can make any claim look like one,
//! an update that would is refused.

use super::needs::Subject;
use crate::actions::Owner;

/// Whether it is the claim of a pod's ephemeral volume.
pub(super) fn is_ephemeral(subject: &Subject, owners: &[Owner]) -> bool {
    owners.iter().any(|owner| is_pod_of(subject, owner))
}

/// Whether an update makes the claim look like one. Kubernetes itself never does.
pub fn becomes_ephemeral(subject: &Subject, before: &[Owner], after: &[Owner]) -> bool {
    after.iter().any(|owner| is_pod_of(subject, owner) && !before.contains(owner))
}

fn is_pod_of(subject: &Subject, owner: &Owner) -> bool {
    subject.group.is_empty()
        && subject.resource == "persistentvolumeclaims"
        && owner.controller
        && owner.kind == "Pod"
        && subject.name.strip_prefix(owner.name.as_str()).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str) -> Subject<'_> {
        Subject { resource: "persistentvolumeclaims".into(), name: name.into(), ..Subject::default() }
    }

    fn pod(name: &str, uid: &str, controller: bool) -> Owner {
        let (api_version, kind) = ("v1".to_owned(), "Pod".to_owned());
        Owner { api_version, kind, name: name.to_owned(), uid: uid.to_owned(), controller }
    }

    #[test]
    fn a_claim_is_its_pods_own_only_by_name_and_control() {
        assert!(is_ephemeral(&claim("web-1-scratch"), &[pod("web-1", "u", true)]));
        assert!(!is_ephemeral(&claim("web-1-scratch"), &[pod("web-1", "u", false)]));
        assert!(!is_ephemeral(&claim("data-web-1"), &[pod("web-1", "u", true)]));
        assert!(!is_ephemeral(&claim("web-1-scratch"), &[]));
    }

    #[test]
    fn an_update_that_gives_a_claim_such_an_owner_is_noticed_another_pod_of_that_name_too() {
        let (old, new) = (pod("data", "u", true), pod("data", "v", true));
        assert!(becomes_ephemeral(&claim("data-db-0"), &[], std::slice::from_ref(&old)));
        assert!(becomes_ephemeral(&claim("data-db-0"), std::slice::from_ref(&old), &[new]));
        assert!(!becomes_ephemeral(&claim("data-db-0"), std::slice::from_ref(&old), std::slice::from_ref(&old)));
    }
}
