//! Whatever ends the tests on a node, neither processes nor mounts, interfaces or control groups of it stay behind.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use controlplane::enclosure;

/// Set for the process that plays the tests: this test binary, started once more.
const OWNED_FOLDER: &str = "TEST_OWNED_FOLDER";
/// A time to sleep that nothing else on the machine sleeps.
const MARK: &str = "TEST_MARK";

#[test]
fn killed_tests_leave_nothing_of_their_enclosure_behind() {
    if let Some(reason) = enclosure::lacking() {
        eprintln!("not tried: {reason}");
        return;
    }
    let folder = tempfile::Builder::new().prefix("tagout-node-").tempdir().unwrap().keep();
    let groups = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let mark = format!("600.{}", std::process::id());
    let mut owner = start_owner(&folder, &mark);
    eventually("it lives", || folder.join("inside/lives").exists());
    assert_eq!(sleeping(&mark), 1);
    assert!(!Path::new("/sys/class/net/cni0").exists(), "the bridge is seen outside");

    owner.kill().unwrap();
    owner.wait().unwrap();

    eventually("the processes are gone", || sleeping(&mark) == 0);
    eventually("the folder is gone", || !folder.exists());
    eventually("the control groups are gone", || !has_groups(&groups));
}

/// Not a test of its own: outside it enters the enclosure, and inside it leaves what a node leaves.
#[test]
fn owner() {
    let (Some(folder), Some(mark)) = (env::var_os(OWNED_FOLDER), env::var_os(MARK)) else {
        return;
    };
    let folder = Path::new(&folder);
    let Some(groups) = enclosure::inside() else {
        enclosure::enter(folder).unwrap();
        return;
    };
    let inside = folder.join("inside");
    let mounted = inside.join("mounted");
    fs::create_dir(&mounted).unwrap();
    run("mount", &["-t", "tmpfs", "tmpfs", mounted.to_str().unwrap()]);
    fs::write(mounted.join("file"), "").unwrap();
    run("ip", &["link", "show", "cni0"]);
    // As a shim does, it leaves the group of those who started it.
    let mut sleeping = Command::new("sleep").arg(mark).process_group(0).spawn().unwrap();
    for controller in fs::read_dir("/sys/fs/cgroup").unwrap().map(|it| it.unwrap().path()).filter(|it| it.is_dir()) {
        let group = controller.join(&groups).join("container");
        // Not every folder there is a controller's.
        if fs::create_dir_all(&group).is_ok() {
            let _ = fs::write(group.join("cgroup.procs"), sleeping.id().to_string());
        }
    }
    assert!(has_groups(&groups));
    fs::write(inside.join("lives"), "").unwrap();
    sleeping.wait().unwrap();
}

fn start_owner(folder: &Path, mark: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "owner", "--nocapture"])
        .env(OWNED_FOLDER, folder)
        .env(MARK, mark)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).stdout(Stdio::null()).status().unwrap().success(), "{program} {args:?}");
}

fn sleeping(mark: &str) -> usize {
    let expected = format!("sleep\0{mark}\0");
    let processes = fs::read_dir("/proc").unwrap().map(|it| it.unwrap().path());
    processes.filter(|it| fs::read_to_string(it.join("cmdline")).is_ok_and(|line| line == expected)).count()
}

fn has_groups(name: &str) -> bool {
    let found = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", name]).output().unwrap();
    !found.stdout.is_empty()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not happen: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
