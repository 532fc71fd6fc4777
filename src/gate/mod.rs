//! One request's way through: read, ask what is needed, gather it, decide, answer.

mod approvals;
mod claims;
mod convert;
mod loosen;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::api::{Mode, Statement, printable};
use crate::cluster::{Announced, Announcement, Announcer, Cluster, Loaded, NotLoaded};
use crate::guard::{
    Because, Beside, Decision, Facts, Needs, NoDecision, Request, Rule, Rules, Subject, Verdict, decide, denial, needs,
    request_id, warning,
};
use crate::review::{self, Answer, Cause, Denied, Malformed, MetadataRequest, Operation, Resource};
use crate::telemetry::{Decided, Failed, Telemetry};

pub struct Gate {
    cluster: Arc<Cluster>,
    announcer: Announcer,
    looking: Semaphore,
    telemetry: Arc<Telemetry>,
}

/// Why a call gets no answer. The API server then follows the entry's failure policy: closed, where a rule enforces.
#[derive(Debug, Error)]
pub enum Unanswered {
    #[error("tagout: {0}")]
    Malformed(#[from] Malformed),
    #[error("tagout: {0}")]
    NotLoaded(#[from] NotLoaded),
    #[error("tagout: {0}")]
    NoDecision(#[from] NoDecision),
}

/// Calls that read from the API server at the same time. A review can be forged, and each such call is several
/// requests; the rest wait, within their deadline.
const LOOKING: usize = 8;

/// How long a call waits for a replica to hear of a rule that is in force already.
const NEWS: Duration = Duration::from_secs(2);

/// How old what is known of rules and teams may be when it lets something pass.
const FRESH: Duration = Duration::from_secs(5);

impl Gate {
    pub fn new(cluster: Arc<Cluster>, announcer: Announcer, telemetry: Arc<Telemetry>) -> Self {
        Self { cluster, announcer, looking: Semaphore::new(LOOKING), telemetry }
    }

    /// A call of the entry of a rule.
    pub async fn rule(&self, called: &str, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        self.counted(self.decide_rule(called, body).await)
    }

    /// A call of the entry that sees approvals being written.
    pub async fn approvals(&self, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        self.counted(self.decide_approvals(body).await)
    }

    /// A call of the entry that sees rules, teams and definitions being changed.
    pub async fn loosen(&self, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        self.counted(self.decide_loosen(body).await)
    }

    fn counted(&self, outcome: Result<Vec<u8>, Unanswered>) -> Result<Vec<u8>, Unanswered> {
        if let Err(unanswered) = &outcome {
            let reason = match unanswered {
                Unanswered::Malformed(_) => "malformed",
                Unanswered::NotLoaded(_) => "not_loaded",
                Unanswered::NoDecision(_) => "no_decision",
            };
            self.failed(reason, &unanswered.to_string());
        }
        outcome
    }

    /// Counts and logs a call that got no answer.
    pub fn failed(&self, reason: &'static str, detail: &str) {
        Failed { reason, detail }.emit(&self.telemetry);
    }

    async fn decide_rule(&self, called: &str, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let review: MetadataRequest = review::read(body)?;
        let mut loaded = self.cluster.rules.current()?;
        if matches!(loaded.rules.called(called), Err(NoDecision::UnknownRule(_))) {
            loaded = self.cluster.rules.renewed(NEWS).await?;
        }
        if review.operation == Operation::Update {
            return self.decide_claim(loaded.rules.called(called)?, &review);
        }
        let request = convert::deletion(&review)?;
        loop {
            let needs = needs(&request, called, &loaded.rules)?;
            let cached = Facts { namespace: self.cluster.cached_namespace(&needs.namespace), ..Facts::default() };
            let decision = self.decided(&request, &needs, &loaded.rules, cached).await;
            // A person or a key may have left a team, or an approval been revoked: what lets pass is known for certain.
            let approved = matches!(decision.because, Because::Approved(_));
            if approved && loaded.age() > FRESH {
                drop((decision, needs));
                loaded = self.fresh().await?;
                continue;
            }
            self.announce(called, &review, &request, &decision).await;
            return Ok(answer(&review.uid, &review.resource, &request, &decision).to_json());
        }
    }

    /// Rules and teams as they are now.
    async fn fresh(&self) -> Result<Arc<Loaded>, NotLoaded> {
        let loaded = self.cluster.rules.renewed(NEWS).await?;
        if loaded.age() > FRESH { Err(NotLoaded::Stale(loaded.age().as_secs())) } else { Ok(loaded) }
    }

    /// Decides by what is at hand, and before refusing by what the API server knows.
    async fn decided<'r>(
        &self,
        request: &Request<'_>,
        needs: &Needs<'r>,
        rules: &'r Rules,
        cached: Facts,
    ) -> Decision<'r> {
        let decision = decide(request, needs, rules, &cached, Timestamp::now());
        if decision.because != Because::Unapproved {
            return decision;
        }
        let facts = self.live_facts(request, needs, cached).await;
        decide(request, needs, rules, &facts, Timestamp::now())
    }

    async fn live_facts(&self, request: &Request<'_>, needs: &Needs<'_>, cached: Facts) -> Facts {
        let _place = self.looking.acquire().await;
        let cluster = &self.cluster;
        let namespace = async {
            let live = if needs.namespace.is_empty() { None } else { cluster.live_namespace(&needs.namespace).await };
            let Some((fact, subject)) = live else { return (cached.namespace, None, Ok(Vec::new())) };
            let approval = cluster.approval(request.action, &subject).await;
            (Some(fact), Some(subject), approval)
        };
        let owners = needs.owners.iter().map(|owner| cluster.owner(owner, &needs.namespace));
        let (namespace, owners, approval, epoch) = tokio::join!(
            namespace,
            futures::future::join_all(owners),
            cluster.approval(request.action, &request.subject),
            cluster.epoch()
        );
        let (namespace, contents, namespace_approval) = namespace;
        let mut unknown = Vec::new();
        let mut known = |said: Result<Vec<Statement>, String>| {
            said.unwrap_or_else(|reason| {
                unknown.push(reason);
                Vec::new()
            })
        };
        let beside = Beside { approval: known(approval), namespace_approval: known(namespace_approval) };
        unknown.dedup();
        Facts { namespace, owners, contents, beside, proposed: cached.proposed, epoch, unknown }
    }

    async fn announce<O>(
        &self,
        called: &str,
        review: &review::Request<'_, O>,
        request: &Request<'_>,
        decision: &Decision<'_>,
    ) {
        let subject = &request.subject;
        Decided {
            request: request_id(request),
            rule: called,
            resource_label: label(&decision.rules, subject),
            because: reason(&decision.because),
            broke_glass: &decision.broke_glass,
            ..decided(request, decision.verdict, review.dry_run)
        }
        .emit(&self.telemetry);
        if let Some((reason, note)) = worth_an_event(request, decision).filter(|_| !review.dry_run) {
            let resource = &review.resource;
            let object = Announced {
                group: resource.group.to_string(),
                version: resource.version.to_string(),
                kind: review.kind.kind.to_string(),
                plural: resource.resource.to_string(),
                namespace: subject.namespace.to_string(),
                name: subject.name.to_string(),
                uid: subject.uid.to_string(),
            };
            // What passes is gone a moment later.
            let seen = decision.verdict == Verdict::Allow;
            if seen && !self.announcer.stands(&object).await {
                return;
            }
            self.announcer.announce(Announcement { object, reason, action: request.action.as_str(), note, seen });
        }
    }
}

/// What is to be told of every decision; by which rule and why is left to be said.
fn decided<'a>(request: &'a Request, verdict: Verdict, dry_run: bool) -> Decided<'a> {
    let subject = &request.subject;
    Decided {
        request: String::new(),
        rule: "",
        resource_label: "other",
        action: request.action.as_str(),
        kind: subject.kind(),
        namespace: &subject.namespace,
        name: &subject.name,
        uid: &subject.uid,
        requester: request.requester.name,
        verdict,
        because: String::new(),
        broke_glass: &[],
        dry_run,
    }
}

/// What people should find with the object: that it was asked for, or that somebody broke glass.
fn worth_an_event(request: &Request, decision: &Decision) -> Option<(&'static str, String)> {
    let id = request_id(request);
    let action = request.action.as_str();
    // Names last and cut: an Event's note is 1 kB.
    let requester: String = printable(request.requester.name).chars().take(256).collect();
    if !decision.broke_glass.is_empty() {
        let people: String = printable(&decision.broke_glass.join(", ")).chars().take(256).collect();
        return Some((
            "BreakGlass",
            format!("{action} was let pass in an emergency by {people} alone. Request: {id} by {requester}"),
        ));
    }
    (decision.verdict == Verdict::Deny).then(|| {
        let change = request.change.as_ref().map(|change| format!("newSpec {}. ", change.new_spec)).unwrap_or_default();
        let note = format!(
            "{action} was refused: it needs a person's approval. Look at it with kubectl tagout review {id}. \
             {change}Request: {id} by {requester}"
        );
        ("ApprovalRequired", note)
    })
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

fn answer<'a>(uid: &'a str, resource: &'a Resource, request: &'a Request, decision: &Decision) -> Answer<'a> {
    let subject = &request.subject;
    let denied = (decision.verdict == Verdict::Deny).then(|| Denied {
        message: denial(request, decision),
        group: &resource.group,
        resource: &resource.resource,
        name: &subject.name,
        object_uid: &subject.uid,
        causes: causes(decision),
    });
    let mut audit =
        BTreeMap::from([("verdict", decision.verdict.as_str().to_owned()), ("because", reason(&decision.because))]);
    if decision.because == Because::Unapproved {
        audit.insert("request", request_id(request));
        audit.insert("rules", names(decision));
    }
    if !decision.broke_glass.is_empty() {
        audit.insert("break-glass", decision.broke_glass.join(","));
    }
    Answer { uid, denied, warnings: warning(request, decision).into_iter().collect(), audit }
}

/// For machines: one cause for each rule that refuses.
fn causes(decision: &Decision) -> Vec<Cause> {
    let enforced = decision.unmet.iter().filter(|unmet| unmet.mode == Mode::Enforce);
    enforced
        .flat_map(|unmet| &unmet.rules)
        .map(|rule| Cause { reason: "ApprovalRequired", message: format!("rule {}", rule.name) })
        .collect()
}

fn names(decision: &Decision) -> String {
    let names: Vec<_> = decision.unmet.iter().flat_map(|unmet| &unmet.rules).map(|rule| rule.name.as_str()).collect();
    names.join(",")
}

fn reason(because: &Because) -> String {
    match because {
        Because::AlreadyTerminating => "already terminating".to_owned(),
        Because::NamespaceTerminating => "its namespace is terminating".to_owned(),
        Because::NotCovered => "no rule covers it".to_owned(),
        Because::Approved(people) => format!("approved by {}", people.join(", ")),
        Because::Unapproved => "not approved".to_owned(),
    }
}
