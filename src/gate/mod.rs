//! One request's way through: read, ask what is needed, gather it, decide, answer.

mod claims;
mod convert;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::api::{Mode, printable};
use crate::cluster::{Cluster, NotLoaded};
use crate::guard::{
    Because, Decision, Facts, Needs, NoDecision, Presenting, Request, Rule, Subject, Verdict, check_presented, decide,
    denial, needs, request_id, warning,
};
use crate::review::{self, Answer, Cause, Denied, Malformed, MetadataRequest, Operation, RawRequest};
use crate::telemetry::{Decided, Failed, Presented, Telemetry};

pub struct Gate {
    cluster: Arc<Cluster>,
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

impl Gate {
    pub fn new(cluster: Arc<Cluster>, telemetry: Arc<Telemetry>) -> Self {
        Self { cluster, looking: Semaphore::new(LOOKING), telemetry }
    }

    /// A call of the entry of a rule.
    pub async fn rule(&self, called: &str, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        self.counted(self.decide_rule(called, body).await)
    }

    /// A call of the entry that sees approvals being written.
    pub fn approvals(&self, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        self.counted(self.decide_approvals(body))
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
        let rules = &loaded.rules;
        if review.operation == Operation::Update {
            return self.decide_claim(rules.called(called)?, &review);
        }
        let request = convert::deletion(&review)?;
        let needs = needs(&request, called, rules)?;

        let cached = Facts { namespace: self.cluster.cached_namespace(&needs.namespace), ..Facts::default() };
        let mut decision = decide(&request, &needs, rules, &cached, Timestamp::now());
        // What the cache refuses may still follow from a deletion that was admitted: only now is that worth a look.
        if decision.because == Because::Unapproved
            && let Some(facts) = self.live_facts(&needs, cached).await
        {
            decision = decide(&request, &needs, rules, &facts, Timestamp::now());
        }

        self.announce(called, &request, &decision, review.dry_run);
        Ok(answer(&review, &request, &decision).to_json())
    }

    /// Facts worth asking the API server for, if there are any.
    async fn live_facts(&self, needs: &Needs<'_>, cached: Facts) -> Option<Facts> {
        let look =
            !needs.namespace.is_empty() && (needs.live_namespace || self.cluster.may_be_terminating(&needs.namespace));
        if !look && needs.owners.is_empty() {
            return None;
        }
        let _place = self.looking.acquire().await;
        let namespace = async {
            let live = if look { self.cluster.live_namespace(&needs.namespace).await } else { None };
            live.or(cached.namespace)
        };
        let owners = needs.owners.iter().map(|owner| self.cluster.owner(owner, &needs.namespace));
        let (namespace, owners) = tokio::join!(namespace, futures::future::join_all(owners));
        Some(Facts { namespace, owners })
    }

    fn announce(&self, called: &str, request: &Request, decision: &Decision, dry_run: bool) {
        let subject = &request.subject;
        Decided {
            request: request_id(request),
            rule: called,
            resource_label: label(&decision.rules, subject),
            action: request.action.as_str(),
            kind: subject.kind(),
            namespace: &subject.namespace,
            name: &subject.name,
            uid: &subject.uid,
            requester: request.requester.name,
            verdict: decision.verdict,
            because: reason(&decision.because),
            dry_run,
        }
        .emit(&self.telemetry);
    }

    fn decide_approvals(&self, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let review: RawRequest = review::read(body)?;
        if review.operation != Operation::Update {
            return Err(Malformed::OtherOperation("UPDATE").into());
        }
        let new = review.object.ok_or(Malformed::Missing("object"))?;
        let old = review.old_object.ok_or(Malformed::Missing("oldObject"))?;
        let unreadable = |_| Malformed::Missing("object with metadata");
        let other_changes = review::other_changes(old, new).map_err(unreadable)?;
        let (new, old) = (convert::object(new)?, convert::object(old)?);
        let subject = convert::subject(&review.resource, &new.metadata)?;
        let loaded = self.cluster.rules.current()?;
        let write = Presenting {
            before: convert::presented_before(&old.metadata),
            subresource: &review.sub_resource,
            terminating: new.metadata.deletion_timestamp.is_some(),
            field_manager: review.options.as_ref().map_or("", |options| &options.field_manager),
            other_changes,
            requester: convert::requester(&review.user_info),
            subject,
        };
        let refused =
            check_presented(&write, &loaded.rules, Timestamp::now()).err().map(|error| printable(&error.to_string()));
        let subject = &write.subject;
        Presented {
            kind: subject.kind(),
            namespace: &subject.namespace,
            name: &subject.name,
            uid: &subject.uid,
            approver: write.requester.name,
            refused: refused.clone(),
            dry_run: review.dry_run,
        }
        .emit(&self.telemetry);
        let answer = Answer {
            uid: &review.uid,
            denied: refused.map(|reason| Denied {
                message: format!(
                    "tagout: this approval of {} {:?} is not accepted: {reason}",
                    subject.kind(),
                    subject.name
                ),
                group: &review.resource.group,
                resource: &review.resource.resource,
                name: &subject.name,
                object_uid: &subject.uid,
                causes: vec![Cause { reason: "ApprovalNotAccepted", message: reason }],
            }),
            warnings: Vec::new(),
            audit: BTreeMap::new(),
        };
        Ok(answer.to_json())
    }
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

fn answer<'a>(review: &'a MetadataRequest, request: &'a Request, decision: &Decision) -> Answer<'a> {
    let subject = &request.subject;
    let denied = (decision.verdict == Verdict::Deny).then(|| Denied {
        message: denial(request, decision),
        group: &review.resource.group,
        resource: &review.resource.resource,
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
    Answer { uid: &review.uid, denied, warnings: warning(request, decision).into_iter().collect(), audit }
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
