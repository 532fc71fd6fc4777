//! The red team: an agent with every right tries each known way to destroy what production depends on.
//!
//! `routes` says which ways there are and where each ends. The other files walk them as `User::Agent`, which is in
//! `system:masters`. What counts is what is left afterwards, never what a command said.

mod data;
mod definitions;
mod deletions;
mod identities;
mod namespaces;
mod owners;
mod passing;
mod protection;
mod routes;
mod scene;
mod steps;
mod workloads;

use std::collections::BTreeSet;

use routes::{Ends, ROUTES};
use scene::Tried;

/// All that is run. What is open is run too, by tests that are ignored until it is closed.
const RUN: [&[Tried]; 10] = [
    data::TRIED,
    definitions::TRIED,
    deletions::TRIED,
    identities::TRIED,
    identities::DETECTED,
    namespaces::TRIED,
    owners::TRIED,
    protection::TRIED,
    steps::TRIED,
    workloads::TRIED,
];

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
