//! One request's way through: read, ask what is needed, gather it, decide, answer.

mod approvals;
mod claims;
mod convert;
mod deletions;
mod loosen;
mod places;
mod returns;
mod updates;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{Instrument, Span, field, info_span};

use crate::api::{Action, Mode, RuleFailurePolicy, Statement, printable};
use crate::cluster::{Cluster, LiveNamespace, Loaded, NotLoaded};
use crate::guard::{
    Because, Beside, Decision, Facts, NamespaceFact, Needs, NoDecision, Request, Rule, Rules, Verdict, Why, decide,
    denial, warning,
};
use crate::review::{self, Answer, Cause, Denial, Denied, Gist, Malformed, Operation, RawRequest, Resource};
use crate::telemetry::{Decided, Failed, Telemetry};

pub use crate::guard::Called;

pub struct Gate {
    cluster: Arc<Cluster>,
    looking: Semaphore,
    returning: Semaphore,
    telemetry: Arc<Telemetry>,
}

/// What a request is decided by.
#[derive(Clone, Copy)]
struct Known<'r> {
    rules: &'r Rules,
    /// Whether rules and teams were read after the request had come: a person or a key may have left a team, or an
    /// approval been revoked.
    certain: bool,
    deadline: Instant,
}

/// What has become of a request.
enum Outcome {
    Answer(Vec<u8>),
    /// It would pass, or have to be counted, by rules and teams of which it is not certain that they still say so. Nothing
    /// was written down, and nobody was told.
    Uncertain,
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
    pub fn new(cluster: Arc<Cluster>, telemetry: Arc<Telemetry>) -> Self {
        let [looking, returning] = [LOOKING, LOOKING].map(Semaphore::new);
        Self { cluster, looking, returning, telemetry }
    }

    /// A call of the entry of a rule.
    pub async fn rule(&self, called: Called<'_>, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Unanswered> {
        self.counted(Box::pin(self.decide_rule(called, body, deadline)).instrument(span("rule")).await)
    }

    /// A call of an entry that sees what may be a return of what was destroyed.
    pub async fn returns(&self, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Unanswered> {
        self.counted(Box::pin(self.decide_return(body, deadline)).instrument(span("returns")).await)
    }

    /// A call of the entry that sees approvals being written.
    pub async fn approvals(&self, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        self.counted(self.decide_approvals(body).instrument(span("approvals")).await)
    }

    /// A call of the entry that sees rules, teams and definitions being changed.
    pub async fn loosen(&self, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        self.counted(self.decide_loosen(body).instrument(span("loosen")).await)
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
        let mut loaded = self.cluster.rules.current()?;
        if matches!(loaded.rules.called(called.rule()), Err(NoDecision::UnknownRule(_))) {
            loaded = self.cluster.rules.renewed(NEWS).await?;
        }
        let (operation, undecided) = match review::read::<&RawValue>(body) {
            Ok(review) => {
                let in_time = deadline.checked_sub(TO_REFUSE).unwrap_or(deadline);
                let deciding = self.decide_by(called, &review, loaded.clone(), deadline);
                match tokio::time::timeout_at(in_time, deciding).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(undecided)) => (Some(review.operation), undecided),
                    Err(_) => (Some(review.operation), NoDecision::TooLate.into()),
                }
            }
            Err(malformed) => (None, malformed.into()),
        };
        // The entry may be one that lets pass what gets no answer: that is for when Tagout is away, and it is not. What
        // cannot be read may have been made so.
        let rule = loaded.rules.called(called.rule());
        // What a rule only remembers it refuses in no case.
        let guards = |rule: &Rule| operation != Some(Operation::Delete) || rule.actions.contains(&Action::Delete);
        let fails_closed = |rule: &Rule| rule.spec.failure_policy == RuleFailurePolicy::Fail && guards(rule);
        let refuses = rule.is_ok_and(|rule| rule.mode == Mode::Enforce && fails_closed(rule));
        let Some(gist) = review::gist(body).filter(|_| refuses) else { return Err(undecided) };
        self.failed("undecided", &undecided.to_string());
        Ok(cannot_be_decided(&gist, &undecided).to_json())
    }

    async fn decide_by(
        &self,
        called: Called<'_>,
        review: &RawRequest<'_>,
        mut loaded: Arc<Loaded>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Unanswered> {
        let began = Instant::now();
        let mut along = None;
        loop {
            let known = Known::of(&loaded, began, deadline);
            let outcome = match review.operation {
                Operation::Delete => self.deletion(called, review, known, &mut along).await?,
                Operation::Update => self.update(called, review, known).await?,
                Operation::Create => self.eviction(called, review, known).await?,
                Operation::Connect => return Err(Malformed::OtherOperation("DELETE, UPDATE and eviction").into()),
            };
            match outcome {
                Outcome::Answer(answer) => return Ok(answer),
                Outcome::Uncertain => loaded = self.fresh().await?,
            }
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
        let decision = decide(request, needs, rules, &cached, self.cluster.clock.here());
        if decision.because != Because::Unapproved {
            return decision;
        }
        let facts = self.live_facts(request, needs, cached).instrument(info_span!("facts")).await;
        decide(request, needs, rules, &facts, self.cluster.clock.here())
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

    /// Tells everybody, and says what is to stand in the audit log.
    async fn announce<O>(
        &self,
        called: &str,
        review: &review::Request<'_, O>,
        request: &Request<'_>,
        decision: &Decision<'_>,
        deadline: Instant,
    ) -> BTreeMap<&'static str, String> {
        let (version, kind, dry_run) = (&review.resource.version, &review.kind.kind, review.dry_run);
        let decided = Decided { called, request, decision, version, kind, dry_run };
        decided.emit(&self.telemetry, deadline.checked_sub(TO_REFUSE * 2).unwrap_or(deadline)).await;
        decided.audit()
    }
}

impl<'r> Known<'r> {
    fn of(loaded: &'r Loaded, began: Instant, deadline: Instant) -> Self {
        Self { rules: &loaded.rules, certain: loaded.age() <= began.elapsed(), deadline }
    }
}

/// Of one review. What it is about is recorded when it is decided.
fn span(entry: &'static str) -> Span {
    info_span!("review", entry, rule = field::Empty, action = field::Empty, verdict = field::Empty)
}

fn answer<'a>(
    uid: &'a str,
    resource: &'a Resource,
    request: &'a Request,
    decision: &Decision,
    audit: BTreeMap<&'static str, String>,
) -> Answer<'a> {
    let subject = &request.subject;
    let denied = (decision.verdict == Verdict::Deny).then(|| Denied {
        kind: Denial::Forbidden,
        message: denial(request, decision),
        group: &resource.group,
        resource: &resource.resource,
        name: &subject.name,
        object_uid: &subject.uid,
        causes: causes(decision),
    });
    Answer { uid, denied, warnings: warning(request, decision).into_iter().collect(), audit }
}

fn allowed<'a>(review: &'a RawRequest) -> Answer<'a> {
    Answer { uid: &review.uid, denied: None, warnings: Vec::new(), audit: BTreeMap::new() }
}

/// A refusal of what may be harmless, because nobody could tell.
fn cannot_be_decided<'a>(gist: &'a Gist, undecided: &Unanswered) -> Answer<'a> {
    let reason = printable(&undecided.to_string());
    Answer {
        uid: &gist.uid,
        denied: Some(Denied {
            kind: Denial::Forbidden,
            causes: vec![Cause { reason: "Undecided", message: reason.clone() }],
            message: reason,
            group: &gist.resource.group,
            resource: &gist.resource.resource,
            name: &gist.name,
            object_uid: "",
        }),
        warnings: Vec::new(),
        audit: Failed::audit(),
    }
}

/// For machines: one cause for each rule that refuses.
fn causes(decision: &Decision) -> Vec<Cause> {
    let unmet = decision.unmet.iter().filter(|unmet| unmet.mode == Mode::Enforce).flat_map(|unmet| &unmet.rules);
    let unmet = unmet.map(|rule| ("ApprovalRequired", rule));
    let kept = decision.kept.iter().filter(|kept| kept.rule.mode == Mode::Enforce).map(|kept| {
        let reason = match kept.why {
            Why::Frozen(_) => "Frozen",
            Why::Full(_) => "BudgetSpent",
            Why::Uncounted(_) => "NotCounted",
        };
        (reason, &kept.rule)
    });
    unmet.chain(kept).map(|(reason, rule)| Cause { reason, message: format!("rule {}", rule.name) }).collect()
}
