use anyhow::{Context, anyhow, bail, ensure};
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::core::Status;
use serde_json::json;

use super::object::LiveObject;
use super::statements::{kept, with};
use crate::api::{APPROVAL, APPROVAL_MANAGER, MAX_STATEMENT_BYTES, MAX_STATEMENTS, Statement};
use crate::cli::cluster::plain;

/// Controllers write status while a person reads; three misses in a row mean something else is going on.
const ATTEMPTS: u32 = 3;

/// Writes the statement on the object, if that is still what was shown. Returns all that is written on it now.
pub async fn approve(client: &Client, shown: &LiveObject, statement: &Statement) -> anyhow::Result<Vec<Statement>> {
    let api = shown.api(client);
    let manager = PatchParams { field_manager: Some(APPROVAL_MANAGER.to_owned()), ..PatchParams::default() };
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
        match api.patch_metadata(shown.name(), &manager, &Patch::Merge(patch)).await {
            Ok(_) => return Ok(statements),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) => return Err(refused(&status, shown)),
            Err(error) => return Err(plain(error)),
        }
        object = match shown.read_again(client).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => bail!("{shown} is gone; nothing was written"),
            again => again.map_err(plain)?,
        };
        is_still_what_was_shown(shown, &object)?;
    }
    bail!("{shown} changes all the time; nothing was written, try again")
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

fn annotation(statements: &[Statement]) -> anyhow::Result<String> {
    let text = serde_json::to_string(statements).context("cannot write the approval")?;
    ensure!(
        statements.len() <= MAX_STATEMENTS && text.len() <= MAX_STATEMENT_BYTES,
        "there are too many approvals on it already, or --reason is too long (together at most {MAX_STATEMENTS} \
         approvals and {MAX_STATEMENT_BYTES} bytes)"
    );
    Ok(text)
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
    if status.is_forbidden() {
        let kind = object.kind.name();
        return anyhow!(
            "{words}\nTo approve you must be able to patch {kind}: ask an administrator for the verb patch on it, or a \
             colleague who has it to approve"
        );
    }
    if status.is_not_found() {
        return anyhow!("{object} is gone; nothing was written");
    }
    anyhow!("not approved: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::approve::case::tests::deployment;
    use crate::cli::approve::statements::tests::statement;

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
    fn who_may_not_patch_reads_what_to_ask_for() {
        let words = r#"deployments.apps "api" is forbidden: User "alice" cannot patch resource "deployments""#;
        let said = refused(&status(403, "Forbidden", words), &deployment()).to_string();
        assert!(said.starts_with(words) && said.contains("the verb patch"), "{said}");
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
