use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::client::{Attempt, Client};
use super::config::Settings;
use super::counts::Counts;
use super::formats::body;
use super::queue::{Item, Waiting};
use super::told::{LANES, Lane, Notification};

/// Somebody who is told, with what waits for them and a task for each lane.
pub(super) struct Sink {
    pub name: String,
    aim: watch::Sender<Arc<Aim>>,
    waiting: Mutex<Waiting>,
    rung: [Notify; 3],
    counts: Counts,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// Where to, and how.
pub(super) struct Aim {
    pub settings: Settings,
    client: Client,
}

/// The first pause after a failure; each is twice the last.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(15);
/// What nobody took by then nobody needs any more.
const PATIENCE: Duration = Duration::from_hours(24);

impl Aim {
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        Ok(Self { client: Client::new(&settings)?, settings })
    }

    pub async fn send(&self, notification: &Notification) -> Attempt {
        let (content_type, body) = body(&self.settings, notification);
        self.client.send(&self.settings, content_type, body).await
    }
}

impl Sink {
    pub fn start(aim: Aim, counts: Counts, stopping: &watch::Receiver<bool>) -> Arc<Self> {
        let name = aim.settings.name.clone();
        counts.pending(&name, 0);
        let sink = Arc::new(Self {
            name,
            aim: watch::Sender::new(Arc::new(aim)),
            waiting: Mutex::default(),
            rung: [Notify::new(), Notify::new(), Notify::new()],
            counts,
            tasks: Mutex::default(),
        });
        let tasks = LANES.map(|lane| tokio::spawn(Arc::clone(&sink).work(lane, stopping.clone())).abort_handle());
        sink.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
        sink
    }

    /// What waits for it is lost.
    pub fn end(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        let lost = self.waiting().len();
        (0..lost).for_each(|_| self.counts.drop(&self.name, "removed"));
        self.counts.forget(&self.name);
    }

    pub fn aim(&self) -> Arc<Aim> {
        Arc::clone(&self.aim.borrow())
    }

    /// From now on to another place, without waiting for the old one's sake.
    pub fn turn(&self, aim: Aim) {
        self.aim.send_replace(Arc::new(aim));
    }

    pub fn tell(&self, notification: &Notification) {
        let aim = self.aim();
        if !aim.settings.wants(notification) {
            return;
        }
        let lost = {
            let mut waiting = self.waiting();
            let lost = waiting.take(notification.clone(), Instant::now());
            self.counts.pending(&self.name, waiting.len());
            lost
        };
        self.lost(lost);
        self.rung[notification.kind.lane() as usize].notify_one();
    }

    /// Tells what is due again.
    pub fn settle(&self) {
        let lost = {
            let mut waiting = self.waiting();
            let lost = waiting.settle(self.aim().settings.repeat, Instant::now());
            self.counts.pending(&self.name, waiting.len());
            lost
        };
        self.lost(lost);
        self.rung.iter().for_each(Notify::notify_one);
    }

    pub fn is_urgent_empty(&self) -> bool {
        self.waiting().is_urgent_empty()
    }

    fn lost(&self, count: usize) {
        (0..count).for_each(|_| self.counts.drop(&self.name, "queue_full"));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in there is left half done by a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is in one lane, one after the other, until the process ends.
    async fn work(self: Arc<Self>, lane: Lane, mut stopping: watch::Receiver<bool>) {
        let mut aimed = self.aim.subscribe();
        let mut failures = 0;
        loop {
            let next = self.waiting().next(lane);
            let Some(item) = next else {
                self.rung[lane as usize].notified().await;
                continue;
            };
            let aim = Arc::clone(&aimed.borrow_and_update());
            let attempt = aim.send(&item.notification).await;
            let Some(pause) = self.conclude(lane, item, &attempt, &mut failures) else { continue };
            tokio::select! {
                () = sleep(pause) => {}
                _ = aimed.changed() => failures = 0,
                // Once more, before the process ends.
                _ = stopping.changed(), if lane != Lane::Rest => {}
            }
        }
    }

    /// Takes note of an attempt, and says how long to wait before the next.
    fn conclude(&self, lane: Lane, item: Item, attempt: &Attempt, failures: &mut u32) -> Option<Duration> {
        let kind = item.notification.kind.as_str();
        let sink = &self.name;
        let outcome = match attempt {
            Attempt::Delivered => "delivered",
            Attempt::Refused(_) => "refused",
            _ => "failed",
        };
        self.counts.attempt(sink, outcome);
        let (reason, after) = match attempt {
            Attempt::Delivered => {
                debug!(event = "notified", sink, kind);
                (None, None)
            }
            Attempt::Refused(status) if is_hopeless(*status) || lane == Lane::Rest => {
                warn!(event = "notification_failed", sink, kind, reason = status.as_str(), "it is not tried again");
                self.counts.drop(sink, "refused");
                (None, None)
            }
            Attempt::Refused(status) => (Some(status.as_str()), None),
            Attempt::Later { status, after } => (Some(status.as_str()), *after),
            Attempt::Failed(reason) => (Some(*reason), None),
        };
        if let Some(reason) = reason {
            warn!(event = "notification_failed", sink, kind, reason, "it is tried again");
        }
        let mut waiting = self.waiting();
        waiting.landed(lane);
        if reason.is_some() {
            if item.since.elapsed() > PATIENCE {
                self.counts.drop(sink, "expired");
            } else {
                self.lost(waiting.put_back(item));
            }
        }
        self.counts.pending(sink, waiting.len());
        *failures = if reason.is_some() { failures.saturating_add(1) } else { 0 };
        reason.map(|_| pause(*failures, after))
    }
}

/// The receiver read it and does not want it so. Anything else somebody may put right: a URL, a key, a proxy.
fn is_hopeless(status: StatusCode) -> bool {
    [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY].contains(&status)
}

/// Twice as long each time, and not the same for all.
fn pause(failures: u32, after: Option<Duration>) -> Duration {
    let whole = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST);
    // A hasher's keys are random, and this is no secret.
    let random = u32::try_from(RandomState::new().build_hasher().finish() % 1000).unwrap_or_default();
    let part = whole / 2 + (whole / 2) * random / 1000;
    part.max(after.unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_quarter_of_an_hour_whatever_a_receiver_asks_for() {
        for (failures, least, most) in [(1, 500, 1000), (2, 1000, 2000), (5, 8000, 16_000), (40, 450_000, 900_000)] {
            let pause = pause(failures, None).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
        assert_eq!(pause(1, Some(Duration::from_mins(1))), Duration::from_mins(1));
        assert_eq!(pause(1, Some(Duration::from_hours(24))), LONGEST);
    }

    #[test]
    fn what_somebody_may_put_right_is_not_given_up() {
        for (status, hopeless) in [
            (400, true),
            (413, true),
            (422, true),
            (302, false),
            (401, false),
            (404, false),
            (407, false),
            (410, false),
        ] {
            assert_eq!(is_hopeless(StatusCode::from_u16(status).unwrap()), hopeless, "{status}");
        }
    }
}
