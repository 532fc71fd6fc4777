//! Whether the guard is in force, found out as an attacker would: by trying.
//!
//! Two requests that change nothing go through the real API server, and Tagout itself has to refuse both. Of the entries
//! of single rules they say nothing: those are compared with what was compiled.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::api::{APPROVAL_MANAGER, Action, Approval, ApprovalSpec, Ledger, LedgerSpec, Scope, Statement};
use crate::cluster::within;
use crate::entries::{CANARY, SHARED};
use crate::telemetry::{Check, Hearers, Tried};

/// How the API server says that Tagout refused. It begins with it: what a policy refuses is quoted after other words.
const APPROVAL_REFUSED: &str =
    "admission webhook \"stored-approvals.tagout.dev\" denied the request: tagout: this approval of ";
const DELETION_REFUSED: &str = "admission webhook \"records.tagout.dev\" denied the request: tagout: ";

/// The entries that have to refuse them.
const STORED: &str = "stored-approvals.tagout.dev";
const RECORDS: &str = "records.tagout.dev";

/// Each trial is two requests that are refused, by every replica.
const BETWEEN_TRIALS: Duration = Duration::from_secs(30);
/// People need not hear of what is over within this time.
const LASTING: Duration = Duration::from_mins(1);
/// What still lasts is told again.
const AGAIN: Duration = Duration::from_mins(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// What the API server says to what must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trial {
    RefusedByUs,
    Admitted,
    /// The API server asked, and had no answer.
    Unreached(String),
    /// Something else refused it, or the API server itself did not answer: that says nothing.
    Unknown(String),
}

/// What has become of the last trials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// Since when the API server does not reach Tagout.
    pub silent_since: Option<Instant>,
    pub refused_once: bool,
    /// Whether the last one passed.
    pub admitted: bool,
}

impl Heard {
    fn of(&mut self, trials: [&Trial; 2], now: Instant) {
        self.admitted = trials.contains(&&Trial::Admitted);
        self.refused_once |= trials == [&Trial::RefusedByUs; 2];
        let any = |is: fn(&Trial) -> bool| trials.iter().any(|trial| is(trial));
        if any(|trial| matches!(trial, Trial::RefusedByUs | Trial::Unknown(_))) {
            self.silent_since = None;
        } else if any(|trial| matches!(trial, Trial::Unreached(_))) {
            // What passes, because somebody removed the entries, was not answered by Tagout: it goes on.
            self.silent_since.get_or_insert(now);
        }
    }
}

/// For how long something was not refused, and whether people heard of it.
#[derive(Debug, Default)]
struct Failing {
    since: Option<Instant>,
    told: Option<Instant>,
    refused_once: bool,
}

impl Failing {
    /// Who is to hear of the last trial: of a failure that lasts, again and again, and of its end.
    fn news(&mut self, refused: bool, now: Instant) -> Hearers {
        if refused {
            self.since = None;
            let first = !std::mem::replace(&mut self.refused_once, true);
            return match self.told.take() {
                Some(_) => Hearers::Everybody,
                // Whoever told of a failure may have been ended before it was over.
                None if first => Hearers::Alerts,
                None => Hearers::Nobody,
            };
        }
        let lasts = now.duration_since(*self.since.get_or_insert(now)) >= LASTING;
        if !lasts || self.told.is_some_and(|told| now.duration_since(told) < AGAIN) {
            return Hearers::Nobody;
        }
        self.told = Some(now);
        Hearers::Everybody
    }
}

pub struct Canary {
    client: Client,
    telemetry: Arc<crate::telemetry::Telemetry>,
    heard: watch::Sender<Heard>,
}

impl Canary {
    pub fn new(client: Client, telemetry: Arc<crate::telemetry::Telemetry>) -> Self {
        Self { client, telemetry, heard: watch::Sender::default() }
    }

    pub fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// Works until the process ends. Tries at once when entries were registered, and again and again.
    pub async fn run(self, mut registered: watch::Receiver<bool>) {
        if registered.wait_for(|registered| *registered).await.is_err() {
            return;
        }
        let mut failing = [Failing::default(), Failing::default()];
        loop {
            let approval = self.settled(plant(&self.client)).await;
            let deletion = self.settled(delete(&self.client)).await;
            let tried = [(Check::Approval, &approval), (Check::Deletion, &deletion)];
            for ((check, trial), since) in tried.into_iter().zip(&mut failing) {
                let refused = *trial == Trial::RefusedByUs;
                Tried { check, refused, detail: words(trial), hearers: since.news(refused, Instant::now()) }
                    .emit(&self.telemetry);
            }
            let refused = approval == Trial::RefusedByUs && deletion == Trial::RefusedByUs;
            self.heard.send_modify(|heard| heard.of([&approval, &deletion], Instant::now()));
            // Soon again until it is known: API servers hear of new entries within a second or two.
            sleep(if refused { BETWEEN_TRIALS } else { BETWEEN_TRIALS / 10 }).await;
        }
    }

    async fn settled(&self, trial: impl Future<Output = Trial>) -> Trial {
        within(PATIENCE, async { Ok(trial.await) }).await.unwrap_or_else(Trial::Unknown)
    }
}

/// An approval by nobody.
pub(super) async fn plant(client: &Client) -> Trial {
    let now = Timestamp::now();
    let statement = Statement {
        action: Action::Delete,
        uid: "none".into(),
        resource: "trials.tagout.dev".into(),
        namespace: String::new(),
        name: "trial".into(),
        cluster: "none".into(),
        epoch: None,
        approver: "nobody".into(),
        team: "none".into(),
        requester: None,
        reason: None,
        protects: None,
        new_spec: None,
        approved_at: now,
        expires: now + SignedDuration::from_mins(1),
        break_glass: false,
        delete_only: false,
        scope: Scope::Object,
        signature: None,
    };
    let approval = Approval::new(&statement.approval_name(), ApprovalSpec { statements: vec![statement] });
    let dry_run = PostParams { dry_run: true, field_manager: Some(APPROVAL_MANAGER.to_owned()) };
    let said = Api::<Approval>::all(client.clone()).create(&dry_run, &approval).await;
    sure(client, heard(said, STORED, APPROVAL_REFUSED), STORED).await
}

/// The deletion of a ledger that nobody may delete, Tagout neither.
async fn delete(client: &Client) -> Trial {
    let ledgers: Api<Ledger> = Api::all(client.clone());
    let dry_run = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let mut said = ledgers.delete(CANARY, &dry_run).await;
    if matches!(&said, Err(kube::Error::Api(status)) if status.code == 404) {
        let made = ledgers.create(&PostParams::default(), &Ledger::new(CANARY, LedgerSpec::default())).await;
        if let Err(error) = made {
            debug!(%error, "there is nothing yet by which to try a deletion");
        }
        said = ledgers.delete(CANARY, &dry_run).await;
    }
    sure(client, heard(said, RECORDS, DELETION_REFUSED), RECORDS).await
}

/// That nobody answered counts where it can only be Tagout who did not: others may give their entries this name, too.
async fn sure(client: &Client, trial: Trial, entry: &str) -> Trial {
    if !matches!(trial, Trial::Unreached(_)) {
        return trial;
    }
    match Box::pin(is_of_others_too(client, entry)).await {
        Ok(false) => trial,
        Ok(true) => Trial::Unknown(format!("a webhook of somebody else is called {entry}, too")),
        Err(error) => Trial::Unknown(error.to_string()),
    }
}

async fn is_of_others_too(client: &Client, entry: &str) -> kube::Result<bool> {
    let list = ListParams::default();
    let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone()).list(&list).await?;
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone()).list(&list).await?;
    let others = validating.into_iter().filter(|one| one.name_any() != SHARED);
    let names = others.flat_map(|one| one.webhooks.unwrap_or_default()).map(|webhook| webhook.name);
    let mutating = mutating.into_iter().flat_map(|one| one.webhooks.unwrap_or_default()).map(|webhook| webhook.name);
    Ok(names.chain(mutating).any(|name| name == entry))
}

fn heard<T>(said: kube::Result<T>, entry: &str, ours: &str) -> Trial {
    match said {
        Ok(_) => Trial::Admitted,
        Err(kube::Error::Api(status)) if status.message.starts_with(ours) => Trial::RefusedByUs,
        // Only its own words: whoever refuses something else does not make Tagout give up.
        Err(kube::Error::Api(status)) if is_a_failed_call(&status.message, entry) => {
            Trial::Unreached(status.message.clone())
        }
        Err(error) => Trial::Unknown(error.to_string()),
    }
}

/// `Internal error occurred: failed calling webhook "…"`: what others refuse is quoted after other words.
fn is_a_failed_call(message: &str, entry: &str) -> bool {
    let failed = format!("failed calling webhook \"{entry}\":");
    message.strip_prefix("Internal error occurred: ").unwrap_or(message).starts_with(&failed)
}

fn words(trial: &Trial) -> &str {
    match trial {
        Trial::RefusedByUs => "refused by Tagout",
        Trial::Admitted => "let pass: the API server does not ask Tagout",
        Trial::Unreached(error) | Trial::Unknown(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn said(message: &str) -> Trial {
        let status = Status::failure(message, "Forbidden").with_code(403);
        heard(Err::<(), _>(kube::Error::Api(status.boxed())), RECORDS, DELETION_REFUSED)
    }

    #[test]
    fn people_hear_of_a_failure_that_lasts_again_and_again_and_of_its_end() {
        let (mut failing, began) = (Failing::default(), Instant::now());
        assert_eq!(failing.news(true, began), Hearers::Alerts, "one from before the start may stand");
        assert_eq!(failing.news(false, began), Hearers::Nobody, "entries may have been written a moment ago");
        assert_eq!(failing.news(true, began), Hearers::Nobody);
        assert_eq!(failing.news(false, began), Hearers::Nobody);
        assert_eq!(failing.news(false, began + LASTING), Hearers::Everybody);
        assert_eq!(failing.news(false, began + LASTING * 2), Hearers::Nobody);
        assert_eq!(failing.news(false, began + LASTING + AGAIN), Hearers::Everybody);
        assert_eq!(failing.news(true, began + LASTING * 2 + AGAIN), Hearers::Everybody);
        assert_eq!(failing.news(true, began + LASTING * 2 + AGAIN), Hearers::Nobody);
    }

    #[test]
    fn only_tagouts_own_refusal_counts_as_one() {
        assert_eq!(heard(Ok(()), RECORDS, DELETION_REFUSED), Trial::Admitted);
        assert_eq!(said(&format!("{DELETION_REFUSED}this change is not accepted")), Trial::RefusedByUs);
        // What a policy quotes stands behind its own words.
        let policy = format!("ValidatingAdmissionPolicy 'x' with binding 'x' denied request: {DELETION_REFUSED}no");
        assert!(matches!(said(&policy), Trial::Unknown(_)));
    }

    #[test]
    fn a_silence_ends_when_tagout_was_heard_or_nobody_knows_and_not_when_its_entries_are_gone() {
        let unreached = Trial::Unreached("nobody".to_owned());
        let began = Instant::now();
        for end in [Trial::RefusedByUs, Trial::Unknown("another webhook failed".to_owned())] {
            let mut heard = Heard::default();
            heard.of([&unreached, &end], began);
            assert_eq!(heard.silent_since, None, "it has to be both");
            for trials in [[&unreached; 2], [&Trial::Admitted; 2], [&unreached, &Trial::Admitted]] {
                heard.of(trials, began);
                assert_eq!(heard.silent_since, Some(began), "{trials:?}");
            }
            heard.of([&Trial::Admitted, &end], began);
            assert_eq!(heard.silent_since, None);
        }
    }

    #[test]
    fn who_refuses_what_tagout_tries_does_not_make_it_unreached() {
        assert!(matches!(said("failed calling webhook \"records.tagout.dev\": refused"), Trial::Unreached(_)));
        assert!(matches!(said("failed calling webhook \"other.example.com\": refused"), Trial::Unknown(_)));
        for other in ["ledgers.tagout.dev is forbidden", "ValidatingAdmissionPolicy 'x' denied request: no"] {
            assert!(matches!(said(other), Trial::Unknown(_)), "{other}");
        }
        // Nor does it by quoting those words.
        let quoted = "ValidatingAdmissionPolicy 'x' with binding 'x' denied request: failed calling webhook";
        assert!(matches!(said(quoted), Trial::Unknown(_)));
    }
}
