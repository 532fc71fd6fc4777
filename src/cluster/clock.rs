//! The API server's time. What is counted in windows is counted by one clock, whatever the clocks of replicas show.
//!
//! All that is decided asks here what time it is: what happened once can be decided again as of then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use kube::Client;
use kube::client::Body;

/// For so long a replica's own oscillator is as good.
const GOOD_FOR: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub enum ApiClock {
    /// The API server is asked, every now and then.
    Asked { client: Client, seen: Arc<Mutex<Option<Seen>>> },
    /// It is as late as was said.
    Told(Told),
}

/// A time that somebody else says.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Timestamp>>);

impl Told {
    pub fn set(&self, time: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    pub fn get(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the API server's clock showed, and when that was by a clock that only ticks.
#[derive(Clone, Copy)]
pub struct Seen {
    time: Timestamp,
    at: Instant,
}

impl ApiClock {
    pub fn new(client: Client) -> Self {
        Self::Asked { client, seen: Arc::default() }
    }

    /// The time by which statements and freezes are judged: a replica's own.
    pub fn here(&self) -> Timestamp {
        match self {
            Self::Asked { .. } => Timestamp::now(),
            Self::Told(told) => told.get(),
        }
    }

    /// Whether time passes while one waits.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }

    /// The time, to the second.
    pub async fn now(&self) -> Result<Timestamp, String> {
        let (client, seen) = match self {
            Self::Asked { client, seen } => (client, seen),
            Self::Told(told) => {
                return Timestamp::from_second(told.get().as_second()).map_err(|error| error.to_string());
            }
        };
        let known = *seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = known.filter(|seen| seen.at.elapsed() < GOOD_FOR) {
            return seen.now();
        }
        let at = Instant::now();
        let time = ask(client).await.ok_or("the API server does not tell its time")?;
        let now = Seen { time, at };
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        now.now()
    }
}

async fn ask(client: &Client) -> Option<Timestamp> {
    let request = http::Request::get("/version").body(Body::empty()).ok()?;
    let response = client.send(request).await.ok()?;
    read(response.headers().get(http::header::DATE)?.to_str().ok()?)
}

impl Seen {
    fn now(self) -> Result<Timestamp, String> {
        let since = i64::try_from(self.at.elapsed().as_secs()).unwrap_or(i64::MAX);
        self.time.checked_add(jiff::SignedDuration::from_secs(since)).map_err(|error| error.to_string())
    }
}

/// The time in a `Date` header.
fn read(header: &str) -> Option<Timestamp> {
    rfc2822::parse(header).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_header_is_read() {
        assert_eq!(read("Sun, 22 Nov 2026 08:13:05 GMT"), "2026-11-22T08:13:05Z".parse().ok());
        assert_eq!(read("yesterday"), None);
    }
}
