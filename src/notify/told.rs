use std::fmt::Write as _;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::printable;

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request was refused.
    Denied,
    /// A request was let pass that a rule in mode Warn or Audit would have refused.
    WouldDeny,
    /// Somebody wrote an approval.
    Presented,
    /// A request was let pass because people approved it.
    Approved,
    /// A request was let pass in an emergency, by one person alone.
    BrokeGlass,
    /// A rule, team or definition was let become weaker because people approved it.
    Loosened,
    /// What makes Tagout work may be changed by somebody for a time.
    Unlocked,
    /// It may not any more.
    Relocked,
    /// What guards was changed by other hands and put back.
    DriftRepaired,
    /// The shared configuration was changed by other hands: approvals by identity from before count no more.
    EpochEnded,
    /// A rule is not in force as it is written.
    RuleRejected,
    /// What Tagout must refuse is not refused, or cannot be tried.
    CanaryFailed,
    /// It is refused again.
    Reached,
    /// Where notifications go was changed. The old place hears it too.
    NotificationsChanged,
    /// Somebody tries whether notifications arrive.
    Test,
}

/// Who waits for whom: nothing in one waits for anything in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// What Tagout itself knows. No review, which can be forged, gets in here.
    Guard,
    /// What a review says and must be heard.
    Passed,
    /// What there may be much of.
    Rest,
}

pub(super) const LANES: [Lane; 3] = [Lane::Guard, Lane::Passed, Lane::Rest];

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub kind: Kind,
    pub at: Timestamp,
    pub data: Data,
    /// What makes two of the same kind about the same thing different ones.
    pub distinct: String,
    /// When it is told again, if it is.
    pub again: Option<Timestamp>,
    /// Whether it only ends an alert, and is no news to people.
    pub quiet: bool,
}

/// The `data` of a CloudEvent. What does not apply is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// `clusterName` of the configuration.
    pub cluster: String,
    /// What happened, in a sentence. Names in it were written by anyone.
    pub message: String,
    /// The request, as denials and `kubectl tagout review` name it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// The rules that refused, or that were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What was asked for: `Delete`, `ScaleToZero` and so on.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub action: &'static str,
    /// The mode of the gravest rule: `Enforce`, `Warn` or `Audit`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub mode: &'static str,
    /// The object's kind as rules name it: `deployments.apps`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Who asked, or for whom Tagout is unlocked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub requester: String,
    /// Who approved, or broke the glass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<String>,
    /// Whose approval is missing: `1 of senior-sre`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The command by which a person looks at it and approves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub approve: String,
    /// Why, in the words of the log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Until when it is unlocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub until: Option<Timestamp>,
    /// Whether one person alone passes a rule by it, in an emergency.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub broke_glass: bool,
    /// Of a canary what was tried: `approval` or `deletion`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub check: &'static str,
    /// Of what was let pass why it is not known that there is such an object, since reviews can be forged: it is
    /// `NotFound`, or `Unknown` where it could not be looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Unconfirmed")]
    pub unconfirmed: Option<Unconfirmed>,
    /// How many requests this tells of.
    pub count: u64,
    /// Whether it sums up different requests.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub digest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum Unconfirmed {
    NotFound,
    Unknown,
}

/// Reviews can be forged, and megabytes long.
const LONGEST_NAME: usize = 256;
const LONGEST_TEXT: usize = 1024;
const MOST_NAMES: usize = 20;
/// In seconds: two replicas that tell of the same in the same such time give it the same identity.
const BUCKET: i64 = 600;

impl Kind {
    /// As configurations name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::WouldDeny => "would_deny",
            Self::Presented => "presented",
            Self::Approved => "approved",
            Self::BrokeGlass => "broke_glass",
            Self::Loosened => "loosened",
            Self::Unlocked => "unlocked",
            Self::Relocked => "relocked",
            Self::DriftRepaired => "drift_repaired",
            Self::EpochEnded => "epoch_ended",
            Self::RuleRejected => "rule_rejected",
            Self::CanaryFailed => "canary_failed",
            Self::Reached => "reached",
            Self::NotificationsChanged => "notifications_changed",
            Self::Test => "test",
        }
    }

    /// For people, at the head of a message.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Denied => "Refused",
            Self::WouldDeny => "Would be refused in mode Enforce",
            Self::Presented => "Approval written",
            Self::Approved => "Approved and let pass",
            Self::BrokeGlass => "Break glass: let pass by one person alone",
            Self::Loosened => "A rule or team becomes weaker",
            Self::Unlocked => "Tagout is unlocked",
            Self::Relocked => "Tagout is locked again",
            Self::DriftRepaired => "The guard was changed and put back",
            Self::EpochEnded => "The guard's configuration was changed by other hands",
            Self::RuleRejected => "A rule is not in force as written",
            Self::CanaryFailed => "Tagout was not heard to refuse",
            Self::Reached => "Tagout is heard again",
            Self::NotificationsChanged => "Where notifications go was changed",
            Self::Test => "A test",
        }
    }

    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Denied | Self::WouldDeny | Self::Presented | Self::Approved => Lane::Rest,
            Self::BrokeGlass | Self::Loosened => Lane::Passed,
            _ => Lane::Guard,
        }
    }

    /// Whether there may be any number of them.
    pub(super) fn is_many(self) -> bool {
        matches!(self, Self::Denied | Self::WouldDeny | Self::Presented)
    }

    /// Whether it tells that a request was let pass on somebody's word.
    pub(super) fn passes(self) -> bool {
        matches!(self, Self::Approved | Self::BrokeGlass | Self::Loosened)
    }

    /// Whether it ends an alert.
    pub(super) fn ends(self) -> bool {
        self.begun() != self
    }

    /// What it ends; itself, where it ends nothing.
    pub(super) fn begun(self) -> Self {
        match self {
            Self::Relocked => Self::Unlocked,
            Self::Reached => Self::CanaryFailed,
            other => other,
        }
    }

    /// What ends it, or what it ends.
    pub(super) fn counterpart(self) -> Option<Self> {
        match self {
            Self::Unlocked => Some(Self::Relocked),
            Self::CanaryFailed => Some(Self::Reached),
            other => Some(other.begun()).filter(|begun| *begun != other),
        }
    }
}

impl Notification {
    /// Cleans what others wrote, and cuts it.
    pub fn new(kind: Kind, at: Timestamp, mut data: Data) -> Self {
        let names = [
            &mut data.cluster,
            &mut data.request,
            &mut data.kind,
            &mut data.namespace,
            &mut data.name,
            &mut data.uid,
            &mut data.requester,
        ];
        let lists = [&mut data.rules, &mut data.people, &mut data.missing];
        for name in names.into_iter().chain(lists.into_iter().flat_map(|list| {
            list.truncate(MOST_NAMES);
            list
        })) {
            *name = cut(name, LONGEST_NAME);
        }
        data.message = cut(&data.message, LONGEST_TEXT);
        data.because = cut(&data.because, LONGEST_TEXT);
        // A command that is cut would name something else.
        let is_long = data.approve.chars().nth(LONGEST_TEXT).is_some();
        data.approve = if is_long { String::new() } else { printable(&data.approve) };
        data.count = data.count.max(1);
        Self { kind, at, data, distinct: String::new(), again: None, quiet: false }
    }

    /// Tells it from others of the same kind.
    #[must_use]
    pub fn distinct_by(self, distinct: String) -> Self {
        Self { distinct, ..self }
    }

    /// Told to nobody but those who keep alerts: what it ends, another process may have begun.
    #[must_use]
    pub fn quietly(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// The same however often it happens.
    pub(super) fn key(&self) -> String {
        let data = &self.data;
        let unconfirmed = if data.unconfirmed.is_some() { "unconfirmed" } else { "" };
        let parts = [self.kind.as_str(), &data.request, &data.uid, data.check, &self.distinct, unconfirmed];
        hash(parts.into_iter().chain(data.people.iter().map(String::as_str)))
    }

    /// By which a receiver knows what two replicas both tell. What is told again, with what one replica counted, is new.
    pub fn id(&self) -> String {
        let bucket = self.at.as_second() / BUCKET;
        let again = self.again.map(|at| at.to_string()).unwrap_or_default();
        hash([&*self.key(), &*bucket.to_string(), &*again])
    }

    /// What is one alert to those who are called for it: what ends has the name of what began.
    pub(super) fn alert(&self) -> String {
        let kind = self.kind.begun();
        let is_pair = self.kind.counterpart().is_some();
        let name = if is_pair { hash([self.data.check, &*self.data.requester]) } else { self.key() };
        format!("tagout-{}-{name}", kind.as_str())
    }

    /// The object, for people and as a CloudEvent's subject: `deployments.apps/payments/api`.
    pub(super) fn subject(&self) -> String {
        let Data { kind, namespace, name, .. } = &self.data;
        let parts = [kind, namespace, name];
        let there: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        there.join("/")
    }
}

fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let mut text = String::new();
    for byte in &hash.finalize()[..16] {
        write!(text, "{byte:02x}").expect("a string takes it");
    }
    text
}

fn cut(text: &str, longest: usize) -> String {
    // Cut first: a character is not made longer by being printable, and a text may be long.
    let beginning: String = text.chars().take(longest).collect();
    printable(&beginning)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

    fn told(kind: Kind, change: impl FnOnce(&mut Data)) -> Notification {
        let mut data = Data { request: "to-1".to_owned(), uid: "u".to_owned(), ..Data::default() };
        change(&mut data);
        Notification::new(kind, NOW, data)
    }

    #[test]
    fn two_replicas_that_tell_the_same_give_it_the_same_identity() {
        let one = told(Kind::BrokeGlass, |data| data.people.push("carol".to_owned()));
        let mut other = one.clone();
        other.at = NOW + SignedDuration::from_secs(5);
        assert_eq!(one.id(), other.id());
        for different in [
            told(Kind::Approved, |data| data.people.push("carol".to_owned())),
            told(Kind::BrokeGlass, |data| data.people.push("dave".to_owned())),
            told(Kind::BrokeGlass, |data| {
                data.people.push("carol".to_owned());
                data.unconfirmed = Some(Unconfirmed::Unknown);
            }),
        ] {
            assert_ne!(one.id(), different.id(), "{different:?}");
        }
    }

    #[test]
    fn what_happens_again_hours_later_or_is_told_again_is_another_one() {
        for kind in [Kind::Denied, Kind::BrokeGlass, Kind::DriftRepaired, Kind::CanaryFailed] {
            let one = told(kind, |_| {});
            let later = Notification { at: NOW + SignedDuration::from_hours(2), ..one.clone() };
            let again = Notification { again: Some(NOW), ..one.clone() };
            for other in [&later, &again] {
                assert_ne!(one.id(), other.id(), "{other:?}");
                assert_eq!(one.key(), other.key(), "{other:?}");
            }
            assert_ne!(later.id(), again.id());
        }
    }

    #[test]
    fn what_others_wrote_is_cleaned_and_cut_and_a_command_is_never_cut() {
        let long = "x".repeat(3_000_000);
        let cut = told(Kind::Denied, |data| {
            data.requester.clone_from(&long);
            data.message = format!("a\u{202e}b\n{long}");
            data.approve.clone_from(&long);
            data.people = vec![long.clone(); 100];
        });
        assert_eq!(cut.data.requester.len(), LONGEST_NAME);
        assert!(cut.data.message.starts_with("a b x"));
        assert_eq!(cut.data.approve, "");
        assert_eq!(cut.data.people.len(), MOST_NAMES);
    }
}
