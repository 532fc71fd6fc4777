//! The red team: an agent with every right tries each known way to destroy what production depends on.
//!
//! `routes` says which ways there are and where each ends. The other files walk them as `User::Agent`, which is in
//! `system:masters`. What counts is what is left afterwards, never what a command said.

mod data;
mod definitions;
mod deletions;
mod guard;
mod identities;
mod namespaces;
mod owners;
mod passing;
mod protection;
mod returns;
mod routes;
mod scene;
mod steps;
mod workloads;

use std::collections::BTreeSet;

use routes::{Ends, ROUTES};
pub use scene::Tried;
use scene::attack_on;

use crate::world::World;

/// All that is run. What is open is run too, by tests that are ignored until it is closed.
const RUN: [&[Tried]; 12] = [
    data::TRIED,
    definitions::TRIED,
    deletions::TRIED,
    guard::TRIED,
    guard::DETECTED,
    identities::TRIED,
    namespaces::TRIED,
    owners::TRIED,
    protection::TRIED,
    returns::TRIED,
    steps::TRIED,
    workloads::TRIED,
];

/// Deletions, and what makes the garbage collector or a later deletion do the work.
pub const DELETING: &[&[Tried]] = &[data::TRIED, deletions::TRIED, namespaces::TRIED, owners::TRIED];

/// All else but what attacks Tagout itself, which needs a world that is locked. The last leaves claims behind that would
/// take the next scene's volume.
pub const OTHERS: &[&[Tried]] =
    &[definitions::TRIED, identities::TRIED, workloads::TRIED, returns::TRIED, steps::TRIED, protection::TRIED];

/// Walks these routes, each group on a scene of its own.
pub fn walk_on(world: &'static World, groups: &[&[Tried]]) {
    for group in groups {
        // A rollout that is stuck stays so.
        let size = if std::ptr::eq(*group, steps::TRIED) { 1 } else { group.len() };
        for routes in group.chunks(size) {
            attack_on(world, routes);
        }
    }
}

fn run_by_name() -> BTreeSet<&'static str> {
    RUN.iter().flat_map(|group| group.iter().map(|(name, _)| *name)).collect()
}

#[test]
fn every_route_that_is_stopped_or_detected_is_run_and_every_run_is_a_route() {
    let run = run_by_name();
    assert_eq!(run.len(), RUN.iter().map(|group| group.len()).sum::<usize>(), "a route is run twice");
    let known: BTreeSet<&str> = ROUTES.iter().map(|route| route.name).collect();
    assert_eq!(known.len(), ROUTES.len(), "a route is listed twice");
    for route in ROUTES {
        assert!(route.ends == Ends::OutOfReach || run.contains(route.name), "nobody runs {}", route.name);
    }
    for name in run {
        assert!(known.contains(name), "{name} is run and is no route");
    }
}

#[test]
fn every_route_is_told_in_full_sentences_under_a_name_in_kebab_case() {
    for route in ROUTES {
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(route.name.chars().all(kebab), "{} is not in kebab case", route.name);
        for text in [route.how, route.why] {
            assert!(text.ends_with('.') && !text.contains(['|', '\n']), "{}: {text:?}", route.name);
        }
    }
}
