//! `kubectl tagout verify`: what a statement is worth, without a cluster.

mod check;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::check::{Check, Checked, check};
use super::approve::file_or_input;
use super::output::Document;
use super::words::{printable, say};
use crate::api::{ApproverTeam, ProtectionRule, ProtectionRuleSpec, read_statements};
use crate::guard::{Budgets, Freezes, Rule, Team};

/// Check signed approvals, without a cluster
///
/// Says what was signed, by which key, and whether that counts: each check by its name. Fails if one of them does.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    kubectl tagout verify api.json --team senior-sre.yaml\n  \
    kubectl get approverteam senior-sre -o yaml | kubectl tagout verify api.json --team -")]
pub struct Options {
    /// A file with one statement or a list of them, as the annotation tagout.dev/approval holds it; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A file with one or more `ApproverTeams`; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    team: Vec<PathBuf>,
    /// A file with one or more `ProtectionRules` that the approval should satisfy; may be given several times
    #[arg(long, value_name = "FILE")]
    rule: Vec<PathBuf>,
    /// The moment at which it should count, like 2026-11-21T10:00:00Z; default: now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The format
    #[arg(short, long, value_enum)]
    output: Option<Document>,
}

/// What statements are held against.
#[derive(Debug)]
struct Measure {
    teams: BTreeMap<String, Team>,
    rules: Vec<Rule>,
    at: Timestamp,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Report {
    good: bool,
    /// Why the rest cannot be read.
    error: Option<String>,
    statements: Vec<Checked>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let inputs = [&options.file].into_iter().chain(&options.team).chain(&options.rule);
    ensure!(inputs.filter(|path| path.as_path() == Path::new("-")).count() < 2, "only one file can be standard input");
    let text = file_or_input(&options.file)?;
    let mut measure =
        Measure { teams: BTreeMap::new(), rules: Vec::new(), at: options.at.unwrap_or_else(Timestamp::now) };
    for path in &options.team {
        for team in documents::<ApproverTeam>(path, "ApproverTeam")? {
            measure.teams.insert(team.metadata.name.unwrap_or_default(), Team::read(team.spec));
        }
    }
    for path in &options.rule {
        for rule in documents::<ProtectionRule>(path, "ProtectionRule")? {
            let name = rule.metadata.name.unwrap_or_default();
            let read = by_statements(&name, &rule.spec).map_err(anyhow::Error::msg);
            measure.rules.push(read.with_context(|| format!("rule {name}"))?);
        }
    }
    let report = report(&text, &measure);
    match options.output {
        Some(document) => document.print(&report)?,
        None => say(&report.text())?,
    }
    ensure!(report.good, "not all checks hold; see above");
    Ok(())
}

/// The rule without what lets something pass unasked, or keeps it whatever is said: neither tells what a statement is
/// worth.
fn by_statements(name: &str, spec: &ProtectionRuleSpec) -> Result<Rule, String> {
    let mut rule = Rule::read(name, spec)?;
    rule.tolerated = 0;
    rule.budgets = Budgets::default();
    rule.freezes = Freezes::default();
    Ok(rule)
}

fn report(text: &str, measure: &Measure) -> Report {
    let text = text.trim();
    // One alone is a list of one.
    let read = if text.starts_with('{') { read_statements(&format!("[{text}]")) } else { read_statements(text) };
    let mut statements: Vec<Checked> =
        read.readable.iter().map(|statement| check(statement, &measure.teams, measure.at)).collect();
    for (checked, statement) in statements.iter_mut().zip(&read.readable) {
        checked.checks.extend(measure.rules.iter().map(|rule| check::by_rule(statement, rule, measure)));
    }
    let error = read.error.map(|error| error.to_string());
    let all = statements.iter().flat_map(|checked| &checked.checks).all(|check| check.fault.is_none());
    Report { good: error.is_none() && !statements.is_empty() && all, error, statements }
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        for checked in &self.statements {
            text.push_str(&checked.text());
            text.push('\n');
        }
        match &self.error {
            Some(error) => text.extend(["FAILED  readable: ", &printable(error), "\n"]),
            None if self.statements.is_empty() => text.push_str("FAILED  there is no statement in it\n"),
            None => {}
        }
        text
    }
}

/// The objects of a kind in a file of one or several documents.
fn documents<T: DeserializeOwned>(path: &Path, kind: &str) -> anyhow::Result<Vec<T>> {
    let place = || path.display().to_string();
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(&file_or_input(path)?)
        .map_err(|_| anyhow::anyhow!("it is neither YAML nor JSON"))
        .with_context(place)?;
    let mut found = Vec::new();
    while let Some(mut document) = documents.pop() {
        if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) {
            let items = document["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            documents.extend(items.into_iter().map(|mut item| {
                // A typed list need not repeat the kind.
                if item["kind"].is_null() {
                    item["kind"] = kind.into();
                    item["apiVersion"] = document["apiVersion"].clone();
                }
                item
            }));
        } else if document["kind"] == kind {
            let read = serde_json::from_value(document);
            found.push(read.with_context(|| format!("{}: this {kind} is not as its definition asks", place()))?);
        }
    }
    if found.is_empty() {
        bail!("{} holds no {kind}", place());
    }
    Ok(found)
}

/// `ok      key: SHA256:… is listed for alice`
fn line(check: &Check) -> String {
    let Check { name, says, fault } = check;
    match fault {
        None => printable(&format!("ok      {name}: {says}")) + "\n",
        Some(fault) => printable(&format!("FAILED  {name}: {fault}")) + "\n",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::api::Statement;
    use crate::cli::approve::signed_for_tests;
    use crate::cli::statements::tests::{NOW, statement};

    fn measured(change: impl Fn(&mut Statement), measure: impl Fn(&mut Measure)) -> Report {
        let (signed, team) = signed_for_tests(Statement { epoch: None, ..statement("alice@example.com", "sre") });
        let mut held = Measure { teams: [("sre".to_owned(), team)].into(), rules: Vec::new(), at: NOW };
        measure(&mut held);
        let mut statement = signed;
        change(&mut statement);
        report(&serde_json::to_string(&[statement]).unwrap(), &held)
    }

    fn failed(report: &Report) -> Vec<&str> {
        let checks = report.statements.iter().flat_map(|checked| &checked.checks);
        checks.filter(|check| check.fault.is_some()).map(|check| check.name.as_str()).collect()
    }

    #[test]
    fn what_a_listed_key_signed_passes_every_check_and_is_shown_as_it_was_signed() {
        let report = measured(|_| {}, |_| {});
        assert!(report.good, "{}", report.text());
        let text = report.text();
        assert!(text.contains("Tagout approval, version 1\n") && text.contains("SHA256:"), "{text}");
        assert!(!text.contains("FAILED"), "{text}");
    }

    #[test]
    fn each_check_fails_by_its_own_name() {
        let nothing = |_: &mut Measure| {};
        assert_eq!(failed(&measured(|one| one.name = "web".into(), nothing)), ["signature"]);
        assert_eq!(failed(&measured(|one| one.signature = None, nothing)), ["signature"]);
        assert_eq!(
            failed(&measured(|_| {}, |measure| measure.at = NOW + jiff::SignedDuration::from_hours(1))),
            ["time"]
        );
        assert_eq!(failed(&measured(|_| {}, |measure| measure.teams.clear())), ["team"]);
        let revoked = |measure: &mut Measure| {
            let team = measure.teams.get_mut("sre").unwrap();
            team.spec.revoked_keys.push(team.keys[0].key.fingerprint());
        };
        assert_eq!(failed(&measured(|_| {}, revoked)), ["key"]);
    }

    #[test]
    fn a_rule_that_asks_more_is_not_satisfied() {
        let rule = |proof: &str| {
            let spec = serde_json::json!({"resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
                "approval": {"proof": proof, "require": [{"anyOf": ["sre"]}]}});
            Rule::read("production", &serde_json::from_value(spec).unwrap()).unwrap()
        };
        assert!(measured(|_| {}, |measure| measure.rules.push(rule("Signature"))).good);
        let report = measured(|_| {}, |measure| measure.rules.push(rule("HardwareKey")));
        assert_eq!(failed(&report), ["rule production"]);
    }

    #[test]
    fn a_rule_that_would_let_it_pass_unasked_does_not_make_a_statement_good() {
        let rule = |more: &str, value: Value| {
            let mut spec = serde_json::json!({"resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
                "approval": {"proof": "HardwareKey", "require": [{"anyOf": ["sre"]}]}});
            spec[more] = value;
            by_statements("production", &serde_json::from_value(spec).unwrap()).unwrap()
        };
        let budget = serde_json::json!({"count": 5, "window": "10m", "per": "Rule"});
        for (more, value) in [("tolerate", serde_json::json!({"objects": 1})), ("allowance", budget)] {
            let report = measured(|_| {}, |measure| measure.rules.push(rule(more, value.clone())));
            assert_eq!(failed(&report), ["rule production"], "{more}");
        }
    }

    #[test]
    fn what_is_no_statement_fails() {
        let measure = Measure { teams: BTreeMap::new(), rules: Vec::new(), at: NOW };
        for text in ["", "[]", "[{}]", "{}", "hello"] {
            assert!(!report(text, &measure).good, "{text}");
            assert!(report(text, &measure).text().contains("FAILED"), "{text}");
        }
    }

    #[test]
    fn teams_are_read_from_several_documents_and_lists() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("teams.yaml");
        let team = |name: &str| {
            format!(
                "{{kind: ApproverTeam, apiVersion: tagout.dev/v1alpha1, metadata: {{name: {name}}}, spec: {{groups: [g]}}}}"
            )
        };
        fs::write(&path, format!("---\n{}\n---\nkind: List\nitems: [{}]\n---\nkind: Other\n", team("a"), team("b")))
            .unwrap();
        let mut names: Vec<_> = documents::<ApproverTeam>(&path, "ApproverTeam")
            .unwrap()
            .into_iter()
            .filter_map(|team| team.metadata.name)
            .collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        assert!(
            documents::<ProtectionRule>(&path, "ProtectionRule").unwrap_err().to_string().contains("no ProtectionRule")
        );
    }
}
