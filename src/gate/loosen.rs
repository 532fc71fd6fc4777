//! Changes of rules, teams and Tagout's own definitions.

use std::time::Instant;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{Gate, NEWS, Unanswered, allowed, answer, convert};
use crate::api::{APPROVAL, Action, NEW_UID, Statement, crds, printable, read_statements};
use crate::cluster::NotLoaded;
use crate::guard::{
    Because, Candidate, Change, Changed, Facts, Freezes, Needs, Reach, Request, Rule, Verdict, Weighed, weigh,
};
use crate::review::{self, Answer, Cause, Denial, Denied, Malformed, Object, Operation, RawRequest};
use crate::telemetry::Unweighed;

impl Gate {
    pub(super) async fn decide_loosen(&self, body: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let review: RawRequest = review::read(body)?;
        if let Some(reason) = redirected(&review) {
            return self.refuse_redirection(&review, reason);
        }
        let changed = changed(&review)?;
        // Free whatever the rules say. Without the definition of teams these cannot be read, and it could never come again.
        if matches!(changed, Changed::Definition { is_own: true, .. }) {
            return Ok(allowed(&review).to_json());
        }
        let old = review.old_object.map(convert::object).transpose()?;
        let new = review.object.map(convert::object).transpose()?;
        // What is in force is asked anew: between two readings a rule may have been tightened.
        let asked_at = Instant::now();
        let loaded = self.cluster.rules.renewed(NEWS).await?;
        if loaded.age() > asked_at.elapsed() {
            return Err(NotLoaded::Stale(loaded.age().as_secs()).into());
        }
        let rules = &loaded.rules;
        let mut request = request(&review, old.as_ref(), new.as_ref())?;
        let Weighed { refused, loosened, needed, not_in_force, new_spec } =
            weigh(&changed, &request.subject.name, rules, self.cluster.clock.here());
        let of_the_rules = needed.iter().filter_map(|name| rules.rules.get(name)?.as_ref().ok());
        let asked: Vec<&Rule> = of_the_rules.chain(not_in_force.as_deref()).collect();
        if let Some(reason) = refused.or_else(|| senseless(&changed)) {
            if self.is_removed().await {
                return Ok(allowed(&review).to_json());
            }
            self.refused_change(&review, &request, &reason);
            return Ok(refusal(&review, &request, &reason).to_json());
        }
        let asked = if loosened.is_empty() { Vec::new() } else { asked };
        request.change = Some(Change { new_spec, loosened });
        let needs = Needs {
            candidates: asked.into_iter().map(|rule| Candidate { rule, called: true, assumed: false }).collect(),
            namespace: String::new(),
            owners: Vec::new(),
        };
        let facts = Facts { proposed: new.as_ref().map(proposed).unwrap_or_default(), ..Facts::default() };
        let mut decision = self.decided(&request, &needs, rules, facts).await;
        // Whoever removes Tagout is not kept from removing its rules.
        if decision.verdict == Verdict::Deny && self.is_removed().await {
            decision.verdict = Verdict::Allow;
            decision.because = Because::NotCovered;
        }
        if decision.verdict == Verdict::Deny && self.is_an_upgrade(&changed, &review).await {
            decision.verdict = Verdict::Allow;
            decision.because = Because::NotCovered;
        }
        let called = needs.candidates.first().map_or("", |candidate| &candidate.rule.name);
        let audit = self.announce(called, &review, &request, &decision, tokio::time::Instant::now() + NEWS).await;
        Ok(answer(&review.uid, &review.resource, &request, &decision, audit).to_json())
    }

    /// Nobody needs it, and it would have the API server show somebody else's rules, teams or approvals.
    fn refuse_redirection(&self, review: &RawRequest, reason: &str) -> Result<Vec<u8>, Unanswered> {
        let old = review.old_object.map(convert::object).transpose()?;
        let new = review.object.map(convert::object).transpose()?;
        let request = request(review, old.as_ref(), new.as_ref())?;
        self.refused_change(review, &request, reason);
        Ok(refusal(review, &request, reason).to_json())
    }

    /// Whether whoever upgrades Tagout writes the definitions of another version. Deleting one would take all rules along,
    /// and converting would have somebody else say what they are.
    async fn is_an_upgrade(&self, changed: &Changed, review: &RawRequest<'_>) -> bool {
        let Changed::Definition { new: Some(spec), .. } = changed else { return false };
        let converts = spec.pointer("/conversion/strategy").is_some_and(|strategy| strategy != "None");
        if converts {
            return false;
        }
        let _place = self.looking.acquire().await;
        self.cluster.is_unlocked_for(&review.user_info.username).await
    }

    async fn is_removed(&self) -> bool {
        let _place = self.looking.acquire().await;
        self.cluster.is_removed().await
    }

    fn refused_change(&self, review: &RawRequest, request: &Request, reason: &str) {
        Unweighed {
            rule: None,
            action: request.action.as_str(),
            subject: &request.subject,
            requester: request.requester.name,
            verdict: Verdict::Deny,
            because: reason,
            dry_run: review.dry_run,
        }
        .emit(&self.telemetry);
    }
}

/// Why a write would change by whom, or under which name, Tagout's own kinds are served, or what it has written down. The
/// entry lets only such writes through.
fn redirected(review: &RawRequest) -> Option<&'static str> {
    match (&*review.resource.resource, &*review.sub_resource) {
        ("apiservices", _) => Some("an API that Tagout rests on is served by the API server itself and nobody else"),
        ("deletionrecords", _) => Some("what was destroyed, Tagout itself writes down and nobody else"),
        ("ledgers", _) => Some("what is let pass, Tagout itself counts and nobody else"),
        ("customresourcedefinitions", "status") => {
            Some("that Tagout's kinds are served, and under which names, stays as it is")
        }
        _ => None,
    }
}

/// The change as something to be decided, about the object as it is stored, or as it is to be.
fn request<'a>(
    review: &'a RawRequest,
    old: Option<&'a Object>,
    new: Option<&'a Object>,
) -> Result<Request<'a>, Malformed> {
    let mut subject = match (old, new) {
        (Some(object), _) | (None, Some(object)) => convert::subject(&review.resource, &object.metadata)?,
        (None, None) => return Err(Malformed::Missing("object")),
    };
    if subject.name.is_empty() {
        return Err(Malformed::Missing("metadata.name"));
    }
    if old.is_none() {
        subject.uid = NEW_UID.into();
        // Nobody checked who wrote what comes with it.
        subject.statements = None;
    }
    Ok(Request {
        action: Action::Loosen,
        subject,
        owners: Vec::new(),
        // An UPDATE may still loosen a rule that a finalizer keeps.
        terminating: review.operation == Operation::Delete
            && old.is_some_and(|object| object.metadata.deletion_timestamp.is_some()),
        change: None,
        requester: convert::requester(&review.user_info),
        reach: Reach::Covered,
        what: None,
    })
}

/// The statements that the change carries itself.
fn proposed(new: &Object) -> Vec<Statement> {
    let presented = new.metadata.annotations.approval.as_deref().filter(|_| new.metadata.labels.contains_key(APPROVAL));
    let mut statements = presented.map(read_statements).unwrap_or_default().readable;
    statements.retain(|statement| statement.signature.is_some());
    statements
}

/// Why a rule cannot be meant as it is written, where the API server cannot tell.
fn senseless(changed: &Changed) -> Option<String> {
    let Changed::Rule { new: Some(spec), .. } = changed else { return None };
    Freezes::read(&spec.freeze).err()
}

fn changed(review: &RawRequest) -> Result<Changed, Malformed> {
    let (old, new) = (review.old_object, review.object.filter(|_| review.operation != Operation::Delete));
    Ok(match &*review.resource.resource {
        "protectionrules" => {
            Changed::Rule { stored: read_if_readable(old), rejected: old.is_some_and(was_rejected), new: read(new)? }
        }
        "approverteams" => Changed::Team { stored: read_if_readable(old), new: read(new)? },
        "customresourcedefinitions" => Changed::Definition { is_own: new.is_some_and(is_own), new: read(new)? },
        _ => return Err(Malformed::OtherOperation("changes of rules, teams and definitions")),
    })
}

#[derive(Deserialize)]
struct WithSpec<S> {
    spec: S,
}

fn read<S: DeserializeOwned>(object: Option<&RawValue>) -> Result<Option<S>, Malformed> {
    let read = |object: &RawValue| serde_json::from_str::<WithSpec<S>>(object.get()).map(|read| read.spec);
    object.map(read).transpose().map_err(|_| Malformed::Missing("spec as its definition asks"))
}

/// What is stored may be of an older definition; then it is as if it were not there, and what is in force counts.
fn read_if_readable<S: DeserializeOwned>(object: Option<&RawValue>) -> Option<S> {
    read(object).ok().flatten()
}

/// Whether the API server did not take this version of a rule, so that nothing was protected by it.
fn was_rejected(rule: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Stored {
        metadata: Metadata,
        #[serde(default)]
        status: Status,
    }
    #[derive(Deserialize)]
    struct Metadata {
        generation: Option<i64>,
    }
    #[derive(Deserialize, Default)]
    struct Status {
        #[serde(default)]
        conditions: Vec<Condition>,
    }
    let Ok(stored) = serde_json::from_str::<Stored>(rule.get()) else { return false };
    stored.status.conditions.iter().any(|condition| {
        condition.type_ == "Ready"
            && condition.status == "False"
            && condition.reason == "Rejected"
            && condition.observed_generation == stored.metadata.generation
    })
}

/// Whether a definition is just what this version of Tagout would install: nothing can hide in that.
fn is_own(definition: &RawValue) -> bool {
    let Ok(found) = serde_json::from_str::<CustomResourceDefinition>(definition.get()) else { return false };
    let own = crds().into_iter().find(|own| own.metadata.name == found.metadata.name);
    own.is_some_and(|own| plain(own.spec) == plain(found.spec))
}

/// A definition without what the API server fills in.
fn plain(mut spec: CustomResourceDefinitionSpec) -> CustomResourceDefinitionSpec {
    spec.conversion = spec.conversion.filter(|conversion| conversion.strategy != "None");
    spec.preserve_unknown_fields = spec.preserve_unknown_fields.filter(|preserve| *preserve);
    let list = format!("{}List", spec.names.kind);
    spec.names.list_kind = spec.names.list_kind.filter(|kind| *kind != list);
    for version in &mut spec.versions {
        for column in version.additional_printer_columns.iter_mut().flatten() {
            column.priority = column.priority.filter(|priority| *priority != 0);
        }
    }
    spec
}

/// A change that nobody can make, whoever approves.
fn refusal<'a>(review: &'a RawRequest, request: &'a Request, reason: &str) -> Answer<'a> {
    let subject = &request.subject;
    let reason = printable(reason);
    Answer {
        denied: Some(Denied {
            kind: Denial::Forbidden,
            message: format!("tagout: this change of {} {:?} is not accepted: {reason}", subject.kind(), subject.name),
            group: &review.resource.group,
            resource: &review.resource.resource,
            name: &subject.name,
            object_uid: &subject.uid,
            causes: vec![Cause { reason: "ChangeNotAccepted", message: reason }],
        }),
        ..allowed(review)
    }
}
