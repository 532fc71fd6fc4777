//! Claims that would look like those of pods' ephemeral volumes, which no rule keeps.

use super::{Gate, Unanswered, convert};
use crate::api::printable;
use crate::guard::{Rule, Verdict, becomes_ephemeral};
use crate::review::{Answer, Cause, Denial, Denied, OWNERS, Object, RawRequest};
use crate::telemetry::Unweighed;

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
        let (before, after) =
            (convert::owners(&old.metadata.owner_references), convert::owners(&new.metadata.owner_references));
        // Of a long list only the beginning is known, and the API server has seen a pod somewhere in it.
        let becomes = after.len() > OWNERS || becomes_ephemeral(&subject, &before, &after);
        if !becomes {
            return Ok(None);
        }
        let verdict = Verdict::from(rule.mode);
        let unweighed = Unweighed {
            rule: Some(rule),
            action: "Reparent",
            subject: &subject,
            requester: &review.user_info.username,
            verdict,
            because: "a pod would control the claim",
            dry_run: review.dry_run,
        };
        unweighed.emit(&self.telemetry);
        let what = printable(&format!("{} {:?} (rule {}): {REASON}", subject.kind(), subject.name, rule.name));
        let answer = Answer {
            uid: &review.uid,
            warnings: (verdict == Verdict::Warn)
                .then(|| format!("tagout: would be denied in mode Enforce: update of {what}"))
                .into_iter()
                .collect(),
            denied: (verdict == Verdict::Deny).then(|| Denied {
                kind: Denial::Forbidden,
                message: format!("tagout: denied update of {what}"),
                group: &review.resource.group,
                resource: &review.resource.resource,
                name: &subject.name,
                object_uid: &subject.uid,
                causes: vec![Cause { reason: "WouldBeCollected", message: REASON.to_owned() }],
            }),
            audit: unweighed.audit(),
        };
        Ok(Some(answer.to_json()))
    }
}
