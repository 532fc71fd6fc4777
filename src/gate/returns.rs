//! Objects that are made under a name under which one was destroyed.

use tokio::time::Instant;

use super::deletions::named;
use super::places::Counted;
use super::{Gate, Known, Outcome, TO_REFUSE, Unanswered, allowed, cannot_be_decided, convert};
use crate::api::{Action, Deletion, DeletionRecord, kind_name, printable};
use crate::cluster::root;
use crate::guard::{Called, DeletionFact, Facts, NoDecision, Owner, Reach, Request, forgotten_by, needs};
use crate::review::{self, Answer, Born, Denial, Denied, Gist, Malformed, Operation, RawRequest, Resource};

impl Gate {
    pub(super) async fn decide_return(&self, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Unanswered> {
        let in_time = deadline.checked_sub(TO_REFUSE).unwrap_or(deadline);
        let deciding = Box::pin(self.decide_return_of(body, deadline));
        let undecided = match tokio::time::timeout_at(in_time, deciding).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(undecided)) => undecided,
            Err(_) => NoDecision::TooLate.into(),
        };
        // Nobody is kept from making what was never destroyed; of what is known to have been, silence would be a yes.
        let Some(gist) = review::gist(body).filter(|gist| self.has_heard_of(gist)) else { return Err(undecided) };
        self.failed("undecided", &undecided.to_string());
        Ok(cannot_be_decided(&gist, &undecided).to_json())
    }

    fn has_heard_of(&self, gist: &Gist) -> bool {
        let Some(object) = &gist.object else { return false };
        let place = Place::of(&gist.resource, &gist.name, object);
        self.cluster.has_heard_of_a_record(&place.kind, place.namespace, place.name)
    }

    async fn decide_return_of(&self, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Unanswered> {
        let review: RawRequest = review::read(body)?;
        if review.operation != Operation::Create {
            return Err(Malformed::OtherOperation("CREATE").into());
        }
        let raw = review.object.ok_or(Malformed::Missing("object"))?;
        let object: Born = serde_json::from_str(raw.get()).map_err(|_| Malformed::Missing("object with metadata"))?;
        let place = Place::of(&review.resource, &review.name, &object);
        if place.name.is_empty() {
            return Ok(allowed(&review).to_json());
        }
        let read = {
            let _place = self.returning.acquire().await;
            // In this order: what is written down of a deletion is written before the object goes.
            let live = self.cluster.find(named(&review), place.namespace, place.name).await;
            match live {
                // It could be gone when this is stored. One that is going already may be gone a moment later, too.
                Ok(Some(found)) if !found.terminating => return Ok(exists(&review, &place).to_json()),
                Ok(_) => {}
                // Of what may not be read nothing is written down either.
                Err(unreadable) if unreadable.forbidden => return Ok(allowed(&review).to_json()),
                Err(_) => return Err(NoDecision::NotFound(place.kind.clone()).into()),
            }
            self.cluster.record_of(&place.kind, place.namespace, place.name).await
        };
        let record = read.map_err(|_| NoDecision::NotFound("deletionrecords".to_owned()))?;
        let (review, object) = (&review, &object);
        if place.kind == "namespaces"
            && let Some(rule) = self.forgotten_by(review, &place).await?
        {
            self.failed("escapes", "a namespace was to be made anew outside of a rule that remembers what was in it");
            return Ok(out_of_reach(review, &place, &rule).to_json());
        }
        let Some(record) = record else { return Ok(allowed(review).to_json()) };
        let began = Instant::now();
        let mut loaded = self.cluster.rules.current()?;
        loop {
            let known = Known::of(&loaded, began, deadline);
            match self.decided_return(review, object, &record, known).await? {
                Outcome::Answer(answer) => return Ok(answer),
                Outcome::Uncertain => loaded = self.fresh().await?,
            }
        }
    }

    /// The rule that would ask no more about what was destroyed in a namespace, if this is made in its place.
    async fn forgotten_by(&self, review: &RawRequest<'_>, place: &Place<'_>) -> Result<Option<String>, Unanswered> {
        let records = {
            let _place = self.returning.acquire().await;
            let read = self.cluster.recorded_in(place.name).await;
            read.map_err(|_| NoDecision::NotFound("deletionrecords".to_owned()))?
        };
        // Labels that cannot be read are none that a rule selects.
        let new = review.object.and_then(|object| convert::object(object).ok());
        let labels = new.map(|new| new.metadata.labels).unwrap_or_default();
        let newest: Vec<&Deletion> = records.iter().filter_map(|record| record.deletions.first()).collect();
        let loaded = self.cluster.rules.current()?;
        Ok(forgotten_by(&newest, &labels, &loaded.rules, self.cluster.clock.here()).map(str::to_owned))
    }

    async fn decided_return(
        &self,
        review: &RawRequest<'_>,
        object: &Born<'_>,
        record: &DeletionRecord,
        known: Known<'_>,
    ) -> Result<Outcome, Unanswered> {
        let Known { rules, deadline, .. } = known;
        let Some(deletion) = record.spec.deletions.first() else {
            return Ok(Outcome::Answer(allowed(review).to_json()));
        };
        let request = Request {
            action: Action::Recreate,
            subject: root(&record.spec, deletion),
            owners: makers(object, deletion),
            terminating: false,
            change: None,
            requester: convert::requester(&review.user_info),
            reach: Reach::Returning(deletion.rules.clone()),
            what: Some(format!(
                "one of this name was destroyed at {}, and nobody approved that it returns",
                deletion.at
            )),
        };
        let called = Called::Shared;
        let needs = needs(&request, called, rules)?;
        let cached = Facts { namespace: self.cluster.cached_namespace(&needs.namespace), ..Facts::default() };
        let mut facts = self.live_facts(&request, &needs, cached).await;
        facts.deletion = Some(DeletionFact { at: deletion.at, statements: deletion.statements.clone() });
        let api_version = Ok(record.spec.api_version.as_str());
        let counted = Counted {
            api_version,
            trial: review.dry_run,
            deadline: deadline.checked_sub(TO_REFUSE).unwrap_or(deadline),
        };
        let decision = Box::pin(self.with_places(&request, &needs, known, &mut facts, counted)).await;
        self.finish(called, review, &request, decision, known).await
    }
}

/// What is to be made.
struct Place<'a> {
    kind: String,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Place<'a> {
    /// The name is the object's own: policies that mutate may have given it another than the client said.
    fn of(resource: &Resource, name: &'a str, object: &'a Born) -> Self {
        let own = &*object.metadata.name;
        let name = if own.is_empty() { name } else { own };
        Self { kind: kind_name(&resource.group, &resource.resource), namespace: &object.metadata.namespace, name }
    }
}

/// What was in it would return unasked.
fn out_of_reach<'a>(review: &'a RawRequest, place: &Place<'a>, rule: &str) -> Answer<'a> {
    let message = format!(
        "tagout: denied Recreate of namespaces {:?}: rule {rule} remembers what was destroyed in it, and would not select it \
         any more.\nMake it with the labels that rule {rule} selects.",
        printable(place.name)
    );
    refused(review, place, Denial::Forbidden, message)
}

/// As the API server itself would say it: whoever makes or else updates goes on to update.
fn exists<'a>(review: &'a RawRequest, place: &Place<'a>) -> Answer<'a> {
    let message = format!("{} {:?} already exists", place.kind, printable(place.name));
    refused(review, place, Denial::AlreadyExists, message)
}

fn refused<'a>(review: &'a RawRequest, place: &Place<'a>, kind: Denial, message: String) -> Answer<'a> {
    Answer {
        denied: Some(Denied {
            kind,
            message,
            group: &review.resource.group,
            resource: &review.resource.resource,
            name: place.name,
            object_uid: "",
            causes: Vec::new(),
        }),
        ..allowed(review)
    }
}

/// The controllers that it names and that the one before it had too: those make anew what their templates say.
fn makers(object: &Born<'_>, deletion: &Deletion) -> Vec<Owner> {
    let had = |owner: &Owner| deletion.owners.iter().any(|one| one.controller && one.uid == owner.uid);
    let named = convert::owners(&object.metadata.owner_references).into_iter();
    named.filter(|owner| owner.controller && had(owner)).collect()
}
