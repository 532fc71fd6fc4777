//! What was destroyed, as the records of deletions tell of it.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client};

use super::cluster::plain;
use super::kinds::Kind;
use super::object::LiveObject;
use super::words::moment;
use crate::api::{Deletion, DeletionRecord, DeletionRecordSpec, quoted, record_name};

/// What was last destroyed under a name.
#[derive(Debug)]
pub struct Gone {
    /// As it was then.
    pub object: LiveObject,
    pub deletion: Deletion,
}

/// Records are small, but for the UIDs of what went along.
const PAGE: u32 = 100;

impl Gone {
    /// What may be asked to return under a name. An error where there is nothing to ask.
    pub async fn find(client: &Client, kind: &Kind, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let namespace = if kind.namespaced { namespace } else { "" };
        // Who approves need not be allowed to read it: then the record alone tells.
        if let Ok(Some(object)) = LiveObject::find(client, kind.clone(), namespace, name).await {
            ensure!(
                object.is_terminating(),
                "nothing to approve: {object} is there (UID {}), so nothing has to return; without --action=Recreate its \
                 deletion is approved",
                object.uid()
            );
        }
        if let Some(gone) = Self::recorded(client, kind, namespace, name).await? {
            return Ok(gone);
        }
        let place = if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace:?}") };
        bail!(
            "nothing to approve: nothing named {} {name:?}{place} was destroyed that rules remember, so it may simply be \
             made; kubectl tagout get history lists what was destroyed",
            kind.name()
        )
    }

    /// What is written down of a name, if anything is.
    pub async fn recorded(client: &Client, kind: &Kind, namespace: &str, name: &str) -> anyhow::Result<Option<Self>> {
        let records: Api<DeserializeGuard<DeletionRecord>> = Api::all(client.clone());
        let found = match records.get_opt(&record_name(&kind.name(), namespace, name)).await {
            Err(kube::Error::Api(status)) if status.is_forbidden() => bail!(
                "{}\nWhat was destroyed stands in DeletionRecords: ask an administrator for the right to get \
                 deletionrecords.tagout.dev",
                status.message
            ),
            found => found.map_err(plain)?,
        };
        match found {
            None => Ok(None),
            Some(DeserializeGuard(Ok(record))) => Ok(Self::of(kind.clone(), record.spec)),
            Some(DeserializeGuard(Err(_))) => bail!(
                "what was destroyed as {} {name:?} is written down in a way that this kubectl-tagout does not know; use \
                 the version that is installed in the cluster",
                kind.name()
            ),
        }
    }

    pub fn of(kind: Kind, record: DeletionRecordSpec) -> Option<Self> {
        let DeletionRecordSpec { namespace, name, deletions, .. } = record;
        let deletion = deletions.into_iter().next()?;
        let owners = deletion.owners.iter().map(|owner| OwnerReference {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: Some(owner.controller),
            block_owner_deletion: None,
        });
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: Some(namespace).filter(|namespace| !namespace.is_empty()),
            uid: Some(deletion.uid.clone()),
            creation_timestamp: deletion.created.map(Time),
            labels: Some(deletion.labels.clone()),
            owner_references: Some(owners.collect()),
            ..ObjectMeta::default()
        };
        Some(Self { object: LiveObject { kind, metadata }, deletion })
    }
}

/// Every record, and the names of those that cannot be read.
pub async fn records(client: &Client) -> anyhow::Result<(Vec<DeletionRecord>, Vec<String>)> {
    let records: Api<DeserializeGuard<DeletionRecord>> = Api::all(client.clone());
    let mut list = ListParams::default().limit(PAGE);
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    loop {
        let page = records.list(&list).await.map_err(plain)?;
        let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        for record in page {
            match record.0 {
                Ok(record) => read.push(record),
                Err(broken) => unread.push(broken.metadata.name.unwrap_or_default()),
            }
        }
        match next {
            Some(token) => list.continue_token = Some(token),
            None => return Ok((read, unread)),
        }
    }
}

/// The people on whose word it went, each once.
pub fn approvers(deletion: &Deletion) -> Vec<&str> {
    let mut approvers: Vec<&str> = Vec::new();
    for statement in &deletion.statements {
        if !approvers.contains(&statement.approver.as_str()) {
            approvers.push(&statement.approver);
        }
    }
    approvers
}

/// Whether somebody approved that it goes for good.
pub fn is_for_good(deletion: &Deletion) -> bool {
    deletion.statements.iter().any(|statement| statement.delete_only)
}

/// `2026-11-21T08:00:00Z (2h ago) by "agent-7", approved by "alice@example.com"`
pub fn words(deletion: &Deletion, now: Timestamp) -> String {
    let all = |names: Vec<&str>| names.into_iter().map(quoted).collect::<Vec<_>>().join(", ");
    let requesters = all(deletion.requesters.iter().map(String::as_str).collect());
    let approvers = approvers(deletion);
    let approved = match (approvers.is_empty(), is_for_good(deletion)) {
        (true, _) => "which nobody approved".to_owned(),
        (false, false) => format!("approved by {}", all(approvers)),
        (false, true) => {
            let good = deletion.statements.iter().filter(|one| one.delete_only).map(|one| one.approver.as_str());
            let good: BTreeSet<&str> = good.collect();
            let others: Vec<_> = approvers.into_iter().filter(|approver| !good.contains(approver)).collect();
            let others = if others.is_empty() { String::new() } else { format!(", and by {}", all(others)) };
            let good = all(good.into_iter().collect());
            format!("approved by {good} for good, so that it does not return under its name{others}")
        }
    };
    format!("{} by {requesters}, {approved}", moment(deletion.at, now))
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Statement;
    use crate::cli::case::tests::deployment;
    use crate::cli::statements::tests::{NOW, statement};

    /// A record of `deployments.apps "api"`, which the agent had destroyed two hours ago.
    pub fn record(statements: &[Statement]) -> DeletionRecord {
        serde_json::from_value(json!({
            "apiVersion": "tagout.dev/v1alpha1", "kind": "DeletionRecord",
            "metadata": {"name": record_name("deployments.apps", "payments", "api")},
            "spec": {"resource": "deployments.apps", "apiVersion": "apps/v1", "namespace": "payments", "name": "api",
                "deletions": [{"uid": "uid-1", "created": "2026-11-20T10:00:00Z",
                    "at": NOW - jiff::SignedDuration::from_hours(2), "last": NOW, "requesters": ["agent-7"],
                    "rules": ["production"], "statements": statements, "protects": {"digest": "sha256:0"},
                    "radius": {"Pod": 3, "ReplicaSet": 1}, "volumes": 2, "labels": {"app": "api"},
                    "owners": [{"apiVersion": "v1", "kind": "App", "name": "shop", "uid": "uid-9", "controller": true}]
                }]},
        }))
        .unwrap()
    }

    pub fn gone(statements: &[Statement]) -> Gone {
        Gone::of(deployment().kind, record(statements).spec).unwrap()
    }

    #[test]
    fn what_was_destroyed_is_as_it_was_then() {
        let Gone { object, deletion } = gone(&[]);
        assert_eq!(object.to_string(), r#"deployments.apps "api" in "payments""#);
        assert_eq!((object.uid(), object.labels()["app"].as_str()), ("uid-1", "api"));
        assert_eq!(object.owners()[0].uid, "uid-9");
        assert_eq!(deletion.rules, ["production"]);
    }

    #[test]
    fn of_several_deletions_the_newest_is_meant() {
        let mut record = record(&[]).spec;
        let old = Deletion { uid: "uid-0".into(), ..record.deletions[0].clone() };
        record.deletions.push(old);
        assert_eq!(Gone::of(deployment().kind, record).unwrap().object.uid(), "uid-1");
    }

    #[test]
    fn who_destroyed_it_and_on_whose_word_is_said_in_one_line() {
        let said = |statements: &[Statement]| words(&gone(statements).deletion, NOW);
        assert_eq!(said(&[]), r#"2026-11-21T08:00:00Z (2h ago) by "agent-7", which nobody approved"#);
        let twice = [statement("alice", "sre"), statement("alice", "dba"), statement("bob", "dba")];
        assert!(said(&twice).ends_with(r#"approved by "alice", "bob""#), "{}", said(&twice));
        let good = Statement { delete_only: true, ..statement("alice", "sre") };
        assert!(
            said(std::slice::from_ref(&good))
                .ends_with(r#"by "alice" for good, so that it does not return under its name"#)
        );
        assert!(said(&[good, statement("bob", "dba")]).ends_with(r#"under its name, and by "bob""#));
    }
}
