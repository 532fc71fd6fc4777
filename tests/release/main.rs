//! What a release consists of, as people get it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-tagout");
const LINUX: &str = "x86_64-unknown-linux-musl";
const WINDOWS: &str = "x86_64-pc-windows-gnu";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The plugin of this build, packed for a target.
fn release(target: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("release");
    run(Command::new(root().join("deploy/release"))
        .arg(target)
        .env("PROGRAM", PLUGIN)
        .env("OUT", &out)
        .env("BASE_URL", "https://example.com/releases"));
    (folder, out)
}

#[test]
fn an_archive_holds_the_plugin_its_manual_what_completes_and_the_licence_and_is_the_same_each_time() {
    let (_keep, first) = release(LINUX);
    let (_keep, second) = release(LINUX);
    let archive = "kubectl-tagout-linux-amd64.tar.gz";
    let [bytes, again] = [&first, &second].map(|folder| fs::read(folder.join(archive)).expect("the archive"));
    assert!(bytes == again, "two archives of the same files differ");
    let listed = run(Command::new("tar").arg("-tvzf").arg(first.join(archive)));
    for file in ["./kubectl-tagout", "./kubectl_complete-tagout", "./LICENSE", "./man/kubectl-tagout-approve.1"] {
        assert!(listed.lines().any(|line| line.ends_with(file)), "{file}: {listed}");
    }
    assert!(!listed.contains("root/"), "nothing of who packed it: {listed}");
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&first));
}

#[test]
fn krew_installs_the_plugin_and_kubectl_completes_it() {
    let (folder, out) = release(LINUX);
    let krew_root = folder.path().join("krew");
    let krew = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.env("GOWORK", "off").env("CGO_ENABLED", "0").arg("-C").arg(root().join("tests/release/krew"));
        go.args(["run", "sigs.k8s.io/krew/cmd/krew"]).args(arguments);
        run(go
            .env("KREW_ROOT", &krew_root)
            .env("KREW_NO_UPGRADE_CHECK", "1")
            .env("KREW_OS", "linux")
            .env("KREW_ARCH", "amd64"))
    };
    let path = |name: &str| out.join(name).display().to_string();
    let (manifest, archive) = (path("tagout.yaml"), path("kubectl-tagout-linux-amd64.tar.gz"));
    krew(&["install", &format!("--manifest={manifest}"), &format!("--archive={archive}")]);
    let installed = krew_root.join("bin/kubectl-tagout");
    assert!(run(Command::new(&installed).arg("--version")).contains(env!("CARGO_PKG_VERSION")));

    let store = krew_root.join("store/tagout").join(format!("v{}", env!("CARGO_PKG_VERSION")));
    let path = format!("{}:{}", krew_root.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut complete = Command::new(store.join("kubectl_complete-tagout"));
    let said = run(complete.args(["appr"]).env("PATH", path));
    assert!(said.starts_with("approve\t") && said.ends_with(":4\n"), "{said}");
}

#[test]
fn for_windows_it_is_a_zip() {
    let (_keep, out) = release(WINDOWS);
    let listed =
        run(Command::new("python3").args(["-m", "zipfile", "-l"]).arg(out.join("kubectl-tagout-windows-amd64.zip")));
    assert!(listed.contains("kubectl-tagout") && listed.contains("LICENSE"), "{listed}");
    assert!(fs::read_to_string(out.join("tagout.yaml")).expect("a manifest").contains("os: windows"));
}
