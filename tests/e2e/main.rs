//! The real image on a real node, installed by the unchanged chart. `make e2e` runs it.
//!
//! One node serves all tests, one after the other: each begins with Tagout installed and ready, and leaves it so, but for
//! the last. Outside, everything is built; inside the enclosure there is no way to the internet.

mod accidents;
mod daily;
mod hostage;
mod image;
mod load;
#[path = "../cluster/outcome.rs"]
mod outcome;
mod replacing;
mod restarts;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use controlplane::{Binaries, enclosure};

use crate::world::{World, images};

type Test = (&'static str, fn(&World));

macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn(&World))),*]
    };
}

/// In this order.
const TESTS: [Test; 26] = tests![
    image::the_image_holds_one_small_static_file_that_says_what_it_is_made_of,
    daily::the_chart_as_it_is_brings_up_pods_that_may_nothing_and_are_what_they_shall_be,
    daily::each_pod_answers_its_probes_and_the_service_leads_to_it,
    daily::a_protected_deployment_is_refused_and_goes_with_its_pods_once_it_is_approved,
    daily::what_a_rule_that_only_warns_has_seen_is_shown_from_the_logs_of_the_pods,
    replacing::a_restart_of_the_rollout_under_load_fails_no_call,
    replacing::changed_values_and_the_way_back_under_load_fail_no_call,
    replacing::an_upgrade_from_a_version_whose_definitions_lack_a_field_brings_it_and_fails_no_call,
    replacing::whoever_was_not_let_cannot_upgrade_and_nothing_changes,
    replacing::helms_own_test_finds_tagout_ready_behind_its_service,
    replacing::the_authority_is_replaced_twice_under_load_without_a_failed_call,
    daily::under_load_each_process_stays_within_the_memory_it_asks_for,
    accidents::an_evicted_pod_goes_without_a_failed_call_and_not_both_at_once,
    accidents::a_killed_process_fails_calls_only_until_it_is_back_and_lets_nothing_pass,
    accidents::a_deleted_certificate_is_made_anew_without_a_failed_call,
    accidents::all_pods_deleted_at_once_let_nothing_pass_and_come_back,
    accidents::all_pods_gone_without_notice_let_nothing_pass_and_come_back,
    hostage::nobody_changes_what_runs_as_tagout_who_was_not_let,
    hostage::without_its_service_all_but_destruction_goes_on_and_the_chart_brings_it_back,
    hostage::with_a_firewall_in_the_way_all_but_destruction_goes_on_until_it_is_gone,
    hostage::cut_off_from_the_api_server_nobody_is_ready_or_started_again_and_it_mends_by_itself,
    hostage::a_tagout_that_cannot_start_is_put_right_through_the_emergency_exit,
    restarts::an_api_server_that_starts_before_any_pod_of_tagout_gets_them_back,
    restarts::processes_that_start_before_the_api_server_wait_for_it,
    restarts::after_a_power_cut_all_is_ready_again_and_what_was_protected_still_is,
    restarts::uninstalling_takes_an_unlock_and_leaves_nothing_that_blocks,
];

fn main() -> ExitCode {
    let filters: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let wanted: Vec<Test> = TESTS.into_iter().filter(|(name, _)| wanted(name)).collect();
    if env::args().any(|argument| argument == "--list") {
        for (name, _) in wanted {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if enclosure::inside().is_some() {
        return run(&wanted);
    }
    if let Some(reason) = enclosure::lacking() {
        return without_a_node(&wanted, &reason);
    }
    match outside() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes what is needed, and runs this program again inside.
fn outside() -> anyhow::Result<ExitCode> {
    Binaries::ensure()?;
    let programs = Binaries::ensure_node()?;
    let folder = tempfile::Builder::new().prefix("tagout-node-").tempdir()?;
    images::build(&programs, folder.path())?;
    // From here on the enclosure removes it.
    let status = enclosure::enter(&folder.keep())?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn without_a_node(tests: &[Test], reason: &str) -> ExitCode {
    if env::var("TAGOUT_E2E").is_ok_and(|wish| wish == "required") {
        eprintln!("e2e: TAGOUT_E2E=required, but it cannot run here: {reason}");
        return ExitCode::FAILURE;
    }
    for (name, _) in tests {
        println!("test {name} ... ignored, {reason}");
    }
    summary(0, 0, tests.len(), Instant::now());
    ExitCode::SUCCESS
}

fn run(tests: &[Test]) -> ExitCode {
    let began = Instant::now();
    println!("\nrunning {} tests", tests.len());
    let world = World::start();
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            world.settle();
            world.stay_unlocked();
            test(&world);
        }));
        if outcome.is_ok() {
            passed += 1;
            println!("test {name} ... ok ({} s)", began.elapsed().as_secs());
        } else {
            failed += 1;
            println!("test {name} ... FAILED");
            println!("{}", world.state());
        }
    }
    summary(passed, failed, 0, began);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// In the words of Rust's own harness, which `tests/run` counts.
fn summary(passed: usize, failed: usize, ignored: usize, began: Instant) {
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let time = began.elapsed().as_secs();
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; finished in {time}s\n");
}
