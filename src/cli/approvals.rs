//! What is approved now: every statement that an object presents, or that stands in an `Approval`.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::cluster::{Protection, Setting, plain};
use super::connection::Cluster;
use super::kinds::{Kind, Kinds};
use super::said;
use super::words::{moment, table};
use crate::api::{APPROVAL, Action, GROUP, Scope, Statement, kind_name, read_statements};
use crate::guard::{CLOCK_SKEW, Rule, Rules, Signed};

/// One statement that stands somewhere, or an object whose statements cannot be read.
#[derive(Serialize, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct OpenApproval {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub action: Option<Action>,
    /// Whether it is about what is in a Namespace.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub contents: bool,
    pub approver: Option<String>,
    pub team: Option<String>,
    /// Absent: anyone.
    pub requester: Option<String>,
    pub reason: Option<String>,
    pub expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// Whether it is for good: then what goes may not return under its name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub delete_only: bool,
    /// The fingerprint of the key that signed it; absent: the API server knew its author.
    pub key: Option<String>,
    /// By which it can be revoked.
    pub hash: Option<String>,
    /// The Approval it stands in; absent: the object itself.
    pub approval: Option<String>,
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

pub async fn open(at: &Cluster, setting: &Setting) -> (Vec<OpenApproval>, Vec<Unlisted>) {
    let Setting { kinds, protection, now, .. } = setting;
    let (served, mut unlisted) = looked_at(kinds, &protection.rules);
    let mut approvals = Vec::new();
    let mut lists =
        stream::iter(served).map(|kind| async move { (kind, presenting(at, kind).await) }).buffered(LISTS_AT_ONCE);
    while let Some((kind, list)) = lists.next().await {
        match list {
            Ok(objects) => {
                approvals.extend(objects.iter().flat_map(|object| read(&kind.name(), object, protection, *now)));
            }
            Err(error) => unlisted.push(Unlisted { kind: kind.name(), reason: plain(error).to_string() }),
        }
    }
    match said::approvals(&at.client).list(&ListParams::default()).await {
        Ok(list) => {
            let all = list.items.iter().flat_map(|approval| read_approval(approval, protection, *now));
            approvals.extend(all.filter(|one| {
                let inside = one.namespace == at.namespace || (one.kind == "namespaces" && one.name == at.namespace);
                !at.namespace_given || inside
            }));
        }
        Err(error) => {
            unlisted.push(Unlisted { kind: kind_name(GROUP, "approvals"), reason: plain(error).to_string() });
        }
    }
    approvals.sort();
    (approvals, unlisted)
}

/// The columns that people read.
pub fn rows(approvals: &[OpenApproval], now: Timestamp) -> String {
    let header = ["KIND", "NAMESPACE", "NAME", "ACTION", "APPROVER", "TEAM", "FOR", "UNTIL", "PROOF", "REMARK"];
    table(header, approvals.iter().map(|approval| approval.row(now)))
}

/// And those that only some do.
pub fn wide_rows(approvals: &[OpenApproval], now: Timestamp) -> String {
    let header = [
        "KIND",
        "NAMESPACE",
        "NAME",
        "ACTION",
        "APPROVER",
        "TEAM",
        "FOR",
        "UNTIL",
        "PROOF",
        "REMARK",
        "KEY",
        "HASH",
        "APPROVAL",
        "REASON",
    ];
    let rows = approvals.iter().map(|approval| {
        let [kind, namespace, name, action, approver, team, requester, until, proof, remark] = approval.row(now);
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let OpenApproval { key, hash, approval, reason, .. } = approval;
        [
            kind,
            namespace,
            name,
            action,
            approver,
            team,
            requester,
            until,
            proof,
            remark,
            or(key),
            or(hash),
            or(approval),
            or(reason),
        ]
    });
    table(header, rows)
}

impl OpenApproval {
    fn row(&self, now: Timestamp) -> [String; 10] {
        let or = |text: Option<&str>, otherwise: &str| text.unwrap_or(otherwise).to_owned();
        let read = self.approver.is_some();
        let remark = match (self.contents, self.delete_only) {
            (false, false) => "",
            (true, false) => " (contents)",
            (false, true) => " (for good)",
            (true, true) => " (contents, for good)",
        };
        let action = or(self.action.map(Action::as_str), "-") + remark;
        let proof = if self.key.is_some() { "signature" } else { "identity" };
        let proof = if self.break_glass { format!("{proof}, breaks glass") } else { proof.to_owned() };
        [
            self.kind.clone(),
            or(Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty()), "-"),
            self.name.clone(),
            action,
            or(self.approver.as_deref(), "-"),
            or(self.team.as_deref(), "-"),
            or(self.requester.as_deref(), if read { "anyone" } else { "-" }),
            self.expires.map_or_else(|| "-".to_owned(), |expires| moment(expires, now)),
            if read { proof } else { "-".to_owned() },
            or(self.remark.as_deref(), ""),
        ]
    }
}

/// The kinds that rules name, those that are guarded always, and Namespaces, which say what is approved in them.
fn looked_at<'k>(kinds: &'k Kinds, rules: &Rules) -> (Vec<&'k Kind>, Vec<Unlisted>) {
    let always = [("", "namespaces"), (GROUP, "protectionrules"), (GROUP, "approverteams")];
    let named: BTreeSet<_> = rules.rules.values().flatten().flat_map(Rule::kinds).chain(always).collect();
    let (mut served, mut unlisted) = (Vec::new(), Vec::new());
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
    (served, unlisted)
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

fn read(kind: &str, object: &ObjectMeta, protection: &Protection, now: Timestamp) -> Vec<OpenApproval> {
    let bare = |remark: &str| OpenApproval {
        kind: kind.to_owned(),
        namespace: object.namespace.clone().unwrap_or_default(),
        name: object.name.clone().unwrap_or_default(),
        remark: Some(remark.to_owned()),
        ..OpenApproval::default()
    };
    let annotation = object.annotations.as_ref().and_then(|annotations| annotations.get(APPROVAL));
    let Some(annotation) = annotation else {
        return vec![bare("it has the label and no approval")];
    };
    let read = read_statements(annotation);
    let said = read.readable.into_iter().map(|statement| {
        let same = statement.resource == kind
            && statement.namespace == object.namespace.as_deref().unwrap_or_default()
            && Some(&statement.name) == object.name.as_ref()
            && Some(&statement.uid) == object.uid.as_ref();
        let remark = if same {
            let going = object.deletion_timestamp.is_some().then(|| "being deleted".to_owned());
            remark(&statement, protection, now).or(going)
        } else {
            Some("for another object".to_owned())
        };
        // Where it stands is what a person looks for, not what it claims to be about.
        OpenApproval { remark, ..bare("") }.with(statement)
    });
    said.chain(read.error.map(|error| bare(&error.to_string()))).collect()
}

fn read_approval(approval: &DynamicObject, protection: &Protection, now: Timestamp) -> Vec<OpenApproval> {
    let own = approval.name_any();
    let read = |statement: Statement| {
        let other = (statement.approval_name() != own).then(|| "in the Approval for another object".to_owned());
        OpenApproval {
            kind: statement.resource.clone(),
            namespace: statement.namespace.clone(),
            name: statement.name.clone(),
            approval: Some(own.clone()),
            remark: other.or_else(|| remark(&statement, protection, now)),
            ..OpenApproval::default()
        }
        .with(statement)
    };
    said::statements(approval).into_iter().map(read).collect()
}

impl OpenApproval {
    /// With what a statement says.
    fn with(self, statement: Statement) -> Self {
        let signed = statement.signature.as_deref().map(Signed::read);
        let key = signed.map(|signed| match signed.map(|signed| signed.key()) {
            Ok(Ok(key)) => key.fingerprint(),
            _ => "unreadable".to_owned(),
        });
        Self {
            hash: statement.hash().ok(),
            key,
            action: Some(statement.action),
            contents: statement.scope == Scope::Contents,
            approver: Some(statement.approver),
            team: Some(statement.team),
            requester: statement.requester,
            reason: statement.reason,
            expires: Some(statement.expires),
            break_glass: statement.break_glass,
            delete_only: statement.delete_only,
            ..self
        }
    }
}

/// What makes the statement void whatever a rule says of it.
fn remark(statement: &Statement, protection: &Protection, now: Timestamp) -> Option<String> {
    let Protection { rules, epoch, .. } = protection;
    let asked = rules.rules.values().flatten().flat_map(Rule::teams).any(|team| team == statement.team);
    let team = rules.teams.get(&statement.team);
    let hash = statement.hash().ok();
    let revoked = team.is_some_and(|team| team.spec.revoked.iter().any(|one| Some(&one.statement) == hash.as_ref()));
    let words = if !rules.cluster.is_empty() && statement.cluster != rules.cluster {
        "given in another cluster"
    } else if statement.expires <= now {
        // Such a statement may be written by anyone.
        "expired, not checked"
    } else if statement.approved_at.duration_since(now) > CLOCK_SKEW {
        "dated in the future"
    } else if hash.is_none() {
        "it cannot be shown as it is"
    } else if revoked {
        "revoked"
    } else if statement.signature.is_none() && (epoch.is_none() || statement.epoch != *epoch) {
        "given before a time at which anybody could have written it"
    } else if !asked {
        "its team is asked by no rule"
    } else {
        return None;
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::case::tests::setting;
    use crate::cli::statements::tests::{NOW, statement};

    fn object(annotation: &str) -> ObjectMeta {
        serde_json::from_value(json!({"name": "api", "namespace": "payments", "uid": "uid-1",
            "labels": {APPROVAL: "true"}, "annotations": {APPROVAL: annotation}}))
        .unwrap()
    }

    fn remark_on(change: impl Fn(&mut Statement)) -> Option<String> {
        let mut one = statement("alice", "sre");
        change(&mut one);
        let object = object(&serde_json::to_string(&[one]).unwrap());
        read("deployments.apps", &object, &setting(&json!([{"anyOf": ["sre"]}])).protection, NOW).remove(0).remark
    }

    #[test]
    fn what_counts_has_no_remark_and_what_does_not_says_why() {
        assert_eq!(remark_on(|_| {}), None);
        assert_eq!(remark_on(|one| one.team = "robots".into()).as_deref(), Some("its team is asked by no rule"));
        assert_eq!(remark_on(|one| one.expires = NOW).as_deref(), Some("expired, not checked"));
        assert_eq!(remark_on(|one| one.uid = "uid-0".into()).as_deref(), Some("for another object"));
        assert_eq!(remark_on(|one| one.name = "web".into()).as_deref(), Some("for another object"));
        assert_eq!(
            remark_on(|one| one.epoch = None).as_deref(),
            Some("given before a time at which anybody could have written it")
        );
        assert_eq!(remark_on(|one| one.cluster = "other".into()).as_deref(), Some("given in another cluster"));
    }

    #[test]
    fn what_goes_for_good_says_so() {
        let good = Statement { delete_only: true, ..statement("alice", "sre") };
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let object = object(&serde_json::to_string(&[good]).unwrap());
        let read = read("deployments.apps", &object, &setting.protection, NOW);
        assert!(rows(&read, NOW).contains("Delete (for good)"));
        assert_eq!(serde_json::to_value(&read).unwrap()[0]["deleteOnly"], true);
    }

    #[test]
    fn an_object_whose_approval_cannot_be_read_is_listed_with_the_reason() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let read = read("deployments.apps", &object("[{"), &setting.protection, NOW);
        assert_eq!(read.len(), 1);
        assert!(read[0].remark.as_ref().unwrap().contains("not a list of statements"));
    }

    #[test]
    fn what_stands_in_an_approval_is_listed_under_the_object_that_it_is_about() {
        let one = statement("alice", "sre");
        let approval = |name: &str| {
            let list = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "Approval", "metadata": {"name": name},
                "spec": {"statements": [one.clone(), {"unreadable": true}]}});
            let setting = setting(&json!([{"anyOf": ["sre"]}]));
            read_approval(&serde_json::from_value(list).unwrap(), &setting.protection, NOW)
        };
        let read = approval(&one.approval_name());
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].name.as_str(), &read[0].remark, &read[0].hash), ("api", &None, &one.hash().ok()));
        assert_eq!(approval("delete-0").remove(0).remark.as_deref(), Some("in the Approval for another object"));
    }
}
