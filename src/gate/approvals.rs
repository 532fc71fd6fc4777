//! Writes after which statements stand somewhere: on an object, or in an `Approval`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Gate, Unanswered, convert};
use crate::api::{GROUP, Statement, StatementError, json_fault, printable};
use crate::guard::{Epoch, Place, Presenting, PresentingError, check_presented};
use crate::review::{self, Answer, Cause, Denial, Denied, Malformed, Object, Operation, RawRequest};
use crate::telemetry::Presented;

impl Gate {
    pub(super) async fn decide_approvals(&self, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let review: RawRequest = review::read(body)?;
        let new = convert::object(review.object.ok_or(Malformed::Missing("object"))?)?;
        let old = review.old_object.map(convert::object).transpose()?;
        let subject = convert::subject(&review.resource, &new.metadata)?;
        let place = if review.resource.group == GROUP && review.resource.resource == "approvals" {
            stored(&review)
        } else {
            let old = old.as_ref().ok_or(Malformed::Missing("oldObject"))?;
            Ok(on_object(&review, &new, old)?)
        };
        let (refused, statements) = match place {
            Err(error) => (Some(PresentingError::Unreadable(error)), Vec::new()),
            Ok(place) => {
                let field_manager = review.options.as_ref().map_or("", |options| &options.field_manager);
                let requester = convert::requester(&review.user_info);
                let write = Presenting { subject: subject.clone(), place, field_manager, requester };
                let now = self.cluster.clock.here();
                // Who is in a team is checked now and, for groups, never again.
                let unsigned = write.needs_epoch(now);
                let (loaded, epoch) = if unsigned {
                    (self.fresh().await?, self.live_epoch().await)
                } else {
                    (self.cluster.rules.current()?, Epoch::default())
                };
                let refused = check_presented(&write, &loaded.rules, &epoch, now).err();
                (refused, write.new_statements(now).unwrap_or_default())
            }
        };
        let refused = refused.map(|error| printable(&error.to_string()));
        Presented {
            kind: subject.kind(),
            namespace: &subject.namespace,
            name: &subject.name,
            uid: &subject.uid,
            approver: &review.user_info.username,
            statements: &statements,
            refused: refused.clone(),
            dry_run: review.dry_run,
        }
        .emit(&self.telemetry);
        let answer = Answer {
            uid: &review.uid,
            denied: refused.map(|reason| Denied {
                kind: Denial::Forbidden,
                message: format!(
                    "tagout: this approval of {} {:?} is not accepted: {reason}",
                    subject.kind(),
                    subject.name
                ),
                group: &review.resource.group,
                resource: &review.resource.resource,
                name: &subject.name,
                object_uid: &subject.uid,
                causes: vec![Cause { reason: "ApprovalNotAccepted", message: reason }],
            }),
            warnings: Vec::new(),
            audit: BTreeMap::new(),
        };
        Ok(answer.to_json())
    }

    async fn live_epoch(&self) -> Epoch {
        let _place = self.looking.acquire().await;
        self.cluster.epoch().await
    }
}

fn on_object<'a>(review: &'a RawRequest, new: &Object, old: &'a Object) -> Result<Place<'a>, Malformed> {
    if review.operation != Operation::Update {
        return Err(Malformed::OtherOperation("UPDATE"));
    }
    let (before, after) = (review.old_object, review.object);
    let compared = before.zip(after).ok_or(Malformed::Missing("object"))?;
    let other_changes =
        review::other_changes(compared.0, compared.1).map_err(|_| Malformed::Missing("object with metadata"))?;
    Ok(Place::OnObject {
        before: convert::presented_before(&old.metadata),
        subresource: &review.sub_resource,
        terminating: new.metadata.deletion_timestamp.is_some(),
        other_changes,
    })
}

/// What an `Approval` says and said.
fn stored<'a>(review: &'a RawRequest) -> Result<Place<'a>, StatementError> {
    // What cannot be read was never checked.
    let before = review.old_object.map(statements).and_then(Result::ok).unwrap_or_default();
    let now = review.object.map_or_else(|| Ok(Vec::new()), statements)?;
    Ok(Place::Approval { asked: &review.name, before, now })
}

fn statements(approval: &RawValue) -> Result<Vec<Statement>, StatementError> {
    #[derive(Deserialize)]
    struct Stored<'a> {
        #[serde(borrow)]
        spec: Spec<'a>,
    }
    #[derive(Deserialize)]
    struct Spec<'a> {
        #[serde(borrow)]
        statements: &'a RawValue,
    }
    let unreadable = |error: &serde_json::Error| StatementError::Unreadable(json_fault(error).to_owned());
    let stored: Stored = serde_json::from_str(approval.get()).map_err(|error| unreadable(&error))?;
    let read = crate::api::read_statements(stored.spec.statements.get());
    match read.error {
        Some(error) => Err(error),
        None => Ok(read.readable),
    }
}
