//! For whom Tagout is unlocked.
//!
//! Who may was decided once, when the approval was given: an upgrade may itself end what an approval by identity rests on,
//! and must not be cut off in the middle. What was granted ends with its time, or when its approval is taken away.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, Client};

use super::Cluster;
use super::secrets::Place;
use crate::api::{Action, LONGEST_UNLOCK, Statement};
use crate::entries::SHARED;
use crate::guard::{Rules, Subject, Unlocked};

/// Whoever may write it may unlock.
const GRANTED: Place = Place { name: "tagout-unlocks", key: "granted" };

/// By the name of the user.
pub type Granted = BTreeMap<String, Unlocked>;

/// What is written down, with its version. What cannot be read grants nothing.
pub async fn read_granted(client: &Client, namespace: &str) -> kube::Result<(Granted, Option<String>)> {
    let found = GRANTED.read(client, namespace).await?;
    Ok(found.map_or_else(Default::default, |found| (found.said.unwrap_or_default(), found.version)))
}

pub async fn write_granted(
    client: &Client,
    namespace: &str,
    granted: &Granted,
    over: Option<String>,
) -> kube::Result<()> {
    GRANTED.write(client, namespace, granted, over).await.map(drop)
}

/// The configuration on which everything rests by which Tagout guards: what is approved where it is unlocked.
pub fn guards_own(uid: String) -> Subject<'static> {
    Subject {
        group: "admissionregistration.k8s.io".into(),
        resource: "validatingwebhookconfigurations".into(),
        name: SHARED.into(),
        uid: uid.into(),
        ..Subject::default()
    }
}

/// What is left of it, by what people say now.
pub fn still_granted(granted: &Granted, said: &[Statement], rules: &Rules, now: Timestamp) -> Granted {
    let known: BTreeMap<String, &Statement> =
        said.iter().filter_map(|statement| Some((statement.hash().ok()?, statement))).collect();
    let revoked = |hash: &String| {
        rules.teams.values().any(|team| team.spec.revoked.iter().any(|revoked| revoked.statement == *hash))
    };
    // By what people said, not by what is written here: that only spares them the epoch.
    let counts = |unlocked: &Unlocked, hash: &String| {
        let says = |statement: &&Statement| {
            let life = statement.expires.duration_since(statement.approved_at);
            statement.requester.as_ref() == Some(&unlocked.requester)
                && unlocked.until <= statement.expires
                && life <= LONGEST_UNLOCK
        };
        known.get(hash).is_some_and(says) && !revoked(hash)
    };
    let stands = |user: &String, unlocked: &Unlocked| {
        *user == unlocked.requester
            && unlocked.until > now
            && !unlocked.statements.is_empty()
            && unlocked.statements.iter().all(|hash| counts(unlocked, hash))
    };
    granted.iter().filter(|(user, one)| stands(user, one)).map(|(user, one)| (user.clone(), one.clone())).collect()
}

impl Cluster {
    /// Whether this user may change what makes Tagout work, read live. What runs in Tagout's own namespace was put there
    /// by who may.
    pub async fn is_unlocked_for(&self, user: &str) -> bool {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let (Ok((granted, _)), Ok(shared), Ok(loaded)) = (
            read_granted(&self.client, &self.own_namespace).await,
            configurations.get_metadata(SHARED).await,
            self.rules.current(),
        ) else {
            return false;
        };
        let subject = guards_own(shared.metadata.uid.unwrap_or_default());
        let Ok(said) = self.approval(Action::Unlock, &subject).await else { return false };
        let granted = still_granted(&granted, &said, &loaded.rules, self.clock.here());
        let own = user.starts_with(&format!("system:serviceaccount:{}:", self.own_namespace));
        granted.values().any(|unlocked| own || unlocked.requester == user)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::*;
    use crate::guard::Team;

    const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

    fn statement(change: &Value) -> Statement {
        let mut statement = json!({"action": "Unlock", "uid": "u", "resource": "configurations.g", "name": "tagout",
            "cluster": "c", "approver": "alice", "team": "sre", "requester": "ci",
            "approvedAt": NOW, "expires": NOW + SignedDuration::from_mins(20)});
        for (key, value) in change.as_object().expect("fields") {
            statement[key] = value.clone();
        }
        serde_json::from_value(statement).expect("a statement")
    }

    fn granted(by: &Statement) -> Unlocked {
        Unlocked {
            requester: "ci".to_owned(),
            approvers: vec!["alice".to_owned()],
            broke_glass: false,
            until: by.expires,
            statements: vec![by.hash().expect("a hash")],
        }
    }

    fn left(user: &str, one: Unlocked, said: &[Statement], revoked: &[String]) -> bool {
        let revoked: Vec<_> = revoked.iter().map(|hash| json!({"statement": hash, "until": NOW})).collect();
        let team = serde_json::from_value(json!({"members": [], "revoked": revoked})).expect("a team");
        let rules = Rules { teams: [("sre".to_owned(), Team::read(team))].into(), ..Rules::default() };
        !still_granted(&[(user.to_owned(), one)].into(), said, &rules, NOW).is_empty()
    }

    #[test]
    fn what_was_granted_lasts_as_long_as_what_people_said_stands() {
        let by = statement(&json!({}));
        assert!(left("ci", granted(&by), std::slice::from_ref(&by), &[]));
        assert!(!left("ci", granted(&by), &[], &[]), "it was taken away");
        let revoked = by.hash().expect("a hash");
        assert!(!left("ci", granted(&by), std::slice::from_ref(&by), &[revoked]), "it was revoked");
        let over = Unlocked { until: NOW, ..granted(&by) };
        assert!(!left("ci", over, &[by], &[]), "it is over");
    }

    #[test]
    fn a_grant_that_was_written_by_other_hands_is_none() {
        let by = statement(&json!({}));
        let said = std::slice::from_ref(&by);
        let forged = [
            ("agent", granted(&by)),
            ("agent", Unlocked { requester: "agent".to_owned(), ..granted(&by) }),
            ("ci", Unlocked { statements: Vec::new(), ..granted(&by) }),
            ("ci", Unlocked { statements: vec!["sha256:00".to_owned()], ..granted(&by) }),
            ("ci", Unlocked { until: by.expires + SignedDuration::from_secs(1), ..granted(&by) }),
        ];
        for (user, one) in forged {
            assert!(!left(user, one.clone(), said, &[]), "{user}: {one:?}");
        }
        let long = statement(&json!({"expires": NOW + SignedDuration::from_hours(2)}));
        assert!(!left("ci", granted(&long), std::slice::from_ref(&long), &[]), "nobody unlocks for two hours");
    }
}
