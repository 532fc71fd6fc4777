//! What goes with an object, as people look at it: what takes what along, many alike in one line.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::words::printable;
use crate::api::quoted;
use crate::guard::{Listed, ListedState, Radius, summary};

/// What goes with one object.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Goes {
    /// From the object outwards, each below what takes it along.
    pub branches: Vec<Branch>,
    /// In a line or two, in the words of a refusal.
    pub summary: Vec<String>,
    /// Volumes whose data is destroyed.
    pub lost: Vec<String>,
    /// Volumes that lose their claim and keep their data.
    pub kept: Vec<String>,
    /// Kinds that could not be listed, with the reason.
    pub unlisted: BTreeMap<String, String>,
}

/// A line of the tree: one object, or many alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub text: String,
    /// Whether data is destroyed.
    pub alarm: bool,
    /// Absent: the object itself takes it along.
    pub parent: Option<usize>,
    depth: usize,
    /// Whether it is the last below its parent.
    last: bool,
}

/// More of one kind than these are one line.
const ALIKE: usize = 8;

/// Deeper than anything that controllers make.
const DEEPEST: usize = 12;

/// Names in a line of many.
const NAMED: usize = 3;

const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

impl Goes {
    /// What goes with an object in this namespace, and which of it is protected.
    pub fn of(radius: Option<&Radius>, namespace: &str, protected: &BTreeSet<String>) -> Self {
        let Some(radius) = radius else { return Self::default() };
        let drawing = Drawing { radius, namespace, protected, below: below(radius) };
        Self {
            branches: drawing.branches(),
            summary: summary(radius, &radius.unlisted.keys().cloned().collect()),
            lost: radius.lost_volumes().map(volume).collect(),
            kept: radius.kept_volumes().map(volume).collect(),
            unlisted: radius.unlisted.iter().map(|(kind, reason)| (kind.clone(), said(reason))).collect(),
        }
    }

    /// The tree below an object, in at most so many lines.
    pub fn tree(&self, root: &str, most: usize, colour: bool) -> Vec<String> {
        let all = self.branches.len() + 1;
        let mut lines = vec![printable(root)];
        let mut last: Vec<bool> = Vec::new();
        for branch in &self.branches {
            last.truncate(branch.depth);
            if lines.len() + 1 >= most && all > most {
                lines.push(format!("… and {} more lines: kubectl tagout impact shows them all", all - lines.len()));
                return lines;
            }
            let mut line: String = last.iter().map(|last| if *last { "   " } else { "│  " }).collect();
            line.push_str(if branch.last { "└─ " } else { "├─ " });
            let text = printable(&branch.text);
            let (before, after) = if branch.alarm && colour { (RED, PLAIN) } else { ("", "") };
            line.extend([before, &text, after]);
            lines.push(line);
            last.push(branch.last);
        }
        lines
    }
}

/// The lookup was the caller's, not Tagout's.
fn said(reason: &str) -> String {
    reason.strip_prefix("Tagout may not").map_or_else(|| reason.to_owned(), |rest| format!("you may not{rest}"))
}

/// `"pvc-1" (10Gi) of claim "data" in "payments"`
fn volume(listed: &Listed) -> String {
    let ListedState::Volume { claim, capacity, .. } = &listed.state else { return quoted(&listed.subject.name) };
    let size = if capacity.is_empty() { String::new() } else { format!(" ({capacity})") };
    let of = claim.as_ref().map(|(namespace, name)| format!(" of claim {} in {}", quoted(name), quoted(namespace)));
    format!("{}{size}{}", quoted(&listed.subject.name), of.unwrap_or_default())
}

/// What each object takes along, by its index; nothing is the object itself.
fn below(radius: &Radius) -> HashMap<Option<usize>, Vec<usize>> {
    let mut below: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (at, going) in radius.going.iter().enumerate() {
        below.entry(going.with).or_default().push(at);
    }
    below
}

struct Drawing<'r> {
    radius: &'r Radius,
    namespace: &'r str,
    protected: &'r BTreeSet<String>,
    below: HashMap<Option<usize>, Vec<usize>>,
}

/// Something that is still to be drawn.
struct Next {
    members: Vec<usize>,
    parent: Option<usize>,
    depth: usize,
    last: bool,
}

impl Drawing<'_> {
    /// Without recursion: an owner may have an owner a thousand times over.
    fn branches(&self) -> Vec<Branch> {
        let mut branches = Vec::new();
        let mut next = Vec::new();
        self.put(&mut next, &[None], None, 0);
        while let Some(Next { members, parent, depth, last }) = next.pop() {
            let (text, alarm) = self.label(&members);
            let own = branches.len();
            branches.push(Branch { text, alarm, parent, depth, last });
            let members: Vec<_> = members.into_iter().map(Some).collect();
            if depth + 1 < DEEPEST {
                self.put(&mut next, &members, Some(own), depth + 1);
            } else if members.iter().any(|member| self.below.contains_key(member)) {
                let text = "… and what it takes along".to_owned();
                branches.push(Branch { text, alarm: false, parent: Some(own), depth: depth + 1, last: true });
            }
        }
        branches
    }

    /// What these take along, the first on top.
    fn put(&self, next: &mut Vec<Next>, of: &[Option<usize>], parent: Option<usize>, depth: usize) {
        let mut alike: BTreeMap<(&str, &str, u8), Vec<usize>> = BTreeMap::new();
        for at in of.iter().filter_map(|of| self.below.get(of)).flatten() {
            let listed = self.listed(*at);
            let kind = (listed.kind.as_str(), &*listed.subject.group, order(listed));
            alike.entry(kind).or_default().push(*at);
        }
        let first = next.len();
        for mut members in alike.into_values() {
            members.sort_unstable();
            let put = |members| Next { members, parent, depth, last: false };
            if members.len() > ALIKE {
                next.push(put(members));
            } else {
                next.extend(members.into_iter().map(|member| put(vec![member])));
            }
        }
        if let Some(last) = next[first..].last_mut() {
            last.last = true;
        }
        next[first..].reverse();
    }

    fn listed(&self, at: usize) -> &Listed {
        &self.radius.going[at].listed
    }

    fn label(&self, members: &[usize]) -> (String, bool) {
        let all: Vec<&Listed> = members.iter().map(|at| self.listed(*at)).collect();
        let [one] = all.as_slice() else { return self.many(&all) };
        let subject = &one.subject;
        let place = if subject.namespace.is_empty() || subject.namespace == self.namespace {
            String::new()
        } else {
            format!(" in {}", subject.namespace)
        };
        let mut text = format!("{} {}{place}", one.kind, subject.name);
        let remarks = [
            state(one),
            one.terminating.then(|| "being deleted already".to_owned()),
            self.protected.contains(&*subject.uid).then(|| "protected".to_owned()),
        ];
        for remark in remarks.into_iter().flatten() {
            text.push_str(", ");
            text.push_str(&remark);
        }
        (text, is_lost(one))
    }

    /// `Secret ×12: a, b, c, …; 12 protected`
    fn many(&self, all: &[&Listed]) -> (String, bool) {
        let Some(first) = all.first() else { return (String::new(), false) };
        let names: Vec<_> = all.iter().take(NAMED).map(|listed| &*listed.subject.name).collect();
        let mut text = format!("{} ×{}: {}, …", first.kind, all.len(), names.join(", "));
        let count = |holds: &dyn Fn(&Listed) -> bool| all.iter().filter(|listed| holds(listed)).count();
        let counted = [
            ("ready", count(&|listed| matches!(listed.state, ListedState::Pod { ready: true, .. }))),
            ("kept, with their data", count(&is_kept)),
            ("DATA DESTROYED", count(&is_lost)),
            ("protected", count(&|listed| self.protected.contains(&*listed.subject.uid))),
        ];
        for (word, count) in counted.into_iter().filter(|(_, count)| *count > 0) {
            text.extend(["; ", &count.to_string(), " ", word]);
        }
        (text, is_lost(first))
    }
}

/// Volumes that are kept and volumes that are not are not alike.
fn order(listed: &Listed) -> u8 {
    u8::from(is_lost(listed))
}

fn is_lost(listed: &Listed) -> bool {
    matches!(listed.state, ListedState::Volume { kept: false, .. })
}

fn is_kept(listed: &Listed) -> bool {
    matches!(listed.state, ListedState::Volume { kept: true, .. })
}

fn state(listed: &Listed) -> Option<String> {
    match &listed.state {
        ListedState::Plain => None,
        ListedState::Pod { finished: true, .. } => Some("finished".to_owned()),
        ListedState::Pod { ready: true, .. } => Some("ready".to_owned()),
        ListedState::Pod { .. } => Some("not ready".to_owned()),
        ListedState::Volume { kept, capacity, .. } => {
            let data = if *kept { "kept, with its data" } else { "DATA DESTROYED" };
            Some(if capacity.is_empty() { data.to_owned() } else { format!("{capacity}, {data}") })
        }
    }
}

#[cfg(test)]
#[path = "goes_tests.rs"]
pub mod tests;
