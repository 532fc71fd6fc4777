//! A few short histories of those that `make histories` runs by the thousand, and whether they would notice a fault.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use controlplane::User;
use futures::{StreamExt, stream};
use tokio::runtime::Runtime;

use crate::history::cluster::Cluster;
use crate::history::model::Clause;
use crate::history::run::{Plan, choose, name, replay};
use crate::history::script::script;
use crate::history::shrink::shrink;
use crate::history::world::Kind;
use crate::outcome::Outcome;
use crate::world::{binary, chart, root, with_plugin};

/// Histories need three replicas, so they have a world of their own; those in which replicas are killed, another.
struct Stage {
    runtime: Runtime,
    cluster: Cluster,
}

impl Stage {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let cluster = runtime.block_on(Cluster::start(&chart(), &binary())).expect("a cluster");
        Self { runtime, cluster }
    }

    fn quiet() -> &'static Self {
        static QUIET: OnceLock<Stage> = OnceLock::new();
        QUIET.get_or_init(Self::new)
    }

    fn run<'s, T>(&'s self, run: impl AsyncFnOnce(&'s Cluster) -> T) -> T {
        self.runtime.block_on(run(&self.cluster))
    }
}

/// By bash, as a person would.
fn run_script(cluster: &Cluster, text: &str) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("history.sh");
    fs::write(&file, text).expect("it is written");
    let kubectl = cluster.cp.kubectl(User::Admin);
    let programs = Path::new(kubectl.get_program()).parent().expect("it is in a folder").to_owned();
    let mut bash = Command::new("bash");
    bash.arg(&file).env("KUBECONFIG", cluster.cp.kubeconfig(User::Admin)).stderr(Stdio::piped());
    with_plugin(&mut bash);
    let path = std::env::var("PATH").unwrap_or_default();
    bash.env("PATH", format!("{}:{path}", programs.display()));
    Outcome::of(&mut bash, "")
}

/// Seed and length of those that disagreed once.
fn regressions() -> Vec<(u64, usize)> {
    let text = fs::read_to_string(root().join("tests/history/seeds.txt")).expect("seeds");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let seed = words.next().and_then(|word| word.parse().ok());
            (seed.expect("a seed"), words.next().and_then(|word| word.parse().ok()).expect("a length"))
        })
        .collect()
}

#[test]
fn whatever_people_and_agents_try_in_whatever_order_goes_as_the_documentation_says() {
    Stage::new().run(async |cluster| {
        let fixed = regressions().into_iter().chain((100..104).map(|seed| (seed, 60)));
        let fault = Plan::default();
        let runs = fixed.map(|(seed, many)| {
            let fault = &fault;
            async move { (seed, choose(cluster, seed, many, true, fault).await.expect("it runs to its end")) }
        });
        let mut runs = stream::iter(runs).buffer_unordered(4);
        while let Some((seed, (_, report))) = runs.next().await {
            if let Some(disagreement) = report.disagreement {
                panic!("seed {seed}, {disagreement}, after {:#?}", report.done);
            }
        }
    });
}

#[test]
fn a_kind_that_is_not_asked_about_is_found_and_told_by_a_script() {
    Stage::quiet().run(async |cluster| {
        let fault = Plan { omitted: Some(Kind::ConfigMap), ..Plan::default() };
        let mut found = None;
        for seed in 200..220 {
            let (plan, report) = choose(cluster, seed, 60, false, &fault).await.expect("it runs to its end");
            if let Some(disagreement) = report.disagreement {
                found = Some((seed, plan, disagreement));
                break;
            }
        }
        let (seed, plan, disagreement) = found.expect("it is found");
        let (short, _) = shrink(cluster, &name(seed), &plan, &disagreement).await.expect("it is made shorter");
        assert!(short.operations.len() <= 6, "{:?}", short.operations);
        let told = run_script(cluster, &script("told", &short));
        assert!(!told.ok && told.out.contains("DIFFERS"), "{}{}", told.out, told.err);
        // Without the fault nothing differs.
        let sound = Plan { omitted: None, ..short };
        let report = replay(cluster, "sound", &sound).await.expect("it runs to its end");
        assert!(report.disagreement.is_none(), "{:?}", report.disagreement);
    });
}

#[test]
fn a_history_as_a_script_by_real_kubectl_has_the_same_verdicts() {
    Stage::quiet().run(async |cluster| {
        for seed in [300, 301] {
            let (plan, report) = choose(cluster, seed, 30, false, &Plan::default()).await.expect("it runs to its end");
            assert!(report.disagreement.is_none(), "seed {seed}: {:?}", report.disagreement);
            let told = run_script(cluster, &script(&format!("told-{seed}"), &plan));
            assert!(told.ok && !told.out.contains("DIFFERS"), "seed {seed}: {}{}", told.out, told.err);
            assert!(told.out.matches("ok  ").count() > plan.operations.len(), "{}{}", told.out, told.err);
        }
    });
}

#[test]
fn a_model_that_leaves_out_a_sentence_is_found_to_be_wrong() {
    Stage::quiet().run(async |cluster| {
        for (seed, clause) in [(400, Clause::Separate), (420, Clause::Recreate), (440, Clause::GoesAlong)] {
            let fault = Plan { without: Some(clause), ..Plan::default() };
            let mut found = false;
            for seed in seed..seed + 20 {
                let (_, report) = choose(cluster, seed, 60, false, &fault).await.expect("it runs to its end");
                found |= report.disagreement.is_some();
                if found {
                    break;
                }
            }
            assert!(found, "{clause:?}");
        }
    });
}

#[test]
fn what_the_model_quotes_stands_in_the_documentation() {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace("**", "");
    // Links are read as their words.
    let plain = |text: &str| {
        let mut read = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("](") {
            read.push_str(before);
            rest = after.split_once(')').map_or("", |(_, rest)| rest);
        }
        (read + rest).replace(['[', ']'], "")
    };
    for clause in Clause::ALL {
        let (page, sentence) = clause.sentence();
        let text = fs::read_to_string(root().join("docs").join(page)).expect("a page");
        let found = plain(&one_line(&text)).contains(&plain(&one_line(sentence)));
        assert!(found, "{page} does not say (any more): {sentence}");
    }
}

#[test]
fn the_model_knows_nothing_of_the_code_that_it_judges() {
    for folder in ["tests/history", "tests/history/model"] {
        for file in fs::read_dir(root().join(folder)).expect("a folder").flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            assert!(!text.contains("tagout::api") && !text.contains("use tagout::"), "{}", file.path().display());
        }
    }
}
