use anyhow::{Context, anyhow, bail, ensure};
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, Status};
use serde_json::json;

use crate::api::{
    APPROVAL, APPROVAL_MANAGER, Approval, MAX_STATEMENT_BYTES, MAX_STATEMENTS, Statement, read_statements,
};
use crate::cli::cluster::plain;
use crate::cli::object::LiveObject;
use crate::cli::said::{self, Place};
use crate::cli::statements::{kept, may_count, with};

/// Where a statement was written, and all that stands there now.
#[derive(Debug)]
pub struct Written {
    pub place: Place,
    pub statements: Vec<Statement>,
}

/// Why nothing was written.
#[derive(Debug)]
pub enum NotWritten {
    /// The caller may not write to the object; an `Approval` can stand beside it.
    MayNot(String),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for NotWritten {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Controllers write status while a person reads; three misses in a row mean something else is going on.
pub const ATTEMPTS: u32 = 3;

/// Writes the statement on the object, if that is still what was shown.
pub async fn on_object(client: &Client, shown: &LiveObject, statement: &Statement) -> Result<Written, NotWritten> {
    let api = shown.api(client);
    let mut object = shown.clone();
    for _ in 0..ATTEMPTS {
        let before = kept(object.annotation(), object.is_presenting(), object.uid(), statement.approved_at);
        let statements = with(before, statement.clone());
        let annotation = annotation(&statements)?;
        let patch = json!({"metadata": {
            "uid": object.uid(),
            "resourceVersion": object.metadata.resource_version,
            "labels": {APPROVAL: "true"},
            "annotations": {APPROVAL: annotation},
        }});
        match api.patch_metadata(shown.name(), &manager(), &Patch::Merge(patch)).await {
            Ok(stored) => {
                let stored = stored.metadata.annotations.as_ref().and_then(|all| all.get(APPROVAL));
                is_what_was_sent(
                    shown,
                    &stored.map(|text| read_statements(text).readable).unwrap_or_default(),
                    &statements,
                )?;
                return Ok(Written { place: Place::Object, statements });
            }
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if may_not(&status) => return Err(NotWritten::MayNot(status.message)),
            Err(kube::Error::Api(status)) => return Err(refused(&status, shown).into()),
            Err(error) => return Err(plain(error).into()),
        }
        object = match shown.read_again(client).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                return Err(anyhow!("{shown} is gone; nothing was written").into());
            }
            again => again.map_err(plain)?,
        };
        is_still_what_was_shown(shown, &object)?;
    }
    Err(anyhow!("{shown} changes all the time; nothing was written, try again").into())
}

/// Writes the statement on the `Approval` for the object, beside what others have said there.
pub async fn beside(client: &Client, shown: &LiveObject, statement: &Statement) -> anyhow::Result<Written> {
    let api = said::approvals(client);
    let name = statement.approval_name();
    for _ in 0..ATTEMPTS {
        let found = said::read(client, &name).await.map_err(plain)?;
        let mut before = found.as_ref().map(said::statements).unwrap_or_default();
        before.retain(|one| one.expires > statement.approved_at && may_count(one));
        let statements = with(before, statement.clone());
        // The same bounds, so that everything that is written is read.
        annotation(&statements)?;
        let spec = json!({"spec": {"statements": statements}});
        let outcome = if let Some(found) = found {
            let mut patch = spec;
            let (uid, version) = (found.metadata.uid, found.metadata.resource_version);
            patch["metadata"] = json!({"uid": uid, "resourceVersion": version});
            api.patch(&name, &manager(), &Patch::Merge(patch)).await
        } else {
            let object = DynamicObject::new(&name, &ApiResource::erase::<Approval>(&())).data(spec);
            let create = PostParams { field_manager: Some(APPROVAL_MANAGER.to_owned()), ..PostParams::default() };
            api.create(&create, &object).await
        };
        match outcome {
            Ok(stored) => {
                is_what_was_sent(shown, &said::statements(&stored), &statements)?;
                return Ok(Written { place: Place::Approval, statements });
            }
            // Somebody else wrote it, made it or took it away at the same time.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(kube::Error::Api(status)) if may_not(&status) => bail!(
                "{}\nTo approve {shown} beside it you must be able to get, create and patch approvals.tagout.dev: ask an \
                 administrator",
                status.message
            ),
            Err(kube::Error::Api(status)) => return Err(refused(&status, shown)),
            Err(error) => return Err(plain(error)),
        }
    }
    bail!("Approval {name} changes all the time; nothing was written, try again")
}

/// Policies and webhooks that mutate act in the name of whoever writes, and nobody can watch them from inside.
fn is_what_was_sent(shown: &LiveObject, stored: &[Statement], sent: &[Statement]) -> anyhow::Result<()> {
    ensure!(
        stored == sent,
        "something in this cluster changed your approval of {shown} as it was written, and what stands there now is not \
         what you said: take it back with kubectl tagout revoke, and tell an administrator to look at the cluster's \
         mutating webhooks and policies"
    );
    Ok(())
}

pub fn manager() -> PatchParams {
    PatchParams { field_manager: Some(APPROVAL_MANAGER.to_owned()), ..PatchParams::default() }
}

/// The value of the annotation.
pub fn annotation(statements: &[Statement]) -> anyhow::Result<String> {
    let text = serde_json::to_string(statements).context("cannot write the approval")?;
    ensure!(
        statements.len() <= MAX_STATEMENTS && text.len() <= MAX_STATEMENT_BYTES,
        "there are too many approvals on it already, or --reason is too long (together at most {MAX_STATEMENTS} \
         approvals and {MAX_STATEMENT_BYTES} bytes)"
    );
    Ok(text)
}

/// Whether it was access control that said no, not Tagout or another webhook.
pub fn may_not(status: &Status) -> bool {
    status.is_forbidden()
        && !status.message.contains("admission webhook")
        && !status.message.contains("calling webhook")
}

fn is_still_what_was_shown(shown: &LiveObject, object: &LiveObject) -> anyhow::Result<()> {
    ensure!(
        shown.uid() == object.uid(),
        "{shown} was made anew while you looked at it (UID {} now); nothing was written, look again",
        object.uid()
    );
    ensure!(!object.is_terminating(), "{object} is being deleted by now; nothing was written");
    let labels = |object: &LiveObject| {
        let mut labels = object.labels().into_owned();
        labels.remove(APPROVAL);
        labels
    };
    ensure!(
        labels(shown) == labels(object),
        "the labels of {shown} changed while you looked at it; nothing was written, look again"
    );
    Ok(())
}

/// Who said no, and what can be done.
fn refused(status: &Status, object: &LiveObject) -> anyhow::Error {
    let words = &status.message;
    if let Some((_, reason)) =
        words.split_once("admission webhook ").and_then(|(_, rest)| rest.split_once("denied the request: "))
    {
        return anyhow!("not approved: {reason}");
    }
    if words.contains("failed calling webhook") {
        return anyhow!("not approved: Tagout, which checks approvals, did not answer ({words}); try again");
    }
    if status.is_not_found() {
        return anyhow!("{object} is gone; nothing was written");
    }
    anyhow!("not approved: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::case::tests::deployment;
    use crate::cli::statements::tests::statement;

    fn status(code: u16, reason: &str, message: &str) -> Status {
        Status { code, reason: reason.into(), message: message.into(), ..Status::default() }
    }

    #[test]
    fn a_refusal_by_tagout_is_said_in_its_own_words() {
        let words = r#"admission webhook "approvals.tagout.dev" denied the request: you are not in team sre"#;
        let said = refused(&status(403, "Forbidden", words), &deployment()).to_string();
        assert_eq!(said, "not approved: you are not in team sre");
    }

    #[test]
    fn only_what_access_control_refuses_is_written_beside_the_object() {
        let words = r#"deployments.apps "api" is forbidden: User "alice" cannot patch resource "deployments""#;
        assert!(may_not(&status(403, "Forbidden", words)));
        let words = r#"admission webhook "approvals.tagout.dev" denied the request: you are not in team sre"#;
        assert!(!may_not(&status(403, "Forbidden", words)));
        assert!(!may_not(&status(409, "Conflict", "the object has been modified")));
    }

    #[test]
    fn an_object_that_changed_under_the_question_is_not_approved() {
        let shown = deployment();
        let changed = |change: &dyn Fn(&mut LiveObject)| {
            let mut object = deployment();
            change(&mut object);
            is_still_what_was_shown(&shown, &object)
        };
        assert!(changed(&|_| {}).is_ok());
        assert!(changed(&|object| object.metadata.uid = Some("uid-2".into())).is_err());
        assert!(changed(&|object| object.metadata.labels = None).is_err());
        let approved = |object: &mut LiveObject| {
            object.metadata.labels.get_or_insert_default().insert(APPROVAL.into(), "true".into());
        };
        assert!(changed(&approved).is_ok());
    }

    #[test]
    fn an_approval_that_nobody_would_read_is_not_written() {
        assert!(annotation(&vec![statement("alice", "sre"); 65]).is_err());
        let long = Statement { reason: Some("x".repeat(MAX_STATEMENT_BYTES)), ..statement("alice", "sre") };
        assert!(annotation(&[long]).is_err());
    }
}
