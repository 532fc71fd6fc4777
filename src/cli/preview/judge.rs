//! The gate's own verdict on what it would have been asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::asked::Asked;
use super::entries::{Conditions, Entries, Met, Path};
use super::served::Shared;
use super::state::{Place, metadata, text};
use crate::cluster::{Announcer, Cluster, RulesInForce, Told, Watched, load};
use crate::gate::{Called, Gate, Unanswered};
use crate::guard::Verdict;
use crate::notify::Notifier;
use crate::telemetry::Telemetry;

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) rule: String,
    pub(super) action: String,
    pub(super) because: String,
    /// How many entries it met.
    pub(super) entries: usize,
    /// The kinds of what it rests on and was only found afterwards: the object, its namespace, its owners, what goes along.
    pub(super) leaned_on: BTreeSet<String>,
}

pub(super) struct Judge {
    shared: Shared,
    gate: Gate,
    cluster: Arc<Cluster>,
    watched: Watched,
    clock: Told,
    own_namespace: String,
    entries: Entries,
    conditions: Conditions,
    /// Why there are no rules to judge by.
    pub(super) without_rules: Option<String>,
}

/// No verdict hangs on how long this machine takes.
const PATIENCE: Duration = Duration::from_hours(1);

impl Judge {
    pub(super) fn new(shared: Shared, clock: Told, own_namespace: &str) -> Self {
        let client = shared.client(clock.clone());
        let rules = Arc::new(RulesInForce::none());
        let (cluster, watched) = Cluster::told(client.clone(), rules, own_namespace.to_owned(), clock.clone());
        let cluster = Arc::new(cluster);
        // What would be announced is told by the report.
        let (announcer, _) = Announcer::new(client);
        let telemetry = Arc::new(Telemetry::new(announcer, Notifier::new()));
        let gate = Gate::new(Arc::clone(&cluster), telemetry);
        Self {
            shared,
            gate,
            cluster,
            watched,
            clock,
            own_namespace: own_namespace.to_owned(),
            entries: Entries { all: Vec::new() },
            conditions: Conditions::new(),
            without_rules: Some("no rule is known yet".to_owned()),
        }
    }

    /// Takes in what has changed since: what watches would tell, and the rules.
    pub(super) async fn catch_up(&mut self) {
        let (news, rules_changed) = {
            let mut state = self.shared.lock();
            let news: Vec<(Place, Option<ObjectMeta>)> = state
                .take_news()
                .into_iter()
                .map(|place| (place.clone(), state.get(&place).map(|held| of(&held.object))))
                .collect();
            (news, state.take_rules_changed())
        };
        for (place, found) in news {
            let is_there = found.is_some();
            let metadata =
                found.unwrap_or_else(|| ObjectMeta { name: Some(place.name.clone()), ..ObjectMeta::default() });
            if place.group.is_empty() {
                self.watched.namespace(metadata, is_there);
            } else {
                self.watched.record(metadata, is_there);
            }
        }
        if rules_changed {
            let client = self.shared.client(self.clock.clone());
            match load(&client, &self.own_namespace).await {
                Ok(rules) => {
                    self.cluster.rules.give(rules);
                    self.without_rules = None;
                }
                Err(_) => {
                    self.without_rules = Some("the log does not show the cluster's identity (kube-system)".to_owned());
                }
            }
            self.entries = Entries::of(&self.shared.lock());
        }
    }

    /// Whether any entry could be about such a request.
    pub(super) fn concerns(&self, operation: &str, place: &Place, subresource: &str) -> bool {
        self.entries.all.iter().any(|entry| entry.is_about(operation, &place.group, &place.plural, subresource))
    }

    /// Whether any entry is about such a request in such a namespace, as far as that can be told without the objects.
    pub(super) fn may_concern(&self, asked: &Asked) -> bool {
        let state = self.shared.lock();
        let about = |entry: &&super::entries::Entry| {
            entry.is_about(asked.operation, &asked.place.group, &asked.place.plural, &asked.subresource)
        };
        self.entries
            .all
            .iter()
            .filter(about)
            .any(|entry| entry.may_be_about(asked.object.as_ref()) && entry.selects_namespace(asked, &state) != Met::No)
    }

    /// The worst that any entry says, or why nobody can tell.
    pub(super) async fn judge(&mut self, asked: &Asked) -> Result<Judged, String> {
        self.shared.lock().take_leaned_on();
        let judged = self.worst(asked).await?;
        let leaned_on = self.shared.lock().take_leaned_on();
        Ok(Judged { leaned_on, ..judged })
    }

    async fn worst(&mut self, asked: &Asked) -> Result<Judged, String> {
        let mut called = Vec::new();
        {
            let mut state = self.shared.lock();
            if asked.assumed {
                state.lean_on(&asked.place.group, &asked.place.plural);
            }
            if state.namespace(&asked.place.namespace).is_some_and(|held| held.assumed) {
                state.lean_on("", "namespaces");
            }
            for entry in &self.entries.all {
                if !entry.is_about(asked.operation, &asked.place.group, &asked.place.plural, &asked.subresource) {
                    continue;
                }
                match entry.met(asked, &state, &mut self.conditions) {
                    Met::No => {}
                    Met::Yes => called.push((entry.path.clone(), entry.rule().unwrap_or_default().to_owned())),
                    Met::Untold(why) => return Err(why),
                }
            }
        }
        if called.is_empty() {
            return Ok(Judged::default());
        }
        if let Some(why) = &self.without_rules {
            return Err(why.clone());
        }
        let body = review(asked).to_string().into_bytes();
        let mut worst = Judged { entries: called.len(), ..Judged::default() };
        for (path, rule) in called {
            let answer = self.ask(&path, &body).await.map_err(|unanswered| unanswered.to_string())?;
            let judged = read(&answer, asked, &rule, &path);
            if judged.verdict > worst.verdict || worst.because.is_empty() {
                worst = Judged { entries: worst.entries, ..judged };
            }
        }
        Ok(worst)
    }

    async fn ask(&self, path: &Path, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let deadline = Instant::now() + PATIENCE;
        match path {
            Path::Rule(rule) => self.gate.rule(Called::By(rule), body, deadline).await,
            Path::Beside(rule) => self.gate.rule(Called::Beside(rule), body, deadline).await,
            Path::Conditions(rule) => self.gate.rule(Called::Leaves(rule), body, deadline).await,
            Path::Approvals => self.gate.approvals(body).await,
            Path::Loosen => self.gate.loosen(body).await,
            Path::Returns => self.gate.returns(body, deadline).await,
        }
    }
}

fn of(object: &Value) -> ObjectMeta {
    serde_json::from_value(Value::Object(metadata(object))).unwrap_or_default()
}

/// As the API server posts it.
fn review(asked: &Asked) -> Value {
    let of_namespace = asked.place.group.is_empty() && asked.place.plural == "namespaces";
    let namespace = if of_namespace { &asked.place.name } else { &asked.place.namespace };
    let resource = json!({"group": asked.place.group, "version": asked.version, "resource": asked.place.plural});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": if asked.id.is_empty() { "replayed" } else { asked.id.as_str() },
        "kind": {"group": asked.place.group, "version": asked.version, "kind": asked.title},
        "resource": resource,
        "subResource": asked.subresource,
        "name": asked.place.name,
        "namespace": namespace,
        "operation": asked.operation,
        "userInfo": {"username": asked.user.username, "groups": asked.user.groups},
        "object": asked.object,
        "oldObject": asked.old,
        "dryRun": asked.dry_run,
        "options": {"fieldManager": asked.field_manager},
    }})
}

fn read(answer: &[u8], asked: &Asked, rule: &str, path: &Path) -> Judged {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let response = &answer["response"];
    let said = |name: &str| response["auditAnnotations"][name].as_str().unwrap_or_default().to_owned();
    let (rules, action) = (said("rules"), said("action"));
    let verdict = match said("verdict").as_str() {
        "deny" => Verdict::Deny,
        "warn" => Verdict::Warn,
        "audit" => Verdict::Audit,
        // What is there already the API server would have said itself.
        _ if response["allowed"] == false && response["status"]["code"] != 409 => Verdict::Deny,
        _ => Verdict::Allow,
    };
    let guessed = match (path, asked.operation) {
        (Path::Approvals, _) => "Approve",
        (Path::Loosen, _) => "Loosen",
        (_, "DELETE") => "Delete",
        (_, "CREATE") if asked.subresource == "eviction" => "Evict",
        (_, "CREATE") => "Recreate",
        _ => "Unprotect",
    };
    let because = match said("because") {
        said if said.is_empty() => text(response, "/status/message").to_owned(),
        said => said,
    };
    Judged {
        verdict,
        rule: if rules.is_empty() { rule.to_owned() } else { rules },
        action: if action.is_empty() { guessed.to_owned() } else { action },
        because,
        ..Judged::default()
    }
}
