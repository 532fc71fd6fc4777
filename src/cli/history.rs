//! `kubectl tagout get history`: who destroyed what, on whose approval.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;

use super::cluster::{self, Protection};
use super::connection::Cluster;
use super::gone::{self, approvers, is_for_good};
use super::output::{Document, Named};
use super::words::{printable, relative, say, table};
use crate::api::{Deletion, DeletionRecord, GROUP, Mode, Statement};

/// One deletion that was let pass. Fields may be added; those that are there keep their names and meaning.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Destroyed {
    resource: String,
    /// Absent for cluster-scoped objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    uid: String,
    /// When it was let pass.
    at: Timestamp,
    /// When it had been made.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    requesters: Vec<String>,
    /// Each once; none where the rules let it pass without approval.
    approvers: Vec<String>,
    approvals: Vec<Approved>,
    /// The rules that enforced.
    rules: Vec<String>,
    /// Whether somebody passed a rule alone.
    break_glass: bool,
    /// Whether somebody approved that it goes for good.
    delete_only: bool,
    /// How many of each Kind were to go along.
    radius: BTreeMap<String, i64>,
    /// How many volumes were to lose their data.
    volumes: u32,
    /// The DeletionRecord in which it stands.
    record: String,
}

/// A statement by which it was let pass.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Approved {
    approver: String,
    team: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    break_glass: bool,
    delete_only: bool,
}

/// The ways in which it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Rows,
    WideRows,
    Names,
    Document(Document),
}

pub async fn print(at: &Cluster, since: Option<SignedDuration>, style: Style) -> anyhow::Result<()> {
    let (protection, (records, unread), now) =
        tokio::try_join!(cluster::protection(&at.client), gone::records(&at.client), cluster::now(&at.client))?;
    for name in unread {
        eprintln!("Not read: {}: it is not as this kubectl-tagout knows them", printable(&name));
    }
    let within = at.namespace_given.then_some(at.namespace.as_str());
    let all = all(records, within, since.and_then(|since| now.checked_sub(since).ok()));
    match style {
        Style::Document(document) => return document.print(&all),
        Style::Names => {
            let mut names: Vec<_> = all.iter().map(|one| format!("{}\n", one.name())).collect();
            let mut seen = std::collections::BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
            return say(&names.concat());
        }
        _ if all.is_empty() => eprintln!("Nothing is written down."),
        Style::Rows => say(&rows(&all, now))?,
        Style::WideRows => say(&wide_rows(&all, now))?,
    }
    eprintln!("{}", printable(&complete(&protection)));
    Ok(())
}

/// What was destroyed since then, in this namespace or itself; the newest first.
fn all(records: Vec<DeletionRecord>, within: Option<&str>, since: Option<Timestamp>) -> Vec<Destroyed> {
    let concerns = |record: &DeletionRecord| {
        let spec = &record.spec;
        within.is_none_or(|name| spec.namespace == name || (spec.resource == "namespaces" && spec.name == name))
    };
    let mut all = Vec::new();
    for record in records.into_iter().filter(concerns) {
        let name = record.name_any();
        let lately = record.spec.deletions.iter().filter(|deletion| since.is_none_or(|since| deletion.at >= since));
        all.extend(lately.map(|deletion| Destroyed::of(&record, &name, deletion)));
    }
    all.sort_by(|one, other| (other.at, &one.name).cmp(&(one.at, &other.name)));
    all
}

/// How far back it goes: a record is kept for as long as a rule asks about its return.
fn complete(protection: &Protection) -> String {
    let rules = &protection.rules.rules;
    let enforcing = rules.values().flatten().filter(|rule| rule.mode == Mode::Enforce);
    let Some(shortest) = enforcing.min_by_key(|rule| rule.remembers) else {
        return "No rule enforces, so nothing that is destroyed now is written down.".to_owned();
    };
    let mut kinds: Vec<&str> = Vec::new();
    for status in protection.written.iter().filter_map(|written| written.status.as_ref()) {
        kinds.extend(status.not_remembered.iter().map(String::as_str));
    }
    kinds.sort_unstable();
    kinds.dedup();
    let but = if kinds.is_empty() { String::new() } else { format!(", but for {}", kinds.join(", ")) };
    format!(
        "Complete for the last {:#}{but}: so long rule {} remembers what is destroyed (recreation.window).",
        shortest.remembers, shortest.name
    )
}

fn rows(all: &[Destroyed], now: Timestamp) -> String {
    let header = ["DELETED", "RESOURCE", "NAMESPACE", "NAME", "REQUESTERS", "APPROVERS", "RULES", "WENT ALONG"];
    table(header, all.iter().map(|one| one.row(now)))
}

fn wide_rows(all: &[Destroyed], now: Timestamp) -> String {
    let header = [
        "DELETED",
        "RESOURCE",
        "NAMESPACE",
        "NAME",
        "REQUESTERS",
        "APPROVERS",
        "RULES",
        "WENT ALONG",
        "UID",
        "REASONS",
        "HASHES",
        "RECORD",
    ];
    let rows = all.iter().map(|one| {
        let [deleted, resource, namespace, name, requesters, approvers, rules, along] = one.row(now);
        let reasons = one.approvals.iter().filter_map(|approved| approved.reason.as_deref());
        let hashes = one.approvals.iter().filter_map(|approved| approved.hash.as_deref());
        let (reasons, hashes) = (listed(reasons, ", "), listed(hashes, ","));
        let (uid, record) = (one.uid.clone(), one.record.clone());
        [deleted, resource, namespace, name, requesters, approvers, rules, along, uid, reasons, hashes, record]
    });
    table(header, rows)
}

fn listed<'t>(texts: impl Iterator<Item = &'t str>, between: &str) -> String {
    let all = texts.collect::<Vec<_>>().join(between);
    if all.is_empty() { "-".to_owned() } else { all }
}

impl Destroyed {
    fn of(record: &DeletionRecord, name: &str, deletion: &Deletion) -> Self {
        let spec = &record.spec;
        let approved = |statement: &Statement| Approved {
            approver: statement.approver.clone(),
            team: statement.team.clone(),
            reason: statement.reason.clone(),
            hash: statement.hash().ok(),
            break_glass: statement.break_glass,
            delete_only: statement.delete_only,
        };
        Self {
            resource: spec.resource.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            uid: deletion.uid.clone(),
            at: deletion.at,
            created: deletion.created,
            requesters: deletion.requesters.clone(),
            approvers: approvers(deletion).into_iter().map(str::to_owned).collect(),
            approvals: deletion.statements.iter().map(approved).collect(),
            rules: deletion.rules.clone(),
            break_glass: deletion.statements.iter().any(|statement| statement.break_glass),
            delete_only: is_for_good(deletion),
            radius: deletion.radius.clone(),
            volumes: deletion.volumes,
            record: name.to_owned(),
        }
    }

    fn row(&self, now: Timestamp) -> [String; 8] {
        let mut remarks = Vec::new();
        remarks.extend(self.break_glass.then_some("broke glass"));
        remarks.extend(self.delete_only.then_some("for good"));
        let remarks = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) };
        let approvers = self.approvers.join(",");
        let namespace = if self.namespace.is_empty() { "-".to_owned() } else { self.namespace.clone() };
        [
            relative(self.at, now),
            self.resource.clone(),
            namespace,
            self.name.clone(),
            listed(self.requesters.iter().map(String::as_str), ","),
            if approvers.is_empty() { "nobody".to_owned() } else { format!("{approvers}{remarks}") },
            listed(self.rules.iter().map(String::as_str), ","),
            self.along(),
        ]
    }

    /// `3 Pod, 1 ReplicaSet, data of 2 volumes`
    fn along(&self) -> String {
        let mut counts: Vec<_> = self.radius.iter().collect();
        counts.sort_by(|one, other| (other.1, one.0).cmp(&(one.1, other.0)));
        let mut along: Vec<_> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        match self.volumes {
            0 => {}
            1 => along.push("data of 1 volume".to_owned()),
            many => along.push(format!("data of {many} volumes")),
        }
        listed(along.iter().map(String::as_str), ", ")
    }
}

impl Named for Destroyed {
    fn name(&self) -> String {
        format!("deletionrecord.{GROUP}/{}", self.record)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::case::tests::setting;
    use crate::cli::gone::tests::record;
    use crate::cli::statements::tests::{NOW, statement};

    #[test]
    fn who_destroyed_what_on_whose_word_is_one_line() {
        let good = Statement { delete_only: true, ..statement("alice", "sre") };
        let all = all(vec![record(&[good, statement("bob", "dba")])], None, None);
        assert_eq!(
            rows(&all, NOW),
            "\
DELETED   RESOURCE           NAMESPACE   NAME   REQUESTERS   APPROVERS              RULES        WENT ALONG
2h ago    deployments.apps   payments    api    agent-7      alice,bob (for good)   production   3 Pod, 1 ReplicaSet, data of 2 volumes
"
        );
        assert!(wide_rows(&all, NOW).contains("uid-1"));
    }

    #[test]
    fn what_nobody_approved_says_so() {
        let all = all(vec![record(&[])], None, None);
        assert_eq!(all[0].row(NOW)[5], "nobody");
    }

    #[test]
    fn the_newest_comes_first_and_what_is_older_than_asked_for_is_left_out() {
        let mut twice = record(&[]);
        let old = Deletion {
            uid: "uid-0".into(),
            at: NOW - SignedDuration::from_hours(5),
            ..twice.spec.deletions[0].clone()
        };
        twice.spec.deletions.insert(0, old);
        let uids = |since: i64| -> Vec<String> {
            let since = Some(NOW - SignedDuration::from_hours(since));
            all(vec![twice.clone()], None, since).into_iter().map(|one| one.uid).collect()
        };
        assert_eq!(uids(9), ["uid-1", "uid-0"]);
        assert_eq!(uids(3), ["uid-1"]);
        assert!(uids(1).is_empty());
    }

    #[test]
    fn with_a_namespace_only_what_was_in_it_and_itself_is_listed() {
        let mut namespace = record(&[]);
        namespace.spec.resource = "namespaces".into();
        (namespace.spec.namespace, namespace.spec.name) = (String::new(), "payments".into());
        let in_it = |name| all(vec![record(&[]), namespace.clone()], Some(name), None).len();
        assert_eq!((in_it("payments"), in_it("other")), (2, 0));
    }

    #[test]
    fn what_programs_read_keeps_its_names() {
        let one = Statement { reason: Some("OPS-1".into()), ..statement("alice", "sre") };
        let json = serde_json::to_value(all(vec![record(std::slice::from_ref(&one))], None, None)).unwrap();
        let read = &json[0];
        assert_eq!(
            (&read["resource"], &read["namespace"], &read["name"], &read["uid"]),
            (&json!("deployments.apps"), &json!("payments"), &json!("api"), &json!("uid-1"))
        );
        assert_eq!((&read["requesters"], &read["approvers"]), (&json!(["agent-7"]), &json!(["alice"])));
        assert_eq!(read["approvals"][0]["hash"], json!(one.hash().unwrap()));
        assert_eq!(read["approvals"][0]["reason"], "OPS-1");
        assert_eq!((&read["breakGlass"], &read["deleteOnly"]), (&json!(false), &json!(false)));
        assert_eq!((&read["radius"]["Pod"], &read["volumes"]), (&json!(3), &json!(2)));
        assert_eq!(read["at"], "2026-11-21T08:00:00Z");
    }

    #[test]
    fn how_far_back_it_is_complete_is_said_by_the_rule_that_forgets_first() {
        let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
        let rules = &mut setting.protection.rules.rules;
        rules.get_mut("staging").unwrap().as_mut().unwrap().remembers = SignedDuration::from_hours(1);
        // What only audits remembers nothing.
        rules.get_mut("watched").unwrap().as_mut().unwrap().remembers = SignedDuration::from_secs(1);
        assert_eq!(
            complete(&setting.protection),
            "Complete for the last 1h: so long rule staging remembers what is destroyed (recreation.window)."
        );
        setting.protection.rules.rules.clear();
        assert!(complete(&setting.protection).starts_with("No rule enforces"));
    }
}
