use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::ListParams;
use kube::core::DynamicObject;
use serde::Serialize;

use crate::api::{APPROVAL, Action, Statement, kind_name, read_statements};
use crate::cli::cluster::plain;
use crate::cli::connection::Cluster;
use crate::cli::kinds::{Kind, Kinds};
use crate::guard::{CLOCK_SKEW, Rule, Rules};

/// One statement that an object presents, or an object whose statements cannot be read.
#[derive(Serialize, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct OpenApproval {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub action: Option<Action>,
    pub approver: Option<String>,
    pub team: Option<String>,
    /// Absent: anyone.
    pub requester: Option<String>,
    pub reason: Option<String>,
    pub expires: Option<Timestamp>,
    /// Why it does not count.
    pub remark: Option<String>,
}

/// A kind whose approvals cannot be told.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct Unlisted {
    pub kind: String,
    pub reason: String,
}

/// Enough to hide the round trips, too few to be noticed by the API server.
const LISTS_AT_ONCE: usize = 8;

pub async fn open(at: &Cluster, kinds: &Kinds, rules: &Rules, now: Timestamp) -> (Vec<OpenApproval>, Vec<Unlisted>) {
    let (mut approvals, mut unlisted) = (Vec::new(), Vec::new());
    let mut served = Vec::new();
    let named: BTreeSet<_> = rules.rules.values().flatten().flat_map(Rule::kinds).collect();
    for (group, plural) in named {
        let found = kinds.named(group, plural);
        if found.is_empty() {
            let kind = kind_name(group, plural);
            unlisted.push(Unlisted { kind, reason: "a rule names it, and the cluster has no such kind".to_owned() });
        }
        for kind in found {
            if !served.contains(&kind) {
                served.push(kind);
            }
        }
    }
    let mut lists =
        stream::iter(served).map(|kind| async move { (kind, presenting(at, kind).await) }).buffered(LISTS_AT_ONCE);
    while let Some((kind, list)) = lists.next().await {
        match list {
            Ok(objects) => {
                approvals.extend(objects.iter().flat_map(|object| read(&kind.name(), object, rules, now)));
            }
            Err(error) => unlisted.push(Unlisted { kind: kind.name(), reason: plain(error).to_string() }),
        }
    }
    approvals.sort();
    (approvals, unlisted)
}

/// The objects of a kind that carry the label.
async fn presenting(at: &Cluster, kind: &Kind) -> kube::Result<Vec<ObjectMeta>> {
    let api: Api<DynamicObject> = match (at.namespace_given, kind.namespaced) {
        (true, true) => Api::namespaced_with(at.client.clone(), &at.namespace, &kind.resource),
        // Of what is in no namespace, only the namespace itself belongs to it.
        (true, false) if !kind.is_namespace() => return Ok(Vec::new()),
        _ => Api::all_with(at.client.clone(), &kind.resource),
    };
    let mut list = ListParams::default().labels(APPROVAL);
    if at.namespace_given && kind.is_namespace() {
        list = list.fields(&format!("metadata.name={}", at.namespace));
    }
    Ok(api.list_metadata(&list).await?.items.into_iter().map(|object| object.metadata).collect())
}

fn read(kind: &str, object: &ObjectMeta, rules: &Rules, now: Timestamp) -> Vec<OpenApproval> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let bare = |remark: &str| OpenApproval {
        kind: kind.to_owned(),
        namespace: text(&object.namespace),
        name: text(&object.name),
        action: None,
        approver: None,
        team: None,
        requester: None,
        reason: None,
        expires: None,
        remark: Some(remark.to_owned()),
    };
    let annotation = object.annotations.as_ref().and_then(|annotations| annotations.get(APPROVAL));
    let Some(annotation) = annotation else {
        return vec![bare("it has the label and no approval")];
    };
    match read_statements(annotation) {
        Err(error) => vec![bare(&error.to_string())],
        Ok(statements) => statements
            .into_iter()
            .map(|statement| OpenApproval {
                remark: remark(&statement, kind, object, rules, now),
                action: Some(statement.action),
                approver: Some(statement.approver),
                team: Some(statement.team),
                requester: statement.requester,
                reason: statement.reason,
                expires: Some(statement.expires),
                ..bare("")
            })
            .collect(),
    }
}

/// What makes the statement void whatever a rule says of it.
fn remark(statement: &Statement, kind: &str, object: &ObjectMeta, rules: &Rules, now: Timestamp) -> Option<String> {
    let cluster = &rules.cluster;
    let asked = rules.rules.values().flatten().flat_map(|rule| &rule.require).flat_map(|entry| &entry.any_of);
    let same = statement.resource == kind
        && statement.namespace == object.namespace.as_deref().unwrap_or_default()
        && Some(&statement.name) == object.name.as_ref();
    let words = if Some(&statement.uid) != object.uid.as_ref() || !same {
        "for another object"
    } else if !cluster.is_empty() && statement.cluster != *cluster {
        "given in another cluster"
    } else if statement.expires <= now {
        // Such a statement may be written by anyone.
        "expired, not checked"
    } else if statement.approved_at.duration_since(now) > CLOCK_SKEW {
        "dated in the future"
    } else if !asked.into_iter().any(|team| *team == statement.team) {
        "its team is asked by no rule"
    } else if object.deletion_timestamp.is_some() {
        "being deleted"
    } else {
        return None;
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::approve::case::tests::rules;
    use crate::cli::approve::statements::tests::{NOW, statement};

    fn object(annotation: &str) -> ObjectMeta {
        serde_json::from_value(json!({"name": "api", "namespace": "payments", "uid": "uid-1",
            "labels": {APPROVAL: "true"}, "annotations": {APPROVAL: annotation}}))
        .unwrap()
    }

    fn remark_on(change: impl Fn(&mut Statement)) -> Option<String> {
        let mut one = statement("alice", "sre");
        change(&mut one);
        let object = object(&serde_json::to_string(&[one]).unwrap());
        read("deployments.apps", &object, &rules(&json!([{"anyOf": ["sre"]}])), NOW).remove(0).remark
    }

    #[test]
    fn what_counts_has_no_remark_and_what_does_not_says_why() {
        assert_eq!(remark_on(|_| {}), None);
        assert_eq!(remark_on(|one| one.team = "robots".into()).as_deref(), Some("its team is asked by no rule"));
        assert_eq!(remark_on(|one| one.expires = NOW).as_deref(), Some("expired, not checked"));
        assert_eq!(remark_on(|one| one.uid = "uid-0".into()).as_deref(), Some("for another object"));
        assert_eq!(remark_on(|one| one.name = "web".into()).as_deref(), Some("for another object"));
        assert_eq!(remark_on(|one| one.cluster = "other".into()).as_deref(), Some("given in another cluster"));
    }

    #[test]
    fn an_object_whose_approval_cannot_be_read_is_listed_with_the_reason() {
        let read = read("deployments.apps", &object("[{"), &rules(&json!([{"anyOf": ["sre"]}])), NOW);
        assert_eq!(read.len(), 1);
        assert!(read[0].remark.as_ref().unwrap().contains("not a list of statements"));
    }
}
