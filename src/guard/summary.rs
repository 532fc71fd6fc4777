//! A blast radius in a line or two.

use std::collections::BTreeSet;

use super::radius::Radius;
use crate::api::{printable, quoted};

/// What is not spelled out is counted.
const SPELLED: usize = 12;

/// How the line begins that says what goes along.
pub const WITH_IT: &str = "With it would go: ";

/// What goes along, what is destroyed with it and which kinds could not be listed; nothing where nothing goes.
pub fn summary(radius: &Radius, unlisted: &BTreeSet<String>) -> Vec<String> {
    let mut lines = Vec::new();
    let counts = radius.counts();
    let ready = radius.ready_pods();
    let counted = |(kind, count): &(String, usize)| {
        let pods = if kind == "Pod" { format!(" ({ready} ready)") } else { String::new() };
        format!("{count} {}{pods}", plural(kind, *count))
    };
    let at_least = if unlisted.is_empty() { "" } else { "at least " };
    if !counts.is_empty() {
        let mut most: Vec<_> = counts.iter().collect();
        most.sort_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
        let spelled: Vec<_> = most.iter().take(SPELLED).map(|one| counted(one)).collect();
        let others: usize = most.iter().skip(SPELLED).map(|one| one.1).sum();
        let others = if others > 0 { format!(", {others} others") } else { String::new() };
        lines.push(format!("{WITH_IT}{at_least}{}{others}.", spelled.join(", ")));
    }
    let lost = radius.lost_volumes().count();
    if lost > 0 {
        lines.push(format!("The data of {lost} {} would be destroyed.", plural("volume", lost)));
    }
    if !radius.bare_services.is_empty() {
        let named: Vec<_> = radius.bare_services.iter().take(SPELLED).map(|(_, name)| quoted(name)).collect();
        lines.push(format!("Nothing would be left behind {} {}.", plural("Service", named.len()), named.join(", ")));
    }
    if !unlisted.is_empty() {
        let named: Vec<_> = unlisted.iter().take(SPELLED).map(|kind| printable(kind)).collect();
        let more = if unlisted.len() > SPELLED { " and more" } else { "" };
        lines.push(format!("Could not be listed: {}{more}.", named.join(", ")));
    }
    lines
}

fn plural(kind: &str, count: usize) -> String {
    match kind {
        _ if count == 1 => kind.to_owned(),
        _ if kind.ends_with("ss") => format!("{kind}es"),
        _ if kind.ends_with('s') => kind.to_owned(),
        _ => kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies")),
    }
}
