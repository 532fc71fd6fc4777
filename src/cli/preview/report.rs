//! What a preview says, for programs and for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::words::{printable, seconds, table};

/// What rules would have made of what happened, or would make of what is there.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Where it is from, like `audit log`.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    pub requests: Requests,
    pub rows: Vec<Row>,
    /// What was only tried, and changed nothing.
    pub dry_runs: Vec<Row>,
    pub untold: Vec<Untold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
    pub notes: Vec<String>,
}

/// How many requests were looked at. No number of refusals is worth more than these.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Requests to change something that came as far as Tagout.
    pub seen: u64,
    pub decided: u64,
    pub untold: u64,
}

/// Requests of one sort.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub rule: String,
    pub action: String,
    /// `deny`, `warn`, `audit` or `allow`.
    pub verdict: String,
    pub basis: Basis,
    pub requester: String,
    pub tool: String,
    pub kind: String,
    pub namespace: String,
    /// How many different ones.
    pub objects: usize,
    pub requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    pub examples: Vec<String>,
    /// The kinds of what these verdicts rest on and was only found afterwards: the objects themselves, their namespaces and
    /// owners, what would have gone along.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub assumed: BTreeSet<String>,
    /// Requests that followed from these, and would not have been made without them.
    pub consequences: u64,
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Tagout said so at the time.
    Recorded,
    /// Decided again, by what the log shows.
    #[default]
    Replayed,
    /// Decided again, by what was found afterwards and may have been otherwise.
    Assumed,
}

impl Basis {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Replayed => "replayed",
            Self::Assumed => "assumed",
        }
    }
}

impl Row {
    /// Like `replayed`, or `assumed: namespaces, pods`.
    pub fn rests_on(&self) -> String {
        let assumed: Vec<&str> = self.assumed.iter().map(String::as_str).collect();
        let (basis, assumed) = (self.basis.as_str(), assumed.join(", "));
        if assumed.is_empty() { basis.to_owned() } else { format!("{basis}: {assumed}") }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Untold {
    pub why: String,
    pub requests: u64,
}

/// Whether what Tagout said at the time is what is said now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Agreement {
    /// Requests of which both say the same.
    pub both: u64,
    /// Requests that were judged more harshly at the time.
    pub only_recorded: u64,
    /// Requests that would be judged more harshly now.
    pub only_replayed: u64,
    /// Requests with a verdict of the time that cannot be told now.
    pub untold: u64,
    pub examples: Vec<String>,
}

impl Report {
    /// Requests that a rule refuses, or would if it enforced.
    pub fn refused(&self) -> u64 {
        self.rows.iter().filter(|row| row.verdict != "allow").map(|row| row.requests).sum()
    }

    pub fn text(&self) -> String {
        let mut said = String::new();
        let of_time = match (self.from, self.until) {
            (Some(from), Some(until)) => format!(" from {} to {}", seconds(from), seconds(until)),
            _ => String::new(),
        };
        let Requests { seen, decided, untold } = self.requests;
        let (denials, s) = (self.refused(), if self.refused() == 1 { "" } else { "s" });
        writeln!(said, "{}{of_time}", printable(&self.source)).expect("a string takes it");
        writeln!(said, "{denials} denial{s}; {decided} of {seen} requests decided, {untold} cannot tell\n")
            .expect("a string takes it");
        rows(&mut said, "", &self.rows);
        rows(&mut said, "Dry-runs, which changed nothing:\n", &self.dry_runs);
        if !self.untold.is_empty() {
            said += "Cannot tell:\n";
            said +=
                &table(["REQUESTS", "WHY"], self.untold.iter().map(|one| [one.requests.to_string(), one.why.clone()]));
            said.push('\n');
        }
        if let Some(Agreement { both, only_recorded, only_replayed, untold, examples }) = &self.agreement {
            writeln!(
                said,
                "Beside what Tagout said at the time: {both} the same, {only_recorded} more harshly then, {only_replayed} \
                 more harshly now, {untold} cannot tell"
            )
            .expect("a string takes it");
            for example in examples {
                writeln!(said, "  {}", printable(example)).expect("a string takes it");
            }
            said.push('\n');
        }
        for note in &self.notes {
            writeln!(said, "Note: {}", printable(note)).expect("a string takes it");
        }
        said
    }
}

fn rows(said: &mut String, title: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    said.push_str(title);
    let lines = rows.iter().map(|row| {
        [
            row.verdict.clone(),
            row.rule.clone(),
            row.action.clone(),
            row.requester.clone(),
            row.tool.clone(),
            row.kind.clone(),
            row.namespace.clone(),
            row.requests.to_string(),
            row.objects.to_string(),
            row.consequences.to_string(),
            row.last.map(seconds).unwrap_or_default(),
            row.rests_on(),
        ]
    });
    let header = [
        "VERDICT",
        "RULE",
        "ACTION",
        "REQUESTER",
        "TOOL",
        "KIND",
        "NAMESPACE",
        "REQUESTS",
        "OBJECTS",
        "FOLLOWED",
        "LAST",
        "BASIS",
    ];
    said.push_str(&table(header, lines));
    said.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_denials_stand_beside_how_much_was_decided() {
        let requests = Requests { seen: 10, decided: 7, untold: 3 };
        let untold = vec![Untold { why: "it is \u{1b}[31mred".to_owned(), requests: 3 }];
        let text = Report { source: "audit log".to_owned(), requests, untold, ..Report::default() }.text();
        assert!(text.contains("0 denials; 7 of 10 requests decided, 3 cannot tell"), "{text}");
        assert!(text.contains("it is") && !text.contains('\u{1b}'), "{text}");
    }
}
