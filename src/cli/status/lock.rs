//! Whether policies keep Tagout itself as it is.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Api, Client};
use serde::Serialize;

use crate::cli::words::printable;
use crate::entries::LOCKS;

#[derive(Serialize, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum LockLine {
    #[serde(rename_all = "camelCase")]
    Locked {
        unlocked_for: Vec<String>,
    },
    /// The policies that are not in force.
    Open {
        missing: Vec<String>,
    },
    Unknown {
        reason: String,
    },
}

impl LockLine {
    pub async fn read(client: &Client) -> Self {
        read(client).await.unwrap_or_else(|error| Self::Unknown { reason: error.to_string() })
    }

    pub fn text(&self) -> String {
        match self {
            Self::Locked { unlocked_for } if unlocked_for.is_empty() => "Tagout itself: kept as it is.\n".to_owned(),
            Self::Locked { unlocked_for } => {
                format!("Tagout itself: kept as it is, unlocked for {}.\n", printable(&unlocked_for.join(", ")))
            }
            Self::Open { .. } => {
                "Tagout itself: not kept as it is. Whoever may write its configurations or its namespace \
                                  can open what rules protect.\n"
                    .to_owned()
            }
            Self::Unknown { reason } => {
                format!("Tagout itself: whether it is kept as it is cannot be read: {}\n", printable(reason))
            }
        }
    }
}

async fn read(client: &Client) -> kube::Result<LockLine> {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let (mut missing, mut unlocked_for) = (Vec::new(), Vec::new());
    for name in LOCKS {
        let (binding, policy) = (bindings.get_opt(name).await?, policies.get_opt(name).await?);
        let denies = binding.and_then(|binding| binding.spec).is_some_and(|spec| {
            spec.policy_name.as_deref() == Some(name) && spec.validation_actions.iter().flatten().any(|it| it == "Deny")
        });
        match policy.filter(|_| denies) {
            Some(policy) => {
                let Some(users) = unlocked_by(&policy) else {
                    return Ok(LockLine::Unknown { reason: format!("the policy {name} is not as Tagout writes it") });
                };
                unlocked_for.extend(users.into_iter().filter(|user| !unlocked_for.contains(user)).collect::<Vec<_>>());
            }
            None => missing.push(name.to_owned()),
        }
    }
    Ok(if missing.is_empty() { LockLine::Locked { unlocked_for } } else { LockLine::Open { missing } })
}

/// The users that stand in the policy's own words; nothing where these say something else.
pub fn unlocked_by(policy: &ValidatingAdmissionPolicy) -> Option<Vec<String>> {
    let mut variables = policy.spec.iter().flat_map(|spec| spec.variables.iter().flatten());
    let unlocked = variables.find(|variable| variable.name == "unlocked")?;
    serde_json::from_str(unlocked.expression.strip_prefix("request.userInfo.username in ")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::{Leave, Place, locks};

    #[test]
    fn for_whom_it_is_unlocked_is_read_from_the_policies_themselves() {
        for users in [vec![], vec!["ci-deployer".to_owned(), r#"odd "name" [1]"#.to_owned()]] {
            let leave = Leave { unlocked: users.clone(), ..Leave::default() };
            for lock in locks(&Place { namespace: "tagout-system".to_owned(), ..Place::default() }, &leave) {
                assert_eq!(unlocked_by(&lock.policy), Some(users.clone()));
                let mut other = lock.policy;
                let spec = other.spec.as_mut().expect("a spec");
                let variables = spec.variables.iter_mut().flatten();
                variables.for_each(|variable| variable.expression += " || true");
                assert_eq!(unlocked_by(&other), None);
            }
        }
    }

    #[test]
    fn it_is_said_whether_somebody_can_open_everything() {
        let text = |line: LockLine| line.text();
        assert_eq!(text(LockLine::Locked { unlocked_for: vec![] }), "Tagout itself: kept as it is.\n");
        let unlocked = text(LockLine::Locked { unlocked_for: vec!["ci".to_owned(), "bob".to_owned()] });
        assert!(unlocked.ends_with("unlocked for ci, bob.\n"), "{unlocked}");
        assert!(text(LockLine::Open { missing: vec![] }).contains("not kept"));
        assert!(text(LockLine::Unknown { reason: "no\u{1b}[2J".to_owned() }).lines().count() == 1);
    }
}
