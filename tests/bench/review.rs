//! What a review costs the process that answers it, beside one that always says the same.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use authenticator::Kind;
use axum::body::Bytes;
use futures::future::try_join_all;
use serde_json::json;

use crate::constant::Constant;
use crate::figures::{Goal, Report, float, number};
use crate::load::{Connection, Peer, Process};
use crate::reviews::{self, Said};
use crate::stage::Stage;

/// Connections, each with one review in flight.
const CONNECTIONS: usize = 4;
const RULE: &str = "reviewed";
const SMALL: usize = 6_000;
const LARGE: usize = 1_000_000;

/// A row of the table.
struct Case {
    what: &'static str,
    said: Said,
    /// An earlier deletion is under way: Tagout can tell by the review alone.
    under_way: bool,
    passes: bool,
}

const CASES: [Case; 4] = [
    Case { what: "under way already: nothing is looked up", said: Said::Nothing, under_way: true, passes: true },
    Case { what: "refused", said: Said::Nothing, under_way: false, passes: false },
    Case { what: "approved, Ed25519", said: Said::Signed(Kind::Ed25519), under_way: false, passes: true },
    Case { what: "approved, sk-Ed25519", said: Said::Signed(Kind::SkEd25519), under_way: false, passes: true },
];

pub async fn measure(stage: &Stage) -> Result<Report> {
    let constant = Constant::start(stage.cp)?;
    stage.rule(RULE, reviews::rule(RULE)).await?;
    let maps = stage.namespace(RULE, json!({"rule": RULE})).await?;
    let tagout = stage.peer(stage.tagout.address()).await?;
    let mut report = Report::default();
    let mut rows = Vec::new();
    for (bytes, size, limit) in [(SMALL, "6 kB", 1.5), (LARGE, "1 MB", 2.0)] {
        for (at, case) in CASES.iter().enumerate() {
            let mut reviews = Vec::new();
            for connection in 0..CONNECTIONS {
                let name = format!("object-{bytes}-{at}-{connection}");
                let mut object = stage.object(&maps, &name, bytes, case.said).await?;
                if case.under_way {
                    object["metadata"]["deletionTimestamp"] = json!("2026-11-23T00:00:00Z");
                }
                reviews.push(Bytes::from(reviews::deletion(&object)));
            }
            let path = format!("/v1/rules/{RULE}?timeout=10s");
            let always = if case.passes { "/allow" } else { "/refuse" };
            let mut sides = [
                Side::connect(&tagout, stage.process()?, path, case.passes).await?,
                Side::connect(&constant.peer()?, constant.process(), always.to_owned(), case.passes).await?,
            ];
            let asked = stage.asked()?;
            for round in 0..stage.often(6, 2) {
                // Whatever changes with time changes for both.
                let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
                for side in order {
                    sides[side].run(&reviews, Duration::from_millis(if stage.quick { 500 } else { 1500 })).await?;
                }
            }
            let requests = float(asked.count()?.values().sum()) / float(sides[0].answered);
            let [tagout, constant] = sides.map(|side| side.micros());
            let ratio = tagout.0 / constant.0;
            println!("  {size}  {}: {:.0} µs, constant {:.0} µs, {ratio:.2}", case.what, tagout.0, constant.0);
            report.goals.push(Goal::new(
                format!("CPU of a review of {size}, {}: times the constant answer", case.what),
                ratio,
                limit,
                "",
            ));
            rows.push(vec![
                format!("{size}, {}", case.what),
                format!("{} (n = {})", number(tagout.0), tagout.1),
                format!("{} (n = {})", number(constant.0), constant.1),
                number(ratio),
                number(requests),
            ]);
        }
    }
    let head = ["review", "Tagout, µs of CPU", "constant answer, µs", "ratio", "requests to the API server"];
    report.table(&head, &rows);
    Ok(report)
}

/// One of two servers that get the same reviews.
struct Side {
    process: Process,
    path: String,
    expected: &'static str,
    connections: Vec<Connection>,
    cpu: Duration,
    answered: usize,
}

impl Side {
    async fn connect(peer: &Peer, process: Process, path: String, passes: bool) -> Result<Self> {
        let connections = try_join_all((0..CONNECTIONS).map(|_| peer.connect())).await?;
        let expected = if passes { "\"allowed\":true" } else { "\"allowed\":false" };
        Ok(Self { process, path, expected, connections, cpu: Duration::ZERO, answered: 0 })
    }

    /// Posts for so long, and adds up what the process used.
    async fn run(&mut self, reviews: &[Bytes], time: Duration) -> Result<()> {
        let (path, expected) = (&self.path, self.expected);
        // Once unmeasured: what was forgotten meanwhile is made anew.
        for (connection, review) in self.connections.iter_mut().zip(reviews) {
            connection.post(path, review).await?;
        }
        let before = self.process.cpu()?;
        let began = Instant::now();
        let each = self.connections.iter_mut().zip(reviews).map(async |(connection, review)| {
            let mut answered = 0;
            while began.elapsed() < time {
                let answer = connection.post(path, review).await?;
                // An error is quick.
                let answer = std::str::from_utf8(&answer).context("no text")?;
                ensure!(answer.contains(expected) && !answer.contains("Undecided"), "another answer: {answer}");
                answered += 1;
            }
            anyhow::Ok(answered)
        });
        self.answered += try_join_all(each).await?.into_iter().sum::<usize>();
        self.cpu += self.process.cpu()?.saturating_sub(before);
        Ok(())
    }

    /// Of CPU for each review, and how many there were.
    fn micros(&self) -> (f64, usize) {
        (self.cpu.as_secs_f64() * 1e6 / float(self.answered), self.answered)
    }
}
