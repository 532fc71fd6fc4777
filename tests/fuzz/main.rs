//! What is fuzzed (`fuzz/`), run over its seeds and over damaged ones without a fuzzer; and selectors, which the API
//! machinery itself reads beside Tagout.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod random;
mod seeds;
mod selectors;

use fuzz::TARGETS;
use random::Random;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The seeds of a target, by the names of their files.
fn seeds_of(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join("seeds").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut all: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&file).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn every_seed_comes_to_what_its_name_begins_with() {
    for (target, run) in TARGETS {
        let seeds = seeds_of(target);
        for (name, seed) in &seeds {
            let expected = name.split('.').next().unwrap();
            assert_eq!(run(seed), expected, "fuzz/seeds/{target}/{name}");
        }
        let outcomes: BTreeSet<_> = seeds.iter().map(|(name, _)| name.split('.').next().unwrap()).collect();
        assert!(outcomes.len() > 1, "all seeds of {target} come to the same: {outcomes:?}");
    }
}

#[test]
fn seeds_damaged_at_random_break_nothing() {
    let mut random = Random(7);
    for (target, run) in TARGETS {
        let seeds = seeds_of(target);
        let each = 160 / seeds.len() + 1;
        for (_, seed) in &seeds {
            for _ in 0..each {
                let mut damaged = seed.clone();
                for _ in 0..=random.below(3) {
                    random.damage(&mut damaged);
                }
                let text = String::from_utf8_lossy(&damaged).into_owned();
                catch_unwind(|| run(&damaged)).unwrap_or_else(|_| panic!("{target} breaks by this:\n{text}"));
            }
        }
    }
}

#[test]
fn every_target_has_a_program_and_seeds_that_are_small() {
    let programs: BTreeSet<String> = fs::read_dir(folder().join("fuzz_targets"))
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "canary")
        .collect();
    assert_eq!(programs, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    let sizes: Vec<usize> = TARGETS.iter().flat_map(|(name, _)| seeds_of(name)).map(|(_, seed)| seed.len()).collect();
    assert!(sizes.iter().sum::<usize>() <= 200 << 10, "{} bytes", sizes.iter().sum::<usize>());
}

/// Names and versions of what a lock names.
fn locked(file: &Path) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(file).unwrap();
    let packages = text.split("[[package]]").skip(1);
    let said = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    packages.map(|package| (said(package, "name"), said(package, "version"))).collect()
}

#[test]
fn what_is_fuzzed_is_built_of_what_tagout_is_built_of() {
    let (own, fuzzed) = (locked(&folder().join("../Cargo.lock")), locked(&folder().join("Cargo.lock")));
    let its_own = ["tagout-fuzz", "libfuzzer-sys", "arbitrary"];
    let others: Vec<_> = fuzzed.difference(&own).filter(|(name, _)| !its_own.contains(&name.as_str())).collect();
    assert!(others.is_empty() && own.len() > 100, "copy Cargo.lock to fuzz/ and run `cargo fetch` there: {others:?}");
}
