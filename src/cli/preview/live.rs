//! What Tagout itself has written down: its log, from its pods or from wherever logs are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client};
use serde::Deserialize;

use super::report::{Basis, Report, Requests, Row};
use super::tally::verdict_of;
use crate::cli::connection::Cluster;
use crate::entries::{CANARY, SHARED};
use crate::guard::Verdict;

/// A line by which Tagout tells of a decision.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: Timestamp,
    event: String,
    #[serde(default)]
    request: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    because: String,
    #[serde(default)]
    rule: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    requester: String,
    #[serde(default)]
    dry_run: bool,
}

/// A line as collectors of logs wrap it.
#[derive(Debug, Deserialize)]
struct Wrapped {
    #[serde(alias = "message", alias = "line", alias = "MESSAGE")]
    log: String,
}

/// One decision: the worst of what was said of it.
#[derive(Debug)]
struct Told {
    at: Timestamp,
    verdict: Verdict,
    /// Nothing where there was nothing to decide about.
    sort: Option<(Sort, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Sort {
    dry_run: bool,
    verdict: String,
    rule: String,
    action: String,
    requester: String,
    kind: String,
    namespace: String,
}

#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    objects: BTreeSet<String>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// Decisions, each counted once: several rules ask about one request, and the API server may ask twice.
#[derive(Debug, Default)]
pub(super) struct Heard {
    told: Vec<Told>,
    /// Where a request stands among them, by what it was and when it was last heard of.
    known: HashMap<(String, i64), usize>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    notes: Vec<String>,
    lines: u64,
    foreign: u64,
}

/// So long after the first, another line about the same request is another request.
const SAME: i64 = 2;
/// More different objects of a sort are not told apart.
const MOST: usize = 100_000;
const EXAMPLES: usize = 3;
/// No line of Tagout's is as long.
const LONGEST: u64 = 1 << 20;

/// What the API server says, without how it says it.
fn in_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.trim().to_owned(),
        error => error.to_string(),
    }
}

impl Heard {
    /// Reads the log of a replica, or of several after one another.
    pub(super) fn read(&mut self, name: &str, log: impl Read) -> anyhow::Result<()> {
        let mut log = BufReader::new(log);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = log.by_ref().take(LONGEST).read_until(b'\n', &mut line);
            if read.with_context(|| format!("cannot read {name}"))? == 0 {
                return Ok(());
            }
            self.line(&line);
        }
    }

    /// What the pods of Tagout still have, of the containers that ran before, too.
    pub(super) async fn pods(&mut self, at: &Cluster, since: SignedDuration) -> anyhow::Result<()> {
        let namespace = if at.namespace_given { at.namespace.clone() } else { home(&at.client).await };
        let pods: Api<Pod> = Api::namespaced(at.client.clone(), &namespace);
        let chosen = ListParams::default().labels("app.kubernetes.io/name=tagout");
        let found = pods.list(&chosen).await.with_context(|| format!("cannot list the pods in {namespace}"))?;
        let (mut without, mut any) = (Vec::new(), false);
        for pod in &found {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let mut seen = None;
            for previous in [true, false] {
                let params = LogParams { previous, since_seconds: Some(since.as_secs()), ..LogParams::default() };
                match pods.logs(name, &params).await {
                    Ok(log) => {
                        self.read(name, log.as_bytes())?;
                        (seen, any) = (Some(()), true);
                    }
                    // Most have no container that ran before.
                    Err(_) if previous => {}
                    Err(error) => without.push(format!("the log of pod {name} was not read: {}", in_words(&error))),
                }
            }
            if seen.is_none() && without.is_empty() {
                without.push(format!("pod {name} has no log"));
            }
        }
        ensure!(!found.items.is_empty(), "there are no pods of Tagout in {namespace}: name its namespace with -n");
        // What nobody could read is not taken for nothing.
        ensure!(
            any,
            "no log of Tagout's pods could be read, so whether anything would have been refused is not known. {}. If you may \
             read them elsewhere, give them with --log",
            without.join("; ")
        );
        self.notes.append(&mut without);
        self.notes
            .push("pods keep their logs only until they go; --log reads them from where they are kept".to_owned());
        Ok(())
    }

    fn line(&mut self, text: &[u8]) {
        let Some(begin) = text.iter().position(|byte| *byte == b'{') else { return };
        self.lines += 1;
        let text = &text[begin..];
        let line = serde_json::from_slice::<Line>(text).or_else(|_| {
            let wrapped: Wrapped = serde_json::from_slice(text)?;
            serde_json::from_str(&wrapped.log)
        });
        match line {
            Ok(line) => self.said(line),
            Err(_) => self.foreign += 1,
        }
    }

    fn said(&mut self, line: Line) {
        self.from = Some(self.from.map_or(line.timestamp, |from| from.min(line.timestamp)));
        self.until = Some(self.until.map_or(line.timestamp, |until| until.max(line.timestamp)));
        let tries_itself = line.dry_run && line.kind == "ledgers.tagout.dev" && line.name == CANARY;
        if line.event != "decided" || tries_itself {
            return;
        }
        let Line {
            timestamp: at, request, because, name, uid, rule, action, kind, namespace, requester, dry_run, ..
        } = line;
        // A verdict of another version is none that lets pass.
        let verdict = verdict_of(&line.verdict).unwrap_or(Verdict::Deny);
        let object = format!("{kind} \"{name}\" in \"{namespace}\" {uid}");
        // A trial is no part of what is done a moment later.
        let known = (!request.is_empty()).then(|| format!("{request} {object} {dry_run}"));
        // What no rule was about, and what follows from what was decided, is nothing to decide about.
        let sort = Sort { dry_run, verdict: line.verdict, rule, action, requester, kind, namespace };
        let sort = (verdict != Verdict::Allow || because.starts_with("approved")).then_some((sort, object));
        let told = Told { at, verdict, sort };
        let second = at.as_second() / SAME;
        let Some(known) = known else {
            self.told.push(told);
            return;
        };
        let earlier = [second - 1, second].iter().find_map(|at| self.known.get(&(known.clone(), *at)).copied());
        let place = earlier.unwrap_or(self.told.len());
        self.known.insert((known, second), place);
        match self.told.get_mut(place) {
            None => self.told.push(told),
            // One rule lets pass what another refuses.
            Some(standing) if (verdict, told.sort.is_some()) > (standing.verdict, standing.sort.is_some()) => {
                *standing = Told { at: standing.at, ..told };
            }
            Some(_) => {}
        }
    }

    fn rows(told: Vec<Told>) -> BTreeMap<Sort, Counted> {
        let mut rows: BTreeMap<Sort, Counted> = BTreeMap::new();
        for Told { at, sort, .. } in told {
            let Some((sort, object)) = sort else { continue };
            let counted = rows.entry(sort).or_default();
            counted.requests += 1;
            if counted.objects.len() < MOST {
                counted.objects.insert(object);
            }
            counted.first = Some(counted.first.map_or(at, |first| first.min(at)));
            counted.last = Some(counted.last.map_or(at, |last| last.max(at)));
        }
        rows
    }

    pub(super) fn report(self) -> Report {
        let mut notes = self.notes;
        if self.foreign > 0 {
            notes.push(format!("{} of {} lines are none of Tagout's", self.foreign, self.lines));
        }
        notes.push("what a rule only counts or warns of is refused as soon as it enforces".to_owned());
        notes.push("a webhook is not told by which program it was asked; an audit log tells it".to_owned());
        let decided = self.told.len() as u64;
        let requests = Requests { seen: decided, decided, untold: 0 };
        let (dry_runs, rows): (Vec<_>, Vec<_>) = Self::rows(self.told).into_iter().partition(|(sort, _)| sort.dry_run);
        let mut report = Report {
            source: "log of Tagout".to_owned(),
            from: self.from,
            until: self.until,
            requests,
            rows: rows.into_iter().map(row).collect(),
            dry_runs: dry_runs.into_iter().map(row).collect(),
            notes,
            ..Report::default()
        };
        for rows in [&mut report.rows, &mut report.dry_runs] {
            rows.sort_by_key(|row| std::cmp::Reverse((row.objects, row.requests)));
        }
        report
    }
}

/// Where Tagout runs, as the API server's way to it says.
async fn home(client: &Client) -> String {
    let entries: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let shared = entries.get_opt(SHARED).await.ok().flatten();
    let webhook = shared.and_then(|shared| shared.webhooks.unwrap_or_default().into_iter().next());
    webhook
        .and_then(|webhook| webhook.client_config.service)
        .map_or_else(|| "tagout-system".to_owned(), |to| to.namespace)
}

fn row((sort, counted): (Sort, Counted)) -> Row {
    let Sort { dry_run: _, verdict, rule, action, requester, kind, namespace } = sort;
    Row {
        rule,
        action,
        verdict,
        basis: Basis::Recorded,
        requester,
        tool: String::new(),
        kind,
        namespace,
        objects: counted.objects.len(),
        requests: counted.requests,
        first: counted.first,
        last: counted.last,
        examples: counted.objects.into_iter().take(EXAMPLES).collect(),
        ..Row::default()
    }
}

/// Reads files; `-` is standard input.
pub(super) fn files(paths: &[PathBuf]) -> anyhow::Result<Report> {
    let mut heard = Heard::default();
    for path in paths {
        if path.as_os_str() == "-" {
            heard.read("standard input", stdin().lock())?;
            continue;
        }
        let name = path.display().to_string();
        heard.read(&name, File::open(path).with_context(|| format!("cannot open {name}"))?)?;
    }
    Ok(heard.report())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: u32, verdict: &str, requester: &str, request: &str, rule: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-11-22T10:00:{second:02}.5Z","level":"INFO","event":"decided","request":"{request}",
            "verdict":"{verdict}","because":"needs approval","rule":"{rule}","action":"Delete","kind":"deployments.apps",
            "namespace":"payments","name":"api","uid":"u-1","requester":"{requester}","dry_run":false,"target":"t"}}"#
        )
        .replace('\n', " ")
    }

    fn heard(lines: &[String]) -> Report {
        let mut heard = Heard::default();
        heard.read("a log", lines.join("\n").as_bytes()).unwrap();
        heard.report()
    }

    #[test]
    fn one_request_that_several_rules_and_replicas_were_asked_about_is_one() {
        let report = heard(&[
            line(1, "audit", "agent-7", "to-1", "production"),
            line(1, "audit", "agent-7", "to-1", "labelled-namespaces"),
            line(2, "audit", "agent-7", "to-1", "production"),
            line(30, "audit", "agent-7", "to-1", "production"),
            line(31, "deny", "ci", "to-2", "production"),
        ]);
        let said: Vec<_> = report.rows.iter().map(|row| (row.requester.as_str(), row.requests, row.objects)).collect();
        assert_eq!(said, [("agent-7", 2, 1), ("ci", 1, 1)]);
        assert_eq!((report.requests.decided, report.refused()), (3, 3));
        assert!(report.from < report.until);
    }

    #[test]
    fn a_trial_and_what_is_done_a_moment_later_are_two_and_the_canarys_trials_are_none() {
        let done = line(1, "warn", "agent-7", "to-1", "production");
        let trial = done.replace(r#""dry_run":false"#, r#""dry_run":true"#);
        let canary =
            trial.replace("deployments.apps", "ledgers.tagout.dev").replace(r#""api""#, r#""canary.tagout.dev""#);
        for lines in [[trial.clone(), done.clone(), canary.clone()], [canary, done, trial]] {
            let report = heard(&lines);
            let requests = |rows: &[Row]| rows.iter().map(|row| row.requests).collect::<Vec<_>>();
            assert_eq!((requests(&report.rows), requests(&report.dry_runs)), (vec![1], vec![1]), "{report:?}");
        }
    }

    #[test]
    fn the_worst_of_what_is_said_of_a_request_counts_in_whatever_order_it_is_said() {
        let verdicts = ["allow", "audit", "deny", "warn"];
        for turn in 0..verdicts.len() {
            let said = (0..verdicts.len()).map(|at| {
                let verdict = verdicts[(turn + at) % verdicts.len()];
                line(1, verdict, "agent-7", "to-1", &format!("rule-of-{verdict}"))
            });
            let report = heard(&said.collect::<Vec<_>>());
            let rows: Vec<_> =
                report.rows.iter().map(|row| (row.verdict.as_str(), row.rule.as_str(), row.requests)).collect();
            assert_eq!(rows, [("deny", "rule-of-deny", 1)]);
            assert_eq!(report.requests.decided, 1);
        }
    }

    #[test]
    fn lines_are_found_in_what_wraps_them_and_what_is_none_is_counted() {
        let bare = line(1, "warn", "agent-7", "to-1", "production");
        let report = heard(&[
            format!("2026-11-22T10:00:01Z stdout F {bare}"),
            serde_json::json!({"log": line(9, "warn", "agent-7", "to-1", "production")}).to_string(),
            serde_json::json!({"message": line(19, "warn", "agent-7", "to-1", "production"), "pod": "a"}).to_string(),
            r#"{"level":"info","msg":"somebody else's"}"#.to_owned(),
            "no JSON at all".to_owned(),
            "{\u{0}".to_owned(),
        ]);
        assert_eq!(report.rows[0].requests, 3);
        assert!(report.notes.iter().any(|note| note.contains("2 of 5 lines are none of Tagout's")), "{report:?}");
    }

    #[test]
    fn what_was_let_pass_without_approval_is_none_of_it() {
        let passed = line(1, "allow", "agent-7", "to-1", "production");
        let approved = passed.replace("needs approval", "approved by alice").replace("to-1", "to-2");
        let report = heard(&[passed, approved]);
        assert_eq!((report.rows.len(), report.refused()), (1, 0));
    }

    #[test]
    fn dry_runs_stand_apart() {
        let tried = line(1, "deny", "agent-7", "to-1", "production").replace("\"dry_run\":false", "\"dry_run\":true");
        let report = heard(&[tried]);
        assert_eq!((report.rows.len(), report.dry_runs.len()), (0, 1));
    }
}
