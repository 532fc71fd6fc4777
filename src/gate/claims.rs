//! Claims that would look like those of pods' ephemeral volumes, which no rule keeps.

use std::collections::BTreeMap;

use super::{Gate, Unanswered, convert};
use crate::api::printable;
use crate::guard::{Rule, Verdict, becomes_ephemeral};
use crate::review::{Answer, Cause, Denied, OWNERS, Object, RawRequest};
use crate::telemetry::Decided;

const REASON: &str =
    "with a pod as its controller the garbage collector would delete this claim. Leave ownerReferences as they are";

impl Gate {
    /// A call of the entry that sees claims getting a pod as their controller.
    /// Nothing where it is another update.
    pub(super) fn decide_claim(
        &self,
        rule: &Rule,
        review: &RawRequest,
        old: &Object,
        new: &Object,
    ) -> Result<Option<Vec<u8>>, Unanswered> {
        let subject = convert::subject(&review.resource, &new.metadata)?;
        let (before, after) = (convert::owners(&old.metadata), convert::owners(&new.metadata));
        // Of a long list only the beginning is known, and the API server has seen a pod somewhere in it.
        let becomes = after.len() > OWNERS || becomes_ephemeral(&subject, &before, &after);
        if !becomes {
            return Ok(None);
        }
        let verdict = Verdict::from(rule.mode);
        Decided {
            request: String::new(),
            rule: &rule.name,
            resource_label: super::label(&[rule], &subject),
            action: "Reparent",
            kind: subject.kind(),
            namespace: &subject.namespace,
            name: &subject.name,
            uid: &subject.uid,
            requester: &review.user_info.username,
            verdict,
            because: "a pod would control the claim".to_owned(),
            broke_glass: &[],
            dry_run: review.dry_run,
        }
        .emit(&self.telemetry);
        let what = printable(&format!("{} {:?} (rule {}): {REASON}", subject.kind(), subject.name, rule.name));
        let answer = Answer {
            uid: &review.uid,
            warnings: (verdict == Verdict::Warn)
                .then(|| format!("tagout: would be denied in mode Enforce: update of {what}"))
                .into_iter()
                .collect(),
            denied: (verdict == Verdict::Deny).then(|| Denied {
                message: format!("tagout: denied update of {what}"),
                group: &review.resource.group,
                resource: &review.resource.resource,
                name: &subject.name,
                object_uid: &subject.uid,
                causes: vec![Cause { reason: "WouldBeCollected", message: REASON.to_owned() }],
            }),
            audit: BTreeMap::from([("verdict", verdict.as_str().to_owned())]),
        };
        Ok(Some(answer.to_json()))
    }
}
