//! What people decided to live with, in a file beside their clusters.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::finding::{ALL, Finding, Fix, IGNORE_EXPIRED, IGNORE_UNMATCHED, Severity};

/// The file of `--config`.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub ignore: Vec<Ignore>,
}

/// A finding that somebody accepted.
#[derive(Serialize, Deserialize, Debug, Clone, Default)]
#[serde(deny_unknown_fields)]
pub struct Ignore {
    pub id: String,
    /// As the finding names it; absent: every object, but nothing dangerous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Of rights: only as long as there are no others than these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Vec<String>>,
    pub reason: String,
    /// The last day on which it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Date>,
    /// Whom to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// A finding, and why it is ignored.
#[derive(Serialize, Debug)]
pub struct Ignored {
    #[serde(flatten)]
    pub finding: Finding,
    pub ignored: Ignore,
}

impl Config {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not as doctor reads it", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = serde_saphyr::from_str(text)?;
        for entry in &config.ignore {
            let known = ALL.iter().any(|known| known.id == entry.id);
            ensure!(known, "there is no finding {:?}; docs/doctor.md lists them all", entry.id);
            ensure!(!entry.reason.trim().is_empty(), "the entry about {} needs a reason", entry.id);
        }
        Ok(config)
    }

    /// Parts what was found into what counts and what is ignored. Where not everything was `complete`, an entry that
    /// matches nothing tells nothing.
    pub fn part(&self, found: Vec<Finding>, complete: bool, now: Timestamp) -> (Vec<Finding>, Vec<Ignored>) {
        let (mut counts, mut ignored) = (Vec::new(), Vec::new());
        let mut used = BTreeSet::new();
        for finding in found {
            let matching = self.ignore.iter().enumerate().filter(|(_, entry)| entry.is_about(&finding));
            let mut matching: Vec<_> = matching.collect();
            used.extend(matching.iter().map(|(at, _)| *at));
            matching.retain(|(_, entry)| !entry.is_over(now));
            match matching.first() {
                Some((_, entry)) => ignored.push(Ignored { finding, ignored: (*entry).clone() }),
                None => counts.push(finding),
            }
        }
        for (at, entry) in self.ignore.iter().enumerate() {
            let object =
                format!("Ignore/{}{}", entry.id, entry.object.as_ref().map(|it| format!(" {it}")).unwrap_or_default());
            let owner = entry.owner.as_ref().map(|owner| format!(" Ask {owner}.")).unwrap_or_default();
            if entry.is_over(now) {
                let says = format!(
                    "ended with {}: {}",
                    entry.expires.map(|day| day.to_string()).unwrap_or_default(),
                    entry.reason
                );
                let fix = Fix::words(format!("Close the finding, or decide anew and write another date.{owner}"));
                counts.push(Finding::new(&IGNORE_EXPIRED, Severity::Warning, object, says).fix(fix));
            } else if complete && !used.contains(&at) {
                let fix = Fix::words(format!("Take the entry out of the file.{owner}"));
                counts.push(Finding::new(&IGNORE_UNMATCHED, Severity::Note, object, "matches nothing").fix(fix));
            }
        }
        (counts, ignored)
    }
}

impl Ignore {
    fn is_about(&self, finding: &Finding) -> bool {
        let object = match &self.object {
            Some(object) => *object == finding.object,
            None => finding.severity < Severity::Danger,
        };
        let rights = self
            .rights
            .as_ref()
            .is_none_or(|accepted| finding.rights.iter().all(|right| accepted.iter().any(|own| own == right)));
        self.id == finding.known.id && object && rights
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let end = self.expires.and_then(|day| day.checked_add(1.day()).ok()?.to_zoned(TimeZone::UTC).ok());
        end.is_some_and(|end| end.timestamp() <= now)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::cli::doctor::finding::{PROOF_IDENTITY, STRONG_RIGHTS};
    use crate::cli::statements::tests::NOW;

    fn found() -> Vec<Finding> {
        let strong = Finding::new(&STRONG_RIGHTS, Severity::Danger, "User/eve", "may");
        vec![
            Finding { rights: vec!["impersonate", "webhooks"], ..strong },
            Finding::new(&PROOF_IDENTITY, Severity::Warning, "ProtectionRule/r", "is"),
        ]
    }

    #[rstest]
    #[case::by_object("{id: strong-rights, object: User/eve, reason: ok}", 1, &[])]
    #[case::another_object("{id: strong-rights, object: User/bob, reason: ok}", 0, &["ignore-unmatched"])]
    #[case::danger_needs_an_object("{id: strong-rights, reason: ok}", 0, &["ignore-unmatched"])]
    #[case::a_warning_does_not("{id: proof-identity, reason: ok}", 1, &[])]
    #[case::these_rights("{id: strong-rights, object: User/eve, rights: [impersonate, webhooks, nodes], reason: ok}", 1, &[])]
    #[case::and_no_others("{id: strong-rights, object: User/eve, rights: [webhooks], reason: ok}", 0, &["ignore-unmatched"])]
    #[case::until_a_day("{id: proof-identity, reason: ok, expires: 2026-11-21, owner: sre}", 1, &[])]
    #[case::and_no_longer("{id: proof-identity, reason: ok, expires: 2026-11-20}", 0, &["ignore-expired"])]
    fn what_is_accepted_is_left_out_as_long_as_it_was_accepted(
        #[case] entry: &str,
        #[case] ignored: usize,
        #[case] more: &[&str],
    ) {
        let config = Config::parse(&format!("ignore:\n- {entry}")).expect("a configuration");
        let (counts, left_out) = config.part(found(), true, NOW);
        assert_eq!(left_out.len(), ignored);
        let ids: Vec<_> = counts.iter().skip(2 - ignored).map(|finding| finding.known.id).collect();
        assert_eq!(ids, more);
    }

    #[rstest]
    #[case("ignore:\n- {id: no-such, reason: x}")]
    #[case("ignore:\n- {id: proof-identity}")]
    #[case("ignore:\n- {id: proof-identity, reason: ' '}")]
    #[case("ignore:\n- {id: proof-identity, reason: x, expires: soon}")]
    #[case("ignore:\n- {id: proof-identity, reason: x, objects: y}")]
    #[case("- {id: proof-identity, reason: x}")]
    #[case("\u{0}")]
    fn what_cannot_be_meant_is_refused(#[case] text: &str) {
        assert!(Config::parse(text).is_err());
    }
}
