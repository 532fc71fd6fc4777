//! What was measured, in words: quantiles with the number of samples they rest on, and goals that are met or missed.

use std::fmt::Write;
use std::time::Duration;

/// Times in order.
#[derive(Clone, Debug)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time below which so many of a thousand are.
    pub fn quantile(&self, of_a_thousand: usize) -> Duration {
        let at = (self.0.len() * of_a_thousand / 1000).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    pub fn median(&self) -> f64 {
        millis(self.quantile(500))
    }

    /// In milliseconds; where less than ten are beyond it, a quantile is luck, and a dash stands there.
    pub fn tail(&self, of_a_thousand: usize) -> String {
        if self.0.len() * (1000 - of_a_thousand) < 10_000 {
            return "–".to_owned();
        }
        format!("{:.1}", millis(self.quantile(of_a_thousand)))
    }

    /// Between which two values the median is, nineteen times out of twenty: by ranks, whatever the distribution.
    pub fn median_within(&self) -> (f64, f64) {
        let count = float(self.0.len());
        let reach = 0.98 * count.sqrt();
        let at = |rank: f64| {
            let rank = rank.clamp(0.0, (count - 1.0).max(0.0));
            millis(self.0.get(whole(rank)).copied().unwrap_or_default())
        };
        (at(count / 2.0 - reach), at(count / 2.0 + reach))
    }

    /// For a picture: the time, and the part that took no longer.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let count = float(self.0.len());
        (0..self.0.len()).map(|at| (millis(self.0[at]), (float(at) + 1.0) / count)).collect()
    }
}

/// A goal of the project, and what came of it.
#[derive(Clone, Debug)]
pub struct Goal {
    pub what: String,
    pub limit: f64,
    pub measured: f64,
    pub unit: &'static str,
}

impl Goal {
    pub fn new(what: impl Into<String>, measured: f64, limit: f64, unit: &'static str) -> Self {
        Self { what: what.into(), limit, measured, unit }
    }

    pub fn is_met(&self) -> bool {
        self.measured <= self.limit
    }

    pub fn line(&self) -> String {
        let Self { what, limit, measured, unit } = self;
        let verdict = if self.is_met() {
            "met".to_owned()
        } else if unit.is_empty() {
            format!("**missed**, {:.1} times the goal", measured / limit)
        } else {
            format!("**missed** by {}{unit}", number(measured - limit))
        };
        format!("| {what} | ≤ {limit}{unit} | {}{unit} | {verdict} |", number(*measured))
    }
}

/// As many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What one part of the run has to say.
#[derive(Default)]
pub struct Report {
    text: String,
    pub goals: Vec<Goal>,
}

impl Report {
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// A table whose first row names the columns.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.line(format!("| {} |", head.join(" | ")));
        let rule: Vec<&str> = head.iter().enumerate().map(|(at, _)| if at == 0 { "---" } else { "---:" }).collect();
        self.line(format!("|{}|", rule.join("|")));
        for row in rows {
            self.line(format!("| {} |", row.join(" | ")));
        }
        self.line("");
    }

    pub fn text(&self) -> String {
        let mut text = self.text.clone();
        if !self.goals.is_empty() {
            text.push_str("| goal | | measured | |\n|---|---:|---:|---|\n");
            for goal in &self.goals {
                writeln!(text, "{}", goal.line()).expect("a string takes it");
            }
        }
        text
    }
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "what is counted here is far below 2^52")]
pub fn float(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank in a list")]
fn whole(rank: f64) -> usize {
    rank as usize
}
