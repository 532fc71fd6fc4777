//! What came of many histories, as a page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::history::model::{Clause, Race};
use crate::history::run::Report;

/// Everything that is counted.
#[derive(Default)]
pub struct Summary {
    answers: BTreeMap<(&'static str, &'static str), u64>,
    races: BTreeMap<Race, u64>,
    again: u64,
    operations: usize,
    histories: usize,
    pub disagreements: Vec<String>,
    /// How many operations it took until a model without this sentence was found to be wrong.
    pub without: BTreeMap<Clause, Option<usize>>,
}

/// How it was done.
pub struct Setting<'a> {
    pub seeds: (u64, u64),
    pub length: usize,
    pub parallel: usize,
    pub took: Duration,
    pub commit: &'a str,
    pub kubernetes: &'a str,
}

const COLUMNS: [&str; 3] = ["passed", "refused", "nothing to decide"];

impl Summary {
    pub fn add(&mut self, report: &Report) {
        for (key, many) in &report.answers {
            *self.answers.entry(*key).or_default() += many;
        }
        for (race, many) in &report.races {
            *self.races.entry(*race).or_default() += many;
        }
        self.again += report.again;
        self.operations += report.done.len();
        self.histories += 1;
    }

    pub fn page(&self, setting: &Setting) -> String {
        let mut page = String::from(INTRODUCTION);
        let (first, last) = setting.seeds;
        let decided: u64 =
            self.answers.iter().filter(|((_, column), _)| *column != COLUMNS[2]).map(|(_, many)| many).sum();
        let refused: u64 =
            self.answers.iter().filter(|((_, column), _)| *column == COLUMNS[1]).map(|(_, many)| many).sum();
        let either: u64 = self.races.values().sum();
        let races: Vec<String> = self.races.iter().map(|(race, many)| format!("; {}: {many}", words(*race))).collect();
        let minutes = setting.took.as_secs() / 60;
        write!(
            page,
            "\n## The last run\n\n{} operations in {} histories of {} each, {} side by side, seeds {first} to {last}, in \
             {minutes} minutes. Tagout of commit {}, Kubernetes {}.\n\n* Of them {decided} were decided, {refused} refused.\n\
             * **Disagreements: {}.**\n* Either answer was right {either} times{}.\n* {} requests were asked again, since the \
             process that was asked had been killed.\n",
            self.operations,
            self.histories,
            setting.length,
            setting.parallel,
            setting.commit,
            setting.kubernetes,
            self.disagreements.len(),
            races.concat(),
            self.again,
        )
        .expect("a string takes it");
        for disagreement in &self.disagreements {
            writeln!(page, "* {disagreement}").expect("a string takes it");
        }
        page.push_str("\n| operation | passed | refused | nothing to decide |\n|---|---|---|---|\n");
        let rows: std::collections::BTreeSet<&str> = self.answers.keys().map(|(row, _)| *row).collect();
        for row in rows {
            let cells = COLUMNS.map(|column| self.answers.get(&(row, column)).copied().unwrap_or_default().to_string());
            writeln!(page, "| {row} | {} |", cells.join(" | ")).expect("a string takes it");
        }
        if !self.without.is_empty() {
            page.push_str(WITHOUT);
            for (clause, found) in &self.without {
                let (file, sentence) = clause.sentence();
                let found = found.map_or_else(|| "not found".to_owned(), |many| many.to_string());
                writeln!(page, "| {sentence} | {file} | {found} |").expect("a string takes it");
            }
        }
        page
    }
}

fn words(race: Race) -> &'static str {
    match race {
        Race::Away => "something returned while no process answered",
        Race::OwnersUnknown => "an owner of a kind was deleted that Tagout had not heard of as one",
    }
}

const INTRODUCTION: &str = "\
<!-- Written by `make histories`. -->

# Random histories

People, pipelines and agents do what comes to their minds: on a real API server with its controllers, with three
processes of Tagout of which one is killed now and then. A model that was written from the documentation, and knows
nothing of Tagout's code, says of each operation what should come of it. After each operation the cluster must be what
the model says: what is there by its UID, what is going, labels, owners, finalizers and data, what the ledgers count, and
what is written down as destroyed. *Refused* means by Tagout, for the action and by the rules that the model says;
*nothing to decide* is what the API server answers by itself (not found, there already, a conflict).
";

const WITHOUT: &str = "
## Whether it would notice

A model that leaves out one sentence of the documentation is wrong, and the cluster has to disagree with it. So many
operations it took until it did:

| sentence | page | operations |
|---|---|---|
";
