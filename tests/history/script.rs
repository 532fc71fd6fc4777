//! A history as a script for bash and kubectl, which says of each step what should come of it.

use std::fmt::Write;

use controlplane::User;
use serde_json::{Value, json};

use super::model::{Model, NOBODY, Outcome, Statement, Verdict};
use super::operation::{Cascade, Draft, Life, Operation, Precondition, Route};
use super::perform::{path, request, target_path};
use super::run::Plan;
use super::text::{NO_UID, Names};
use super::world::{PLACES, Target, Team, namespace_manifest};

const PRELUDE: &str = include_str!("script.sh");

/// The script of a plan. It ends with 1 where something differs.
pub fn script(history: &str, plan: &Plan) -> String {
    let mut this = Script { names: symbols(history), model: Model::new(plan.rules.clone()), text: String::new() };
    this.begin(plan);
    for operation in &plan.operations {
        this.step(operation);
    }
    this.end();
    this.text
}

/// UIDs are variables of the script.
fn symbols(history: &str) -> Names {
    let uids = (1..1000).map(|id| (id, format!("$uid_{id}"))).collect();
    Names { history: history.to_owned(), cluster: "$CLUSTER".into(), epoch: "$EPOCH".into(), uids, omitted: None }
}

struct Script {
    names: Names,
    model: Model,
    text: String,
}

impl Script {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn begin(&mut self, plan: &Plan) {
        let history = self.names.history.clone();
        self.names.omitted = plan.omitted;
        self.line("#!/usr/bin/env bash");
        self.line(
            "# A history of Tagout: run it as somebody who may do and impersonate anything, on a cluster where group",
        );
        self.line("# senior-sre is the team approvers. What differs from the documentation says DIFFERS.");
        self.line(PRELUDE);
        let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam",
            "metadata": {"name": format!("{history}-owners")},
            "spec": {"members": [{"user": User::Carol.name()}, {"user": User::Bob.name()}]}});
        self.create("passes", User::Admin, &team);
        for place in 0..PLACES {
            self.create("passes", User::Admin, &namespace_manifest(&history, place));
            self.model.found(place);
            self.learn(Target::Namespace(place));
        }
        for rule in plan.rules.clone() {
            let manifest = self.names.rule(&rule);
            self.create("passes", User::Admin, &manifest);
            self.line(&format!("in_force {}", rule.full_name(&history)));
        }
    }

    fn create(&mut self, verdict: &str, by: User, manifest: &Value) {
        let line = format!("expect {verdict} {} create -f - <<'END'\n{manifest}\nEND", user(by));
        self.line(&line);
    }

    fn learn(&mut self, target: Target) {
        if let Some(id) = self.model.id(target) {
            let line = format!("learn {id} {}", self.object(target));
            self.line(&line);
        }
    }

    /// Resource, name and namespace.
    fn object(&self, target: Target) -> String {
        format!("{} {} {}", target.resource(), self.names.name(target), quoted(&self.names.namespace(target)))
    }

    /// Where it stands, for kubectl.
    fn at(&self, target: Target) -> String {
        let namespace = self.names.namespace(target);
        let of = if namespace.is_empty() { String::new() } else { format!(" -n {namespace}") };
        format!("{} {}{of}", target.resource(), self.names.name(target))
    }

    fn step(&mut self, operation: &Operation) {
        let outcome = self.model.outcomes(operation).into_iter().next().expect("there is always an answer");
        writeln!(self.text, "\n# {}", operation.row()).expect("a string takes it");
        self.command(operation, &word(&outcome.verdict));
        let before: Vec<Target> = self.everything();
        let made = outcome.verdict == Verdict::Passes;
        self.take(outcome);
        let gone: Vec<Target> = before.into_iter().filter(|target| self.model.id(*target).is_none()).collect();
        for target in gone {
            let line = format!("gone {}", self.object(target));
            self.line(&line);
        }
        match operation {
            Operation::Create { key, .. } if made => self.learn(Target::Object(*key)),
            Operation::CreateNamespace { place, .. } if made => self.learn(Target::Namespace(*place)),
            Operation::Select { .. } => self.line("sleep 1"),
            _ => {}
        }
    }

    fn take(&mut self, outcome: Outcome) {
        self.model = outcome.after;
    }

    fn everything(&self) -> Vec<Target> {
        let objects = self.model.objects.keys().map(|key| Target::Object(*key));
        objects.chain(self.model.namespaces.keys().map(|place| Target::Namespace(*place))).collect()
    }

    fn command(&mut self, operation: &Operation, verdict: &str) {
        let by = user(operation.by());
        let dry = |dry_run: bool| if dry_run { " --dry-run=server" } else { "" };
        let line = match operation {
            Operation::Kill => "# (one of Tagout's processes is killed, and another is started)".to_owned(),
            Operation::Create { .. } | Operation::CreateNamespace { .. } => {
                let call = request(&self.names, &self.model, operation, &Value::Null);
                self.create(verdict, operation.by(), &call.body.unwrap_or_default());
                return;
            }
            Operation::Delete { key, how, .. } => {
                let at = self.at(Target::Object(*key));
                let cascade = if how.cascade == Cascade::Foreground { "foreground" } else { "background" };
                match how.precondition {
                    Precondition::Other => {
                        let path = target_path(&self.names.history, Target::Object(*key));
                        let body = json!({"preconditions": {"uid": NO_UID}});
                        format!("expect {verdict} {by} delete --raw {path} -f - <<<'{body}'")
                    }
                    _ => format!(
                        "expect {verdict} {by} delete {at} --cascade={cascade} --wait=false{}",
                        dry(how.dry_run)
                    ),
                }
            }
            Operation::DeleteCollection { kind, place, gold, dry_run, .. } => {
                let of = format!("{}%3D{}", super::world::OF, self.names.history);
                let gold = if *gold { format!(",{}%3Dgold", super::world::GOLD) } else { String::new() };
                let dry = if *dry_run { "&dryRun=All" } else { "" };
                let path = path(&self.names.history, *kind, *place);
                format!(
                    "expect {verdict} {by} delete --raw '{path}?propagationPolicy=Background&labelSelector={of}{gold}{dry}'"
                )
            }
            Operation::DeleteNamespace { place, dry_run, .. } => {
                let at = self.at(Target::Namespace(*place));
                format!("expect {verdict} {by} delete {at} --wait=false{}", dry(*dry_run))
            }
            Operation::Scale { key, to, route: Route::Subresource, .. } => {
                let at = self.at(Target::Object(*key));
                format!("expect {verdict} {by} scale {at} --replicas={to}")
            }
            Operation::Evict { .. } => {
                let call = request(&self.names, &self.model, operation, &Value::Null);
                let body = call.body.unwrap_or_default();
                format!("expect {verdict} {by} create --raw '{}' -f - <<<'{body}'", call.path)
            }
            Operation::Approve { target, draft, .. } => self.approving(verdict, by, *target, draft),
            Operation::Detach { target, draft, .. } => {
                let statement = self.model.statement(*target, draft);
                let manager = if draft.own_act { " --field-manager=tagout-approval" } else { "" };
                let uid = self.names.uid(statement.about);
                let (action, object) = (draft.action.name(), self.names.namespace(*target));
                let (resource, name) = (target.resource(), self.names.name(*target));
                let parts = format!("{action} {resource} {} {name} {uid}", quoted(&object));
                format!(
                    "expect {verdict} {by} create{manager} -f - <<END\n{{\"apiVersion\":\"tagout.dev/v1alpha1\",\"kind\":\"Approval\",\
                     \"metadata\":{{\"name\":\"$(approval_name {parts})\",\"labels\":{{\"{}\":\"{}\"}}}},\"spec\":{{\"statements\":[{}]}}}}\nEND",
                    super::world::OF,
                    self.names.history,
                    self.statement(&statement),
                )
            }
            Operation::Edit { by: who, rule, edit, approvers } => {
                let old = &self.model.rules[*rule];
                let spec = &self.names.rule(&old.edited(*edit))["spec"];
                let teams: Vec<Team> = old.require.iter().map(|(team, _)| *team).collect();
                let people = approvers.iter().flat_map(|one| {
                    let own = teams.iter().filter(|team| team.has(*one));
                    own.map(|team| format!(" {}={}", user(*one), team.name(&self.names.history))).collect::<Vec<_>>()
                });
                let name = old.full_name(&self.names.history);
                format!("edit {verdict} {} {name} '{spec}'{}", user(*who), people.collect::<String>())
            }
            other => {
                // What is left are patches of one object.
                let call = request(&self.names, &self.model, other, &Value::Null);
                let target = patched(other).expect("everything else has a form of its own");
                let body = escaped(&call.body.unwrap_or_default());
                format!("expect {verdict} {by} patch {} --type=merge -p \"{body}\"", self.at(target))
            }
        };
        self.line(&line);
    }

    fn approving(&self, verdict: &str, by: &str, target: Target, draft: &Draft) -> String {
        let kept = draft.beside && self.model.papers(target).is_some_and(|papers| papers.presented);
        let flags: String = [(kept, 'k'), (draft.presented, 'l'), (draft.own_act, 'm'), (draft.smuggled, 's')]
            .into_iter()
            .filter_map(|(is_so, flag)| is_so.then_some(flag))
            .chain(['-'])
            .collect();
        let statement = self.model.statement(target, draft);
        format!("present {verdict} {by} {flags} {} \"{}\"", self.object(target), self.statement(&statement))
    }

    /// With variables for UIDs, and times of its own.
    fn statement(&self, statement: &Statement) -> String {
        let mut fields = self.names.statement(statement);
        let own = fields.as_object_mut().expect("an object");
        own.remove("approvedAt");
        own.remove("expires");
        let protects = own.remove("protects");
        let mut text = escaped(&fields);
        text = text.trim_start_matches('{').trim_end_matches('}').to_owned();
        if protects.is_some() {
            let uids: Vec<String> = statement.protects.iter().flatten().map(|id| format!("$uid_{id}")).collect();
            write!(text, ",\\\"protects\\\":$(protects {})", uids.join(" ")).expect("a string takes it");
        }
        let (ago, left) = match statement.draft.life {
            Life::Good => (0, 25),
            Life::Long => (0, 45),
            Life::Over => (9, -5),
        };
        format!("$(statement \"{text}\" {ago} {left})")
    }

    fn end(&mut self) {
        self.line("\n# What has to be there at the end.\nsleep 2");
        for target in self.everything() {
            if let Some(id) = self.model.id(target).filter(|id| *id != NOBODY) {
                let line = format!("there \"$uid_{id}\" {}", self.object(target));
                self.line(&line);
            }
        }
        self.line("exit $differs");
    }
}

fn patched(operation: &Operation) -> Option<Target> {
    match operation {
        Operation::Mark { key, .. }
        | Operation::Scale { key, .. }
        | Operation::Suspend { key, .. }
        | Operation::Own { key, .. }
        | Operation::Hold { key, .. }
        | Operation::Empty { key, .. }
        | Operation::Fill { key, .. } => Some(Target::Object(*key)),
        Operation::Select { place, .. } => Some(Target::Namespace(*place)),
        Operation::Present { target, .. } | Operation::Withdraw { target, .. } => Some(*target),
        _ => None,
    }
}

/// For a shell, between double quotes; variables stay what they are.
fn escaped(value: &Value) -> String {
    value.to_string().replace('\\', "\\\\").replace('"', "\\\"")
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "''".to_owned() } else { text.to_owned() }
}

fn user(user: User) -> &'static str {
    match user {
        User::Admin => "admin",
        User::Alice => "alice",
        User::Bob => "bob",
        User::Carol => "carol",
        User::Ci => "ci",
        User::Agent => "agent",
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passes => "passes".to_owned(),
        Verdict::Denied(action, _) => format!("denied:{}", action.name()),
        Verdict::NotAccepted => "not-accepted".to_owned(),
        Verdict::NotFound => "not-found".to_owned(),
        Verdict::Exists => "exists".to_owned(),
        Verdict::Conflict => "conflict".to_owned(),
        Verdict::Invalid => "invalid".to_owned(),
        Verdict::Terminating => "terminating".to_owned(),
    }
}
