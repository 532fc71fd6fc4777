//! What was decided: for the log, metrics, the audit log, Events and notifications.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tracing::{Span, info, warn};

use super::{RuleNameLabels, Telemetry};
use crate::api::{Action, Mode, printable};
use crate::cluster::{Announced, Announcement};
use crate::guard::{Because, Decision, Request, Rule, Subject, Verdict, approve_command, request_id};
use crate::notify::{Data, Kind, Notification, Unconfirmed};

#[derive(Default)]
pub(super) struct Decisions {
    decisions: Family<DecisionLabels, Counter>,
    broken_glass: Family<RuleNameLabels, Counter>,
}

/// Labels come from rules, never from a review: reviews can be forged, and every value is a time series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    rule: String,
    action: &'static str,
    resource: String,
    verdict: VerdictLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct VerdictLabel(Verdict);

impl EncodeLabelValue for VerdictLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

/// A request was decided.
pub struct Decided<'a, 'r> {
    /// The rule whose entry was called.
    pub called: &'a str,
    pub request: &'a Request<'a>,
    pub decision: &'a Decision<'r>,
    /// The version and kind in which the review has the object.
    pub version: &'a str,
    pub kind: &'a str,
    pub dry_run: bool,
}

/// A request was judged by itself alone: no rule was weighed, or one, and nobody can approve it.
pub struct Unweighed<'a> {
    pub rule: Option<&'a Rule>,
    pub action: &'static str,
    pub subject: &'a Subject<'a>,
    pub requester: &'a str,
    pub verdict: Verdict,
    pub because: &'a str,
    pub dry_run: bool,
}

/// What people are told, where they are told at all.
struct Told {
    kind: Kind,
    message: String,
    /// The reason of the Event, if there is to be one.
    event: Option<&'static str>,
}

/// The annotation of the audit log that names who passed a rule alone.
pub const BREAK_GLASS: &str = "break-glass";

impl Decisions {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("decisions", "Requests decided, by the rule that was asked", self.decisions.clone());
        registry.register(
            "break_glass",
            "Requests let pass in an emergency, by the rule that was asked",
            self.broken_glass.clone(),
        );
    }

    fn count(&self, rule: &str, action: &'static str, resource: &str, verdict: Verdict) {
        let (rule, resource, verdict) = (rule.to_owned(), resource.to_owned(), VerdictLabel(verdict));
        self.decisions.get_or_create(&DecisionLabels { rule, action, resource, verdict }).inc();
    }
}

impl Decided<'_, '_> {
    /// The annotations of the API server's audit log.
    pub fn audit(&self) -> BTreeMap<&'static str, String> {
        let decision = self.decision;
        let verdict = decision.verdict.as_str().to_owned();
        let mut audit = BTreeMap::from([("verdict", verdict), ("because", because(decision))]);
        if decision.because == Because::Unapproved {
            audit.insert("action", self.request.action.as_str().to_owned());
            audit.insert("request", request_id(self.request));
            audit.insert("rules", names(decision).join(","));
        }
        if !decision.broke_glass.is_empty() {
            audit.insert(BREAK_GLASS, decision.broke_glass.join(","));
        }
        audit
    }

    /// Waits for nothing beyond this time: what was decided has to be answered.
    pub async fn emit(&self, telemetry: &Telemetry, by: Instant) {
        let id = request_id(self.request);
        self.count_and_log(telemetry, &id);
        // Of the trace, where there is one: what is bounded, and no names of objects.
        let span = Span::current();
        span.record("rule", self.called);
        span.record("action", self.request.action.as_str());
        span.record("verdict", self.decision.verdict.as_str());
        let Some(told) = self.told(&id).filter(|_| !self.dry_run) else { return };
        let is_wanted = telemetry.notifier.wants(told.kind);
        if told.event.is_none() && !is_wanted {
            return;
        }
        let object = self.object();
        let passed = !matches!(told.kind, Kind::Denied | Kind::WouldDeny);
        // What passes is gone a moment later. Of what returns Tagout itself wrote down that it was there.
        let returns = self.request.action == Action::Recreate;
        let stands = if passed && !returns { telemetry.announcer.stands(&object, by).await } else { Some(true) };
        if is_wanted {
            telemetry.notifier.tell(&self.notification(&told, id, stands));
        }
        if let Some(reason) = told.event.filter(|_| stands != Some(false)) {
            telemetry.announcer.announce(Announcement {
                object,
                reason,
                action: self.request.action.as_str(),
                note: told.message,
                seen: passed || returns,
                urgent: passed,
            });
        }
    }

    fn count_and_log(&self, telemetry: &Telemetry, id: &str) {
        let Self { called: rule, request, decision, dry_run, .. } = *self;
        let (subject, requester, action) = (&request.subject, request.requester.name, request.action.as_str());
        if !decision.broke_glass.is_empty() && !dry_run {
            telemetry.decisions.broken_glass.get_or_create(&RuleNameLabels { rule: rule.to_owned() }).inc();
            warn!(
                event = "break_glass",
                request = id,
                people = decision.broke_glass.join(","),
                rule,
                action,
                kind = subject.kind(),
                namespace = &*subject.namespace,
                name = &*subject.name,
                uid = &*subject.uid,
                requester,
                "an emergency: a rule was passed by one person alone"
            );
        }
        Line {
            id,
            rule,
            action,
            resource: label(&decision.rules, subject),
            subject,
            requester,
            verdict: decision.verdict,
            because: &because(decision),
            dry_run,
        }
        .write(telemetry);
    }

    /// What people should find with the object, and hear of: that it was asked for, and how it passed.
    fn told(&self, id: &str) -> Option<Told> {
        let Self { request, decision, .. } = self;
        let action = request.action.as_str();
        // Names last and cut: an Event's note is 1 kB.
        let short = |names: &str| printable(&names.chars().take(256).collect::<String>());
        let requester = short(request.requester.name);
        if !decision.broke_glass.is_empty() {
            let people = short(&decision.broke_glass.join(", "));
            let message =
                format!("{action} was let pass in an emergency by {people} alone. Request: {id} by {requester}");
            return Some(Told { kind: Kind::BrokeGlass, message, event: Some("BreakGlass") });
        }
        match (decision.verdict, &decision.because) {
            (Verdict::Deny, _) => {
                let message = self.refusal(id, &requester);
                Some(Told { kind: Kind::Denied, message, event: Some("ApprovalRequired") })
            }
            (Verdict::Audit | Verdict::Warn, _) => {
                let rules = short(&names(decision).join(", "));
                let message = format!(
                    "{action} was let pass and would be refused in mode Enforce by {rules}. Request: {id} by {requester}"
                );
                Some(Told { kind: Kind::WouldDeny, message, event: None })
            }
            // What only follows from something that was approved is told with that.
            (Verdict::Allow, Because::Approved(people)) if !decision.counted.is_empty() => {
                let kind = if request.action == Action::Loosen { Kind::Loosened } else { Kind::Approved };
                let people = short(&people.join(", "));
                let message = format!("{action} was let pass, approved by {people}. Request: {id} by {requester}");
                Some(Told { kind, message, event: None })
            }
            (Verdict::Allow, _) => None,
        }
    }

    fn refusal(&self, id: &str, requester: &str) -> String {
        let Self { request, decision, .. } = self;
        let why = if decision.unmet.is_empty() && !decision.kept.is_empty() {
            "no approval lets it pass now"
        } else {
            "it needs a person's approval"
        };
        let change = request.change.as_ref().map(|change| format!("newSpec {}. ", change.new_spec)).unwrap_or_default();
        let kept = if request.by_garbage_collector() {
            "Its owner is gone or going, and nobody approved that this goes too: give it a living owner, or approve. "
        } else {
            ""
        };
        format!(
            "{} was refused: {why}. {kept}Look at it with kubectl tagout review {id}. \
             {change}Request: {id} by {requester}",
            request.action.as_str()
        )
    }

    /// `stands`: whether there is such an object, where that is known.
    fn notification(&self, told: &Told, id: String, stands: Option<bool>) -> Notification {
        let Self { called, request, decision, .. } = self;
        let subject = &request.subject;
        let mut rules = names(decision);
        if rules.is_empty() {
            rules.extend((!called.is_empty()).then(|| (*called).to_owned()));
        }
        let people = match &decision.because {
            _ if !decision.broke_glass.is_empty() => decision.broke_glass.clone(),
            Because::Approved(people) => people.clone(),
            _ => Vec::new(),
        };
        let unmet = decision.unmet.iter().flat_map(|unmet| &unmet.missing);
        let mode = decision.unmet.iter().map(|unmet| unmet.mode);
        let mode = mode.chain(decision.kept.iter().map(|kept| kept.rule.mode)).max();
        let approve = approve_command(request, decision).filter(|_| decision.verdict == Verdict::Deny);
        let data = Data {
            message: told.message.clone(),
            request: id,
            rules,
            action: request.action.as_str(),
            mode: mode.map_or("", in_words),
            kind: subject.kind(),
            namespace: subject.namespace.to_string(),
            name: subject.name.to_string(),
            uid: subject.uid.to_string(),
            requester: request.requester.name.to_owned(),
            people,
            missing: unmet.map(ToString::to_string).collect(),
            approve: approve.unwrap_or_default(),
            because: because(decision),
            broke_glass: told.kind == Kind::BrokeGlass,
            unconfirmed: match stands {
                Some(true) => None,
                Some(false) => Some(Unconfirmed::NotFound),
                None => Some(Unconfirmed::Unknown),
            },
            ..Data::default()
        };
        Notification::new(told.kind, Timestamp::now(), data)
    }

    /// The object as the API server knows it.
    fn object(&self) -> Announced {
        let subject = &self.request.subject;
        Announced {
            group: subject.group.to_string(),
            version: self.version.to_owned(),
            kind: kind_of(subject, self.kind),
            plural: subject.resource.to_string(),
            namespace: subject.namespace.to_string(),
            name: subject.name.to_string(),
            uid: subject.uid.to_string(),
        }
    }
}

/// What every decision leaves in metrics and log.
struct Line<'a> {
    id: &'a str,
    rule: &'a str,
    action: &'static str,
    /// For the metric: what the rule names, not what the review says.
    resource: &'a str,
    subject: &'a Subject<'a>,
    requester: &'a str,
    verdict: Verdict,
    because: &'a str,
    dry_run: bool,
}

impl Line<'_> {
    fn write(&self, telemetry: &Telemetry) {
        let Self { id, rule, action, resource, subject, requester, verdict, because, dry_run } = *self;
        telemetry.decisions.count(rule, action, resource, verdict);
        info!(
            event = "decided",
            request = id,
            verdict = verdict.as_str(),
            because,
            rule,
            action,
            kind = subject.kind(),
            namespace = &*subject.namespace,
            name = &*subject.name,
            uid = &*subject.uid,
            requester,
            dry_run,
        );
    }
}

impl Unweighed<'_> {
    /// The annotations of the API server's audit log.
    pub fn audit(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([("verdict", self.verdict.as_str().to_owned())])
    }

    pub fn emit(&self, telemetry: &Telemetry) {
        let Self { rule, action, subject, requester, verdict, because, dry_run } = *self;
        let resource = rule.map_or("other", |rule| label(&[rule], subject));
        let rule = rule.map_or("", |rule| rule.name.as_str());
        Line { id: "", rule, action, resource, subject, requester, verdict, because, dry_run }.write(telemetry);
        let told = match verdict {
            Verdict::Allow => return,
            Verdict::Deny => Kind::Denied,
            Verdict::Audit | Verdict::Warn => Kind::WouldDeny,
        };
        if dry_run || !telemetry.notifier.wants(told) {
            return;
        }
        let what = if told == Kind::Denied { "was refused" } else { "would be refused in mode Enforce" };
        let requester: String = requester.chars().take(256).collect();
        let data = Data {
            message: format!("{action} {what}: {because}. Asked for by {requester}"),
            rules: Some(rule.to_owned()).filter(|rule| !rule.is_empty()).into_iter().collect(),
            action,
            namespace: subject.namespace.to_string(),
            name: subject.name.to_string(),
            uid: subject.uid.to_string(),
            because: because.to_owned(),
            kind: subject.kind(),
            requester: requester.clone(),
            ..Data::default()
        };
        let notification = Notification::new(told, Timestamp::now(), data);
        telemetry.notifier.tell(&notification.distinct_by(format!("{action} {requester}")));
    }
}

fn in_words(mode: Mode) -> &'static str {
    match mode {
        Mode::Audit => "Audit",
        Mode::Warn => "Warn",
        Mode::Enforce => "Enforce",
    }
}

/// What is asked of a `Scale` or of a ReplicaSet is decided of what it belongs to.
fn kind_of(subject: &Subject, kind: &str) -> String {
    match &*subject.resource {
        "deployments" => "Deployment",
        "statefulsets" => "StatefulSet",
        "pods" => "Pod",
        _ => kind,
    }
    .to_owned()
}

/// The kind as a rule names it: labels of metrics never come from a review.
fn label<'r>(rules: &[&'r Rule], subject: &Subject) -> &'r str {
    let named = rules.iter().flat_map(|rule| rule.kinds());
    named
        .filter(|(group, resource)| *group == subject.group && *resource == subject.resource)
        .map(|(_, resource)| resource)
        .next()
        .unwrap_or("other")
}

/// The rules that would have it otherwise.
fn names(decision: &Decision) -> Vec<String> {
    let unmet = decision.unmet.iter().flat_map(|unmet| &unmet.rules);
    let kept = decision.kept.iter().map(|kept| &kept.rule);
    let mut names: Vec<_> = unmet.chain(kept).map(|rule| rule.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn because(decision: &Decision) -> String {
    match &decision.because {
        Because::AlreadyTerminating => "already terminating".to_owned(),
        Because::NamespaceTerminating => "its namespace is terminating".to_owned(),
        Because::NotCovered => "no rule covers it".to_owned(),
        Because::Empty => "there is nothing of its kind".to_owned(),
        Because::Tolerated => "so little is tolerated".to_owned(),
        Because::Approved(people) => format!("approved by {}", people.join(", ")),
        Because::WithinAllowance => "within the allowance".to_owned(),
        Because::ToBeCounted => "it could not be counted".to_owned(),
        Because::Unapproved if decision.unmet.is_empty() => "a freeze or a budget keeps it".to_owned(),
        Because::Unapproved => "not approved".to_owned(),
    }
}
