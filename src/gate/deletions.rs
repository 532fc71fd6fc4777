//! Objects deleted, and pods evicted.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument, info_span};

use super::places::Counted;
use super::{Gate, Known, Outcome, Unanswered, convert};
use crate::api::{Action, kind_name, printable};
use crate::cluster::{LeftWithout, Named};
use crate::guard::{
    Because, Called, Decision, Facts, Needs, NoDecision, Radius, Reach, Request, Rules, Subject, Verdict, decide,
    needs, remembering,
};
use crate::review::{Answer, Denial, Denied, Malformed, Object, RawRequest};
use crate::telemetry::BREAK_GLASS;

/// What is left of the API server's patience for counting and writing down, when what goes along has been looked up, and
/// for answering.
const TO_COUNT: Duration = Duration::from_secs(1);
const TO_ANSWER: Duration = Duration::from_secs(1);

impl Gate {
    pub(super) async fn deletion(
        &self,
        called: Called<'_>,
        review: &RawRequest<'_>,
        known: Known<'_>,
        along: &mut Option<Radius>,
    ) -> Result<Outcome, Unanswered> {
        let object = convert::object(review.old_object.ok_or(Malformed::Missing("oldObject"))?)?;
        let beside = matches!(called, Called::Beside(_));
        if beside && (&*review.resource.group, &*review.resource.resource) == ("apps", "replicasets") {
            return self.replica_set(called, review, &object, known).await;
        }
        let mut request = convert::request(Action::Delete, review, &object)?;
        if request.terminating {
            let decision = Decision { because: Because::AlreadyTerminating, ..Decision::default() };
            return self.finish(called, review, &request, decision, known).await;
        }
        if is_volume(&request.subject) {
            // Without its claim it is no rule's any more: what becomes of it follows from the deletion of that.
            let claim = Some(self.claim_of(review).await?).filter(|claim| !claim.uid.is_empty());
            request.reach = Reach::Through(Box::new(claim.unwrap_or_default()));
        }
        let needs = needs(&request, called, known.rules)?;
        let decision = self.with_everything_that_goes(called, &request, &needs, known, review, along).await?;
        self.finish(called, review, &request, decision, known).await
    }

    /// The claim that a volume is bound to. One that cannot be read is not taken for gone.
    pub(super) async fn claim_of(&self, review: &RawRequest<'_>) -> Result<Subject<'static>, Unanswered> {
        let _place = self.looking.acquire().await;
        let claim = self.cluster.claim_of(review.old_object).await;
        Ok(claim.map_err(|_| NoDecision::NotFound("persistentvolumeclaims".to_owned()))?)
    }

    async fn with_everything_that_goes<'r>(
        &self,
        called: Called<'_>,
        request: &Request<'_>,
        needs: &Needs<'r>,
        known: Known<'r>,
        review: &RawRequest<'_>,
        along: &mut Option<Radius>,
    ) -> Result<Decision<'r>, Unanswered> {
        let Known { rules, deadline, .. } = known;
        let first = Facts { namespace: self.cluster.cached_namespace(&needs.namespace), ..Facts::default() };
        let mut facts = self.live_facts(request, needs, first).instrument(info_span!("facts")).await;
        let mut before = decide(request, needs, rules, &facts, self.cluster.clock.here());
        if before.because == Because::Unapproved && !request.owners.is_empty() {
            drop(before);
            let _place = self.looking.acquire().await;
            facts.records = self.cluster.records(request).await;
            before = decide(request, needs, rules, &facts, self.cluster.clock.here());
        }
        // What follows from something that was let go carries nothing of its own; neither does what its controller makes
        // anew.
        let by_itself = matches!(called, Called::By(_)) && request.subject.is_follower();
        let forgotten = || remembering(request, called, rules, &facts, &before).is_empty();
        let follows = by_itself && before.because == Because::NotCovered && forgotten();
        if follows || matches!(before.because, Because::Approved(_) | Because::NamespaceTerminating) {
            return Ok(before);
        }
        drop(before);
        let budget = deadline.saturating_duration_since(Instant::now()).saturating_sub(TO_COUNT + TO_ANSWER);
        let radius = match along.take() {
            Some(found) => found,
            // What a volume carries is its own data.
            None if is_volume(&request.subject) => Radius::default(),
            None => self.cluster.radius(&request.subject, budget).instrument(info_span!("radius")).await,
        };
        facts.namespaces = self.cluster.labels_of(radius.namespaces());
        // What is known live is not left to a cache.
        if request.subject.is_namespace() {
            facts.namespaces.insert(request.subject.name.to_string(), request.subject.labels.clone().into_owned());
        } else if let Some(home) = &facts.namespace {
            facts.namespaces.insert(request.subject.namespace.to_string(), home.labels.clone());
        }
        facts.radius = Some(radius);
        let decision = decide(request, needs, rules, &facts, self.cluster.clock.here());
        if !known.certain && rests_on_rules_as_they_are(&decision) {
            *along = facts.radius;
            return Ok(decision);
        }
        let counts = decision.because == Because::ToBeCounted;
        let remembers = !review.dry_run && is_remembered(request, called, rules, &facts, &decision);
        if !counts && !remembers {
            return Ok(decision);
        }
        drop(decision);
        Box::pin(self.written_down(called, request, known, facts, review)).await
    }

    /// Counts and writes down what is let pass, by what stands in the cluster and not by what the review says of it: what a
    /// record quotes counts later.
    async fn written_down<'r>(
        &self,
        called: Called<'_>,
        request: &Request<'_>,
        known: Known<'r>,
        mut facts: Facts,
        review: &RawRequest<'_>,
    ) -> Result<Decision<'r>, Unanswered> {
        let Known { rules, certain, deadline } = known;
        let deadline = deadline.checked_sub(TO_ANSWER).unwrap_or(deadline);
        let trial = review.dry_run;
        let live = self.cluster.find(named(review), &request.subject.namespace, &request.subject.name).await;
        let failed = match live {
            Ok(Some(found)) if found.subject.uid == request.subject.uid => {
                // What is going already takes no place, whatever the review says of it.
                let terminating = found.terminating;
                let (subject, owners) = (found.subject.clone(), found.owners.clone());
                let request = Request { subject, owners, terminating, ..request.clone() };
                let needs = needs(&request, called, rules)?;
                let counted = Counted { api_version: Ok(&found.api_version), trial, deadline };
                let decision = self.with_places(&request, &needs, known, &mut facts, counted).await;
                let uncertain = !certain && rests_on_rules_as_they_are(&decision);
                if trial || uncertain || !is_remembered(&request, called, rules, &facts, &decision) {
                    return Ok(decision);
                }
                let remembering = remembering(&request, called, rules, &facts, &decision);
                let (requester, radius) = (request.requester.name, facts.radius.as_ref());
                match self.cluster.write_record(&found, requester, &decision, &remembering, radius).await {
                    Ok(()) => return Ok(decision),
                    Err(reason) if !decision.broke_glass.is_empty() => {
                        self.failed("unrecorded", &format!("an emergency is not written down: {reason}"));
                        return Ok(decision);
                    }
                    Err(reason) => format!("it could not be written down ({reason}); try again"),
                }
            }
            // It went in the meantime; the API server will say so.
            Ok(_) => "the object is not there any more".to_owned(),
            // Nothing is written down, and nothing follows from it.
            Err(unreadable) if unreadable.forbidden => {
                let needs = needs(request, called, rules)?;
                let counted = Counted { api_version: Err(&unreadable.reason), trial, deadline };
                return Ok(self.with_places(request, &needs, known, &mut facts, counted).await);
            }
            Err(unreadable) => unreadable.reason,
        };
        facts.unknown.push(failed);
        facts.radius = None;
        Ok(decide(request, &needs(request, called, rules)?, rules, &facts, self.cluster.clock.here()))
    }

    /// A ReplicaSet with pods, whose Deployment would not make it anew: then the Deployment is left without.
    async fn replica_set(
        &self,
        called: Called<'_>,
        review: &RawRequest<'_>,
        object: &Object<'_>,
        known: Known<'_>,
    ) -> Result<Outcome, Unanswered> {
        let mut request = convert::request(Action::ScaleToZero, review, object)?;
        request.what = Some(format!("ReplicaSet {:?} has its pods and would not come back", request.subject.name));
        match self.cluster.left_without(&request, review.old_object).await {
            LeftWithout::Nothing => return self.finish(called, review, &request, Decision::default(), known).await,
            LeftWithout::Deployment(found) => {
                request.subject = found.subject;
                request.owners = found.owners;
            }
            // The rules about Deployments have the say.
            LeftWithout::Itself => {
                let subject = convert::owned(&request.subject);
                let like_one = Subject { resource: "deployments".into(), ..subject };
                request.reach = Reach::Through(Box::new(like_one));
                request.owners = Vec::new();
            }
        }
        let needs = needs(&request, called, known.rules)?;
        let decision = self.decided(&request, &needs, known.rules, Facts::default()).await;
        self.finish(called, review, &request, decision, known).await
    }

    pub(super) async fn eviction(
        &self,
        called: Called<'_>,
        review: &RawRequest<'_>,
        known: Known<'_>,
    ) -> Result<Outcome, Unanswered> {
        if (&*review.resource.resource, &*review.sub_resource) != ("pods", "eviction") {
            return Err(Malformed::OtherOperation("DELETE, UPDATE and eviction").into());
        }
        let object = convert::object(review.object.ok_or(Malformed::Missing("object"))?)?;
        let name = if object.metadata.name.is_empty() { &review.name } else { &object.metadata.name };
        let pod = match self.cluster.find(PODS, &object.metadata.namespace, name).await {
            Ok(Some(pod)) => pod,
            // Not let pass: one that is made in this moment would be evicted unasked.
            Ok(None) => return Ok(Outcome::Answer(is_not_there(review, name).to_json())),
            Err(_) => return Err(NoDecision::NotFound(kind_name("", "pods")).into()),
        };
        let request = Request {
            action: Action::Evict,
            subject: pod.subject,
            owners: pod.owners,
            terminating: pod.terminating,
            change: None,
            requester: convert::requester(&review.user_info),
            reach: Reach::Covered,
            what: None,
        };
        let Known { rules, deadline, .. } = known;
        let needs = needs(&request, called, rules)?;
        let mut facts = Facts::default();
        let decision = decide(&request, &needs, rules, &facts, self.cluster.clock.here());
        if matches!(decision.because, Because::Unapproved | Because::ToBeCounted) {
            drop(decision);
            facts = self.live_facts(&request, &needs, facts).await;
        }
        let deadline = deadline.checked_sub(TO_ANSWER).unwrap_or(deadline);
        let counted = Counted { api_version: Ok(&pod.api_version), trial: review.dry_run, deadline };
        let decision = Box::pin(self.with_places(&request, &needs, known, &mut facts, counted)).await;
        self.finish(called, review, &request, decision, known).await
    }

    pub(super) async fn finish(
        &self,
        called: Called<'_>,
        review: &RawRequest<'_>,
        request: &Request<'_>,
        decision: Decision<'_>,
        known: Known<'_>,
    ) -> Result<Outcome, Unanswered> {
        self.finish_with(called, review, request, decision, &[], known).await
    }

    /// Of one call that does several things: with what else somebody passed alone.
    pub(super) async fn finish_with(
        &self,
        called: Called<'_>,
        review: &RawRequest<'_>,
        request: &Request<'_>,
        decision: Decision<'_>,
        emergencies: &[(Request<'_>, Decision<'_>)],
        known: Known<'_>,
    ) -> Result<Outcome, Unanswered> {
        if !known.certain && rests_on_rules_as_they_are(&decision) {
            return Ok(Outcome::Uncertain);
        }
        let rule = match called {
            Called::Shared => decision.rules.first().map_or("", |rule| &rule.name),
            _ => called.rule(),
        };
        let mut audit = self.announce(rule, review, request, &decision, known.deadline).await;
        for (request, decision) in emergencies {
            let mut also = self.announce(rule, review, request, decision, known.deadline).await;
            if let Some(people) = also.remove(BREAK_GLASS) {
                audit.entry(BREAK_GLASS).and_modify(|all| *all = format!("{all},{people}")).or_insert(people);
            }
        }
        Ok(Outcome::Answer(super::answer(&review.uid, &review.resource, request, &decision, audit).to_json()))
    }
}

/// Whether it passes, or may yet, by what rules and teams say of people and budgets.
fn rests_on_rules_as_they_are(decision: &Decision) -> bool {
    use Because::{Approved, ToBeCounted, Tolerated, WithinAllowance};
    matches!(decision.because, Approved(_) | WithinAllowance | Tolerated | ToBeCounted)
}

/// Whether a deletion is let pass that somebody may ask about later. What follows from another quotes nobody.
fn is_remembered(request: &Request, called: Called, rules: &Rules, facts: &Facts, decision: &Decision) -> bool {
    let by_itself = match &decision.because {
        Because::AlreadyTerminating | Because::NamespaceTerminating | Because::Empty => false,
        Because::Approved(_) => !decision.counted.is_empty(),
        _ => true,
    };
    by_itself && decision.verdict != Verdict::Deny && !remembering(request, called, rules, facts, decision).is_empty()
}

pub(super) fn named<'a>(review: &'a RawRequest) -> Named<'a> {
    let resource = &review.resource;
    Named { group: &resource.group, version: &resource.version, plural: &resource.resource }
}

const PODS: Named = Named { group: "", version: "v1", plural: "pods" };

/// As the API server itself would say it.
fn is_not_there<'a>(review: &'a RawRequest, name: &'a str) -> Answer<'a> {
    Answer {
        denied: Some(Denied {
            kind: Denial::NotFound,
            message: format!("pods {:?} not found", printable(name)),
            group: "",
            resource: "pods",
            name,
            object_uid: "",
            causes: Vec::new(),
        }),
        ..super::allowed(review)
    }
}

fn is_volume(subject: &Subject) -> bool {
    subject.group.is_empty() && subject.resource == "persistentvolumes"
}
