//! What is said of rules that only a file has, for programs and for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::SignedDuration;
use serde::Serialize;
use serde_json::Value;

use super::cover::{Cover, Object, counts};
use super::faults::Fault;
use super::server::Trial;
use crate::api::{Action, Proof, ProtectionRule};
use crate::cli::words::{printable, rough, table};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli::preview) struct Proposals {
    pub(super) rules: Vec<Proposal>,
    pub(super) notes: Vec<String>,
}

/// What one rule would do.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proposal {
    /// The file and the document in it.
    pub(super) at: String,
    pub(super) name: String,
    /// `server`, or `here`, where only this program looked at it.
    pub(super) checked: &'static str,
    /// Why the API server did not check it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unchecked: Option<String>,
    pub(super) faults: Vec<Fault>,
    pub(super) covers: Cover,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) needs: Option<Needed>,
    pub(super) beside: Comparison,
    /// Why nobody can apply it, whoever approves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    /// The rules by which applying it needs approval, and of whom.
    pub(super) approval: BTreeMap<String, Vec<String>>,
    /// What loosens, where it needs approval.
    pub(super) because: Vec<String>,
}

/// What would need whose approval.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Needed {
    pub(super) actions: Vec<Action>,
    /// Like `2 of sre, dba`. All of them.
    pub(super) people: Vec<String>,
    pub(super) proof: Proof,
    pub(super) valid_for_seconds: i64,
    pub(super) break_glass: Vec<String>,
    /// Why nobody could approve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nobody: Option<String>,
}

/// The rule beside the one of its name that is in force.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Comparison {
    pub(super) standing: Standing,
    pub(super) looser: Vec<String>,
    /// The fields by which it is stricter.
    pub(super) tightened: Vec<String>,
    pub(super) gains: BTreeSet<Object>,
    pub(super) loses: BTreeSet<Object>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Standing {
    /// There is none.
    #[default]
    New,
    Same,
    Stricter,
    Looser,
    /// Looser in some, stricter in others.
    Mixed,
    /// What is in force cannot be read.
    Unreadable,
}

impl Proposal {
    pub(super) fn of(at: String, rule: &ProtectionRule) -> Self {
        Self { at, name: rule.metadata.name.clone().unwrap_or_default(), ..Self::default() }
    }

    pub(super) fn faulty(at: String, document: &Value, faults: Vec<Fault>, trial: &Trial) -> Self {
        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut proposal = Self { at, name, ..Self::default() };
        proposal.take(trial, Vec::new);
        Self { faults, ..proposal }
    }

    /// What the API server said, or what is said here in its stead.
    pub(super) fn take(&mut self, trial: &Trial, here: impl Fn() -> Vec<Fault>) {
        (self.checked, self.unchecked, self.faults) = match trial {
            Trial::Here => ("here", None, here()),
            Trial::NotAllowed(why) => ("here", Some(why.clone()), here()),
            Trial::Passed => ("server", None, Vec::new()),
            Trial::Faulty(faults) => ("server", None, faults.clone()),
        };
    }
}

impl Proposals {
    pub(in crate::cli::preview) fn text(&self) -> String {
        let mut said = String::new();
        for rule in &self.rules {
            rule.text(&mut said).expect("a string takes it");
            said.push('\n');
        }
        for note in &self.notes {
            writeln!(said, "Note: {}", printable(note)).expect("a string takes it");
        }
        said
    }
}

impl Proposal {
    fn text(&self, said: &mut String) -> std::fmt::Result {
        writeln!(said, "{} ({})", printable(&self.name), printable(&self.at))?;
        match (self.checked, &self.unchecked) {
            ("server", _) => writeln!(said, "  Checked by the API server.")?,
            (_, Some(why)) => writeln!(said, "  Checked here only; the API server did not: {}", printable(why))?,
            (_, None) => writeln!(said, "  Checked here only.")?,
        }
        for fault in &self.faults {
            writeln!(said, "  Wrong: {}: {}", printable(&fault.at), printable(&fault.what))?;
        }
        let Some(needs) = &self.needs else { return Ok(()) };
        writeln!(said, "  {}", self.beside.words())?;
        for (what, all) in [("Looser", &self.beside.looser), ("Stricter", &self.beside.tightened)] {
            all.iter().try_for_each(|one| writeln!(said, "    {what}: {}", printable(one)))?;
        }
        match (&self.refused, self.approval.is_empty()) {
            (Some(why), _) => writeln!(said, "  Applying it is accepted from nobody: {}", printable(why))?,
            (None, true) => writeln!(said, "  Applying it needs no approval.")?,
            (None, false) => {
                for (rule, people) in &self.approval {
                    let people = printable(&people.join(" and "));
                    writeln!(said, "  Applying it needs the approval of {people}, by rule {}.", printable(rule))?;
                }
            }
        }
        let actions: Vec<_> = needs.actions.iter().map(|action| action.as_str()).collect();
        let proof = match needs.proof {
            Proof::Identity => "",
            Proof::Signature => ", signed",
            Proof::HardwareKey => ", signed with a hardware key",
        };
        let valid = rough(SignedDuration::from_secs(needs.valid_for_seconds));
        let people = printable(&needs.people.join(" and "));
        writeln!(said, "  Needs {people}{proof}, good for {valid}: {}", actions.join(", "))?;
        if !needs.break_glass.is_empty() {
            writeln!(said, "  In an emergency: 1 of {}", printable(&needs.break_glass.join(", ")))?;
        }
        if let Some(nobody) = &needs.nobody {
            writeln!(said, "  Nobody could approve that: {}", printable(nobody))?;
        }
        writeln!(said, "  Covers {} now.", objects(self.covers.objects.len()))?;
        rows(said, &self.covers.counts());
        if self.covers.followers > 0 {
            writeln!(said, "  Leaves {} more to the controllers that make them anew.", self.covers.followers)?;
        }
        for (why, count) in &self.covers.untold {
            writeln!(said, "  Cannot tell of {count}: {}", printable(why))?;
        }
        for (what, all) in [("Gains", &self.beside.gains), ("Loses", &self.beside.loses)] {
            if !all.is_empty() {
                writeln!(said, "  {what} cover of {}.", objects(all.len()))?;
                rows(said, &counts(all));
            }
        }
        Ok(())
    }
}

fn objects(count: usize) -> String {
    format!("{count} object{}", if count == 1 { "" } else { "s" })
}

fn rows(said: &mut String, counts: &BTreeMap<(&str, &str), u64>) {
    let lines = counts
        .iter()
        .map(|((kind, namespace), count)| [(*kind).to_owned(), (*namespace).to_owned(), count.to_string()]);
    if !counts.is_empty() {
        let table = table(["KIND", "NAMESPACE", "OBJECTS"], lines);
        said.extend(table.lines().flat_map(|line| ["    ", line, "\n"]));
    }
}

impl Comparison {
    fn words(&self) -> &'static str {
        match self.standing {
            Standing::New => "No rule of this name is in force.",
            Standing::Same => "As strict as the rule of this name that is in force.",
            Standing::Stricter => "Stricter than the rule of this name that is in force.",
            Standing::Looser => "Looser than the rule of this name that is in force.",
            Standing::Mixed => "Looser in some, and stricter in others, than the rule of this name that is in force.",
            Standing::Unreadable => "What is in force of the rule of this name cannot be read.",
        }
    }
}
