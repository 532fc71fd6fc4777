//! How one Go program is built, and what is seen meanwhile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::reaper::Reaper;

/// Part of the cache's key: a change here builds anew.
///
/// No cgo: the same binaries whether or not the machine has a C compiler.
pub(crate) const FLAGS: [&str; 4] = ["-trimpath", "-buildvcs=false", "-mod=readonly", "CGO_ENABLED=0"];

const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Builds `package` in the Go module `module` to `target`, which appears only when it is complete.
pub(crate) fn build(
    module: &Path,
    package: &str,
    tags: &str,
    link_flags: &str,
    target: &Path,
    what: &str,
) -> Result<()> {
    let unfinished = sibling(target, "building");
    let log = sibling(target, "log");
    let started = Instant::now();
    eprintln!("building {what}");

    let mut go = go(module);
    go.arg("build")
        .args(FLAGS.iter().filter(|flag| flag.starts_with('-')))
        .arg(format!("-tags={tags}"))
        .arg(format!("-ldflags=-s -w {link_flags}"))
        .arg("-o")
        .arg(&unfinished)
        .arg(package)
        .stderr(File::create(&log)?);
    // Killed with this process, or it would go on writing where the next try does.
    let reaper = Reaper::new()?;
    let mut go = reaper.spawn(&mut go).context(GO_IS_MISSING)?;
    let status = with_signs_of_life(&format!("building {what}"), || Ok(go.try_wait()?))?;
    if !status.success() {
        bail!(
            "`go build {package}` in {} failed ({status}). Its last words:\n{}\n\
             The Go modules come from a proxy (`go env GOPROXY`): is it reachable?",
            module.display(),
            tail(&log, 30)
        );
    }
    fs::rename(&unfinished, target)?;
    fs::remove_file(&log)?;
    eprintln!("built {what} in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Where Go keeps the sources of a module that `module` requires.
pub(crate) fn source_folder(module: &Path, required: &str) -> Result<PathBuf> {
    let output =
        go(module).args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", required]).output().context(GO_IS_MISSING)?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if folder.is_empty() {
        bail!(
            "`go list -m {required}` in {} found no folder: {}",
            module.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(folder.into())
}

/// The last `lines` lines of a file, for errors; of a Go program that panicked, those before it shows its goroutines.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = text.split("\ngoroutine ").next().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

const GO_IS_MISSING: &str = "`go` could not be started: the control plane of the tests is built from Go \
    modules. Install Go 1.26 or newer (https://go.dev/dl/) and put `go` on the PATH";

fn go(module: &Path) -> Command {
    let mut go = Command::new("go");
    // A workspace around the checkout would take the place of the pinned module file.
    go.current_dir(module).env("GOWORK", "off").env("CGO_ENABLED", "0");
    go
}

/// Asks until there is an answer, and shows meanwhile that nothing hangs.
pub(crate) fn with_signs_of_life<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    let mut next = started + SIGN_OF_LIFE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= next {
            eprintln!("  still {what}: {} s", started.elapsed().as_secs());
            next += SIGN_OF_LIFE;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn sibling(target: &Path, suffix: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{suffix}"))
}
