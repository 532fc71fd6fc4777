//! What an update is, whatever it looks like: one file for each action that an update can be.
//!
//! Each says twice what it looks for: as a condition in CEL, by which the API server knows whether to ask at all, and in
//! Rust, which decides. The condition may see too much, never too little, and never fails: a routine write must not be
//! refused because a kind uses a name for something else. Pure.

pub mod discard_data;
pub mod finalize;
mod part;
pub mod reparent;
pub mod scale_to_zero;
pub mod unprotect;

use serde::Deserialize;

use crate::api::Action;

pub use part::Part;

/// An update, as a review tells it.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    pub group: &'a str,
    /// The plural name.
    pub resource: &'a str,
    pub subresource: &'a str,
    /// The object as it stands.
    pub old: Part<'a>,
    /// The object as it would be.
    pub new: Part<'a>,
}

/// One action that an update is, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub action: Action,
    /// What it does, for the person who is refused.
    pub what: String,
    /// Absent: it is this action. Otherwise it is unless this can be shown.
    pub unless: Option<Question>,
}

/// What only the API server can tell. Unknown counts as no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// All the first live, and of the second one at least: of the owners that join, and of all there are.
    OwnersLive { joining: Vec<Owner>, all: Vec<Owner> },
    /// Some node is as a pod template asks.
    NodeFits(Box<scale_to_zero::Placement>),
    /// The claim that a volume is bound to is gone.
    ClaimGone { namespace: String, name: String, uid: String },
}

/// An owner, as an object names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: bool,
}

impl Write<'_> {
    /// The owners before and after.
    fn owners(&self) -> [Vec<Owner>; 2] {
        [self.old, self.new].map(|part| part.at("metadata.ownerReferences").read().unwrap_or_default())
    }

    /// Whether the object has been going for some time: what is done to it now follows from that.
    pub fn terminating(&self) -> bool {
        self.old.at("metadata.deletionTimestamp").is_set()
    }

    fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }
}

/// All actions that an update is, but for leaving a rule: that is a matter between the rule and the object.
pub fn seen(write: &Write) -> Vec<Seen> {
    if write.terminating() {
        return Vec::new();
    }
    let all = [scale_to_zero::seen(write), reparent::seen(write), finalize::seen(write), discard_data::seen(write)];
    let mut all: Vec<Seen> = all.into_iter().flatten().collect();
    all.extend(unprotect::seen(write));
    all
}

/// The condition by which the API server asks about updates for a rule, as far as it does not depend on the rule.
pub fn condition(action: Action) -> Option<&'static str> {
    match action {
        Action::ScaleToZero => Some(scale_to_zero::CONDITION),
        Action::Reparent => Some(reparent::CONDITION),
        Action::Finalize => Some(finalize::CONDITION),
        Action::DiscardData => Some(discard_data::CONDITION),
        Action::Unprotect => Some(unprotect::CONDITION),
        Action::Delete | Action::Recreate | Action::Evict | Action::Loosen | Action::Unlock => None,
    }
}

/// What is to be called so from the object as it stands.
fn changed(write: &Write, path: &str) -> bool {
    !write.old.at(path).same(write.new.at(path))
}

#[cfg(test)]
mod tests;
