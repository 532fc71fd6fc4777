//! One request's way through: read, ask what is needed, gather it, decide, answer.

mod approvals;
mod claims;
mod convert;
mod deletions;
mod loosen;
mod updates;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::api::{Mode, RuleFailurePolicy, Statement, printable};
use crate::cluster::{Announced, Announcement, Announcer, Cluster, LiveNamespace, Loaded, NotLoaded};
use crate::guard::{
    Because, Beside, Decision, Facts, NamespaceFact, Needs, NoDecision, Request, Rule, Rules, Subject, Verdict, decide,
    denial, request_id, warning,
};
use crate::review::{self, Answer, Cause, Denied, Malformed, Operation, RawRequest, Resource};
use crate::telemetry::{Decided, Failed, Telemetry};

pub use crate::guard::Called;

pub struct Gate {
    cluster: Arc<Cluster>,
    announcer: Announcer,
    looking: Semaphore,
    telemetry: Arc<Telemetry>,
}

/// What has become of a request.
struct Outcome {
    answer: Vec<u8>,
    /// Whether people's approval let it pass.
    approved: bool,
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

/// Given back so that a refusal for want of time arrives in time.
const TO_REFUSE: Duration = Duration::from_millis(200);

/// How old what is known of rules and teams may be when it lets something pass.
const FRESH: Duration = Duration::from_secs(5);

impl Gate {
    pub fn new(cluster: Arc<Cluster>, announcer: Announcer, telemetry: Arc<Telemetry>) -> Self {
        Self { cluster, announcer, looking: Semaphore::new(LOOKING), telemetry }
    }

    /// A call of the entry of a rule.
    pub async fn rule(&self, called: Called<'_>, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Unanswered> {
        self.counted(Box::pin(self.decide_rule(called, body, deadline)).await)
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

    async fn decide_rule(&self, called: Called<'_>, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Unanswered> {
        let review: RawRequest = review::read(body)?;
        let mut loaded = self.cluster.rules.current()?;
        if matches!(loaded.rules.called(called.rule()), Err(NoDecision::UnknownRule(_))) {
            loaded = self.cluster.rules.renewed(NEWS).await?;
        }
        let in_time = deadline.checked_sub(TO_REFUSE).unwrap_or(deadline);
        let decided = tokio::time::timeout_at(in_time, self.decide_by(called, &review, loaded.clone(), deadline)).await;
        let undecided = match decided {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Unanswered::Malformed(malformed))) => return Err(malformed.into()),
            Ok(Err(undecided)) => undecided,
            Err(_) => NoDecision::TooLate.into(),
        };
        // The entry may be one that lets pass what gets no answer: that is for when Tagout is away, and it is not.
        let rule = loaded.rules.called(called.rule());
        let refuses =
            rule.is_ok_and(|rule| rule.mode == Mode::Enforce && rule.spec.failure_policy == RuleFailurePolicy::Fail);
        if !refuses {
            return Err(undecided);
        }
        self.failed("undecided", &undecided.to_string());
        Ok(cannot_be_decided(&review, &undecided).to_json())
    }

    async fn decide_by(
        &self,
        called: Called<'_>,
        review: &RawRequest<'_>,
        mut loaded: Arc<Loaded>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Unanswered> {
        let began = Instant::now();
        loop {
            let outcome = match review.operation {
                Operation::Delete => self.deletion(called, review, &loaded.rules, deadline).await?,
                Operation::Update => self.update(called, review, &loaded.rules).await?,
                Operation::Create => self.eviction(called, review, &loaded.rules).await?,
                Operation::Connect => return Err(Malformed::OtherOperation("DELETE, UPDATE and eviction").into()),
            };
            // A person or a key may have left a team, or an approval been revoked: what lets pass is known for certain.
            if outcome.approved && loaded.age() > began.elapsed() {
                loaded = self.fresh().await?;
                continue;
            }
            return Ok(outcome.answer);
        }
    }

    /// Rules and teams as they are now.
    async fn fresh(&self) -> Result<Arc<Loaded>, NotLoaded> {
        let loaded = self.cluster.rules.renewed(NEWS).await?;
        if loaded.age() > FRESH { Err(NotLoaded::Stale(loaded.age().as_secs())) } else { Ok(loaded) }
    }

    /// Decides by what the API server knows, but for what goes along.
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
            match cluster.live_namespace(&needs.namespace).await {
                LiveNamespace::Unknown => (cached.namespace, None, Ok(Vec::new())),
                // Nothing selects it by its labels any more.
                LiveNamespace::Gone => (Some(NamespaceFact::default()), None, Ok(Vec::new())),
                LiveNamespace::Found(fact, subject) => {
                    let approval = cluster.approval(request.action, &subject).await;
                    (Some(fact), Some(*subject), approval)
                }
            }
        };
        let owners = needs.owners.iter().map(|owner| cluster.owner(owner, &request.subject.namespace));
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
        Facts { namespace, owners, contents, beside, proposed: cached.proposed, epoch, unknown, ..Facts::default() }
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
                group: subject.group.to_string(),
                version: resource.version.to_string(),
                kind: kind_of(subject, &review.kind.kind),
                plural: subject.resource.to_string(),
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
        let kept = if request.by_garbage_collector() {
            "Its owner is gone or going, and nobody approved that this goes too: give it a living owner, or approve. "
        } else {
            ""
        };
        let note = format!(
            "{action} was refused: it needs a person's approval. {kept}Look at it with kubectl tagout review {id}. \
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

/// A refusal of what may be harmless, because nobody could tell.
fn cannot_be_decided<'a>(review: &'a RawRequest, undecided: &Unanswered) -> Answer<'a> {
    let reason = printable(&undecided.to_string());
    Answer {
        uid: &review.uid,
        denied: Some(Denied {
            causes: vec![Cause { reason: "Undecided", message: reason.clone() }],
            message: reason,
            group: &review.resource.group,
            resource: &review.resource.resource,
            name: &review.name,
            object_uid: "",
        }),
        warnings: Vec::new(),
        audit: BTreeMap::from([("verdict", "deny".to_owned()), ("because", "it could not be decided".to_owned())]),
    }
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
        Because::Empty => "there is nothing of its kind".to_owned(),
        Because::Tolerated => "so little is tolerated".to_owned(),
        Because::Approved(people) => format!("approved by {}", people.join(", ")),
        Because::Unapproved => "not approved".to_owned(),
    }
}
