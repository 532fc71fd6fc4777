//! Notifications: tells others, by webhooks of theirs, what people should hear of.
//!
//! Nothing waits for it: a decision leaves a [`Notification`] with the [`Notifier`], which sends it in its own time. What
//! waits is in memory, and lost with the process.

mod budget;
mod client;
mod config;
mod counts;
mod formats;
mod queue;
mod sink;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

#[cfg(feature = "otel")]
pub use client::plain_client;
pub use config::{Config, Format, SinkConfig};
pub use formats::schema;
pub use told::{Data, Kind, Notification, Unconfirmed};

use client::Attempt;
use config::Settings;
use counts::Counts;
use sink::{Aim, Sink};

/// Takes what is to be told.
#[derive(Clone)]
pub struct Notifier(Arc<Inner>);

struct Inner {
    sinks: ArcSwap<Vec<Arc<Sink>>>,
    counts: Counts,
    stop: watch::Sender<bool>,
}

/// A file that was exchanged is noticed within this time.
const LOOK: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);
/// For what must be heard, when the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(4);
/// How often the old place is told that there is a new one.
const FAREWELLS: u32 = 5;

impl Notifier {
    /// Tells nobody, until it follows a file.
    pub fn new() -> Self {
        let (sinks, stop) = (ArcSwap::default(), watch::Sender::new(false));
        Self(Arc::new(Inner { sinks, counts: Counts::default(), stop }))
    }

    pub fn register(&self, registry: &mut Registry) {
        self.0.counts.register(registry);
    }

    /// Whether anybody wants to hear of such a thing.
    pub fn wants(&self, kind: Kind) -> bool {
        self.0.sinks.load().iter().any(|sink| sink.aim().settings.wants_kind(kind))
    }

    /// Leaves it to be told. Never waits.
    pub fn tell(&self, notification: &Notification) {
        for sink in self.0.sinks.load().iter() {
            sink.tell(notification);
        }
    }

    /// Tells whom the file names, and reads it again whenever it or what it names has changed: what cannot be used
    /// leaves the last good one. Says what was changed, but not what was there at first. Works until the process ends.
    pub async fn follow(self, file: Option<PathBuf>, changed: impl Fn(Notification) + Send) {
        let Some(file) = file else { return std::future::pending().await };
        let (mut fault, mut looked) = (None, None::<Instant>);
        let mut first = true;
        loop {
            if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                match config::read(&file).and_then(|settings| self.put(settings)) {
                    Ok(news) => {
                        fault = None;
                        self.0.counts.config_good.get_or_create(&[]).set(1);
                        if first {
                            info!(sinks = self.0.sinks.load().len(), "notifications are sent");
                        } else if let Some(news) = news {
                            changed(news);
                        }
                        first = false;
                    }
                    Err(words) => {
                        self.0.counts.config_good.get_or_create(&[]).set(0);
                        if fault.as_ref() != Some(&words) {
                            error!(
                                event = "notifications_unreadable",
                                error = words,
                                "--notifications cannot be used; the last good one stays, if there was one"
                            );
                        }
                        fault = Some(words);
                    }
                }
            }
            self.0.sinks.load().iter().for_each(|sink| sink.settle());
            sleep(TICK).await;
        }
    }

    /// Puts these sinks in the place of those there are, and says what that changes.
    fn put(&self, settings: Vec<Settings>) -> Result<Option<Notification>, String> {
        let before = self.0.sinks.load_full();
        let known: BTreeMap<&str, &Arc<Sink>> = before.iter().map(|sink| (sink.name.as_str(), sink)).collect();
        let same = |one: &Settings| known.get(one.name.as_str()).is_some_and(|sink| sink.aim().settings == *one);
        if settings.len() == before.len() && settings.iter().all(same) {
            return Ok(None);
        }
        let aim = |one: Settings| Aim::new(one).map_err(|error| format!("{error:#}"));
        let wanted: BTreeSet<String> = settings.iter().map(|one| one.name.clone()).collect();
        let names = |which: &dyn Fn(&Settings) -> bool| -> Vec<String> {
            settings.iter().filter(|one| which(one)).map(|one| one.name.clone()).collect()
        };
        let added = names(&|one| !known.contains_key(one.name.as_str()));
        let turned = names(&|one| known.contains_key(one.name.as_str()) && !same(one));
        let removed: Vec<String> =
            before.iter().map(|sink| sink.name.clone()).filter(|name| !wanted.contains(name)).collect();
        // All of them first: half a configuration would be none.
        let aims: Vec<Aim> = settings.into_iter().map(aim).collect::<Result<_, _>>()?;
        let news = changes(&added, &turned, &removed);
        for (name, sink) in &known {
            let before = sink.aim();
            let stays =
                aims.iter().any(|aim| aim.settings.name == *name && before.settings.is_heard_where(&aim.settings));
            if !stays {
                tokio::spawn(farewell(before, news.clone(), self.0.counts.clone()));
            }
        }
        let stopping = self.0.stop.subscribe();
        let sinks = aims.into_iter().map(|aim| match known.get(aim.settings.name.as_str()) {
            Some(sink) => {
                if turned.contains(&sink.name) {
                    sink.turn(aim);
                }
                Arc::clone(sink)
            }
            None => Sink::start(aim, self.0.counts.clone(), &stopping),
        });
        self.0.sinks.store(Arc::new(sinks.collect()));
        for name in &removed {
            known[name.as_str()].end();
        }
        Ok(Some(news))
    }

    /// Gives what must be heard some last seconds.
    pub async fn drain(&self) {
        self.0.stop.send_replace(true);
        let until = Instant::now() + DRAIN;
        let sinks = self.0.sinks.load_full();
        while Instant::now() < until && !sinks.iter().all(|sink| sink.is_urgent_empty()) {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

fn changes(added: &[String], turned: &[String], removed: &[String]) -> Notification {
    let part = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{} {what}", names.join(", ")));
    let parts = [part("added", added), part("changed", turned), part("removed", removed)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let message = format!("Where notifications go was changed: {}", parts.join("; "));
    let at = Timestamp::now();
    let data = Data { message: message.clone(), ..Data::default() };
    Notification::new(Kind::NotificationsChanged, at, data).distinct_by(format!("{message} {}", at.as_second() / 60))
}

/// Whoever turns notifications away is not the last that the old place hears of.
async fn farewell(aim: Arc<Aim>, news: Notification, counts: Counts) {
    for attempt in 0..FAREWELLS {
        if aim.send(&news).await == Attempt::Delivered {
            return;
        }
        sleep(Duration::from_secs(1 << attempt)).await;
    }
    let (sink, kind) = (&aim.settings.name, news.kind.as_str());
    warn!(
        event = "notification_failed",
        sink,
        kind,
        reason = "farewell",
        "the old place does not hear that it changed"
    );
    counts.drop(sink, "farewell");
}

/// Sends a test to each sink of a file, once. What became of each, in words.
pub async fn test(file: &Path) -> Result<Vec<(String, Result<(), String>)>, String> {
    let mut outcomes = Vec::new();
    for settings in config::read(file)? {
        let name = settings.name.clone();
        let data = Data {
            message: "Somebody tries whether notifications of Tagout arrive here".to_owned(),
            ..Data::default()
        };
        let at = Timestamp::now();
        let notification = Notification::new(Kind::Test, at, data).distinct_by(at.to_string());
        let outcome = match Aim::new(settings) {
            Err(error) => Err(format!("{error:#}")),
            Ok(aim) => match aim.send(&notification).await {
                Attempt::Delivered => Ok(()),
                Attempt::Refused(status) | Attempt::Later { status, .. } => {
                    Err(format!("it answers {status}; look at its URL and headers"))
                }
                Attempt::Failed(reason) => Err(format!("{}; look at its URL, caFile and proxy", words(reason))),
            },
        };
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

fn words(reason: &str) -> &str {
    match reason {
        "timeout" => "it does not answer within 10 seconds",
        "no_connection" => "no connection can be made to it",
        "broken_connection" => "the connection ends before it answers",
        "untrusted_certificate" => "its certificate is by no authority that is trusted, or for another name",
        "tls" => "TLS with it fails",
        other => other,
    }
}
