//! Approvals that lie about.

use jiff::{SignedDuration, Timestamp};

use super::finding::{APPROVAL_LONG, APPROVAL_OPEN, APPROVAL_STALE, Finding, Fix, Severity, Stage};
use super::snapshot::Snapshot;
use crate::api::{Action, kind_parts};
use crate::cli::approvals::OpenApproval;
use crate::cli::words::moment;

/// Longer than a shift, and nobody remembers that it stands.
const LONG: SignedDuration = SignedDuration::from_hours(24);

pub fn check(snapshot: &Snapshot, _: Stage) -> Vec<Finding> {
    let gone = |one: &OpenApproval| {
        let (plural, group) = kind_parts(&one.kind);
        let objects = snapshot.objects.get(&(group.to_owned(), plural.to_owned()));
        let there = |objects: &Vec<super::snapshot::Seen>| {
            objects.iter().any(|seen| seen.namespace == one.namespace && seen.name == one.name)
        };
        // What is to return is not there.
        one.action != Some(Action::Recreate) && objects.is_some_and(|objects| !there(objects))
    };
    snapshot.approvals.iter().map(|one| judge(one, gone(one), snapshot.now())).collect()
}

fn judge(one: &OpenApproval, gone: bool, now: Timestamp) -> Finding {
    let object = one.approval.as_ref().map_or_else(|| named(one), |name| format!("Approval/{name}"));
    let action = one.action.map_or("something", Action::as_str);
    let about =
        format!("{action} of {}, by {}", named(one), one.approver.as_deref().unwrap_or("nobody that can be read"));
    let remark = one.remark.clone().or_else(|| gone.then(|| "its object is gone".to_owned()));
    if let Some(remark) = remark {
        let says = format!("says {about}, and does not count: {remark}");
        let take = Fix::words("Take it away; that needs no approval.");
        let fix = if let Some(name) = &one.approval {
            take.kubectl("delete", "approval", &[], name)
        } else {
            let namespace: Vec<&str> =
                if one.namespace.is_empty() { Vec::new() } else { vec!["-n", one.namespace.as_str()] };
            take.kubectl("annotate", &one.kind, &namespace, &one.name).with_last("tagout.dev/approval-")
        };
        return Finding::new(&APPROVAL_STALE, Severity::Note, object, says).fix(fix);
    }
    let until = one.expires.map_or_else(|| "-".to_owned(), |expires| moment(expires, now));
    let whom = one.requester.as_deref().map_or_else(|| "anyone".to_owned(), |one| format!("{one:?}"));
    let says = format!("lets {whom} do {about}, until {until}");
    let fix = Fix::words("If nobody is about to use it, revoke it.").run(&["kubectl", "tagout", "get", "approvals"]);
    let long = one.expires.is_some_and(|expires| expires.duration_since(now) > LONG);
    if long {
        return Finding::new(&APPROVAL_LONG, Severity::Warning, object, says).fix(fix);
    }
    Finding::new(&APPROVAL_OPEN, Severity::Note, object, says).fix(fix)
}

fn named(one: &OpenApproval) -> String {
    let namespace = if one.namespace.is_empty() { String::new() } else { format!("{}/", one.namespace) };
    format!("{}/{namespace}{}", one.kind, one.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::statements::tests::NOW;

    fn approval(hours: i64) -> OpenApproval {
        OpenApproval {
            kind: "deployments.apps".into(),
            namespace: "payments".into(),
            name: "api".into(),
            action: Some(Action::Delete),
            approver: Some("alice".into()),
            expires: Some(NOW + SignedDuration::from_hours(hours)),
            ..OpenApproval::default()
        }
    }

    #[test]
    fn what_stands_is_told_by_whether_it_counts_and_for_how_long() {
        assert_eq!(judge(&approval(1), false, NOW).known, &APPROVAL_OPEN);
        assert_eq!(judge(&approval(100), false, NOW).known, &APPROVAL_LONG);
        assert_eq!(judge(&approval(1), true, NOW).known, &APPROVAL_STALE);
        let over = OpenApproval { remark: Some("expired".into()), ..approval(-1) };
        let finding = judge(&over, false, NOW);
        assert_eq!(finding.known, &APPROVAL_STALE);
        assert_eq!(
            super::super::finding::shell(&finding.fix.commands[0]),
            "kubectl annotate deployments.apps -n payments api tagout.dev/approval-"
        );
    }
}
