//! Whatever ends the owner of a reaper, nothing of what it started stays behind.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use controlplane::Reaper;

/// Set for the process that plays the owner: this test binary, started once more.
const OWNED_FOLDER: &str = "TEST_OWNED_FOLDER";

#[test]
fn a_killed_owner_leaves_no_process_and_no_folder_behind() {
    let (mut owner, folder, pids) = start_owner();

    owner.kill().unwrap();
    owner.wait().unwrap();

    eventually("the processes are gone", || !pids.iter().any(|pid| is_alive(*pid)));
    eventually("the folder is gone", || !folder.exists());
}

#[test]
fn dropping_the_reaper_ends_its_processes_and_keeps_only_what_shall_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("logs")).unwrap();
    fs::write(dir.path().join("data"), "").unwrap();
    let reaper = Reaper::with_folder(dir.path(), Some("logs")).unwrap();
    let mut child = reaper.spawn(Command::new("sleep").arg("600")).unwrap();

    let started = Instant::now();
    drop(reaper);

    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(!child.wait().unwrap().success(), "killed, not finished");
    assert!(dir.path().join("logs").exists());
    assert!(!dir.path().join("data").exists());
}

#[test]
fn a_process_can_be_started_after_all_the_others_have_ended() {
    let reaper = Reaper::new().unwrap();
    reaper.spawn(&mut Command::new("true")).unwrap().wait().unwrap();

    assert!(reaper.spawn(&mut Command::new("true")).unwrap().wait().unwrap().success());
}

/// Not a test of its own: the owner that the first test kills.
#[test]
fn owner() {
    let Some(folder) = env::var_os(OWNED_FOLDER) else {
        return;
    };
    let reaper = Reaper::with_folder(Path::new(&folder), None).unwrap();
    // The grandchild shows that not only direct children are met.
    let script = "sleep 600 & echo \"pids $$ $!\"; wait";
    let mut child = reaper.spawn(Command::new("sh").args(["-c", script])).unwrap();
    child.wait().unwrap();
}

fn start_owner() -> (Child, PathBuf, Vec<u32>) {
    let folder = tempfile::tempdir().unwrap().keep();
    fs::write(folder.join("data"), "").unwrap();
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "owner", "--nocapture"])
        .env(OWNED_FOLDER, &folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pids = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        // The harness writes the name of its test before it, on the same line.
        .find_map(|line| Some(line.split_once("pids ")?.1.to_owned()))
        .expect("the owner says which processes it started");
    let pids: Vec<u32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    (owner, folder, pids)
}

fn is_alive(pid: u32) -> bool {
    // A zombie has ended: only nobody has asked how.
    fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| !status.lines().any(|line| line.starts_with("State:\tZ")))
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 5 s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
