//! How nothing stays behind, whatever ends the test: a panic, Ctrl-C or SIGKILL.
//!
//! All processes share one process group. A small shell outside that group holds the reading end of a
//! pipe whose writing end only the owner has. However the owner ends, the kernel closes the pipe, and
//! the shell kills the group and removes the folder. Nothing has to be registered, so no process can be
//! missed between its start and its registration, and a process's own children are met too.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Kills the processes given to it when it is dropped, or when the process that owns it ends.
#[derive(Debug)]
pub struct Reaper {
    /// Keeps the process group in existence while no other process is in it.
    anchor: Child,
    shell: Child,
}

/// `$1` is the process group, `$2` the folder, `$3` what to keep in the folder (may be empty), `$4` the name of control
/// groups to remove (may be empty).
///
/// Killed processes may still be finishing a write, so the removal is tried again for a while.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
while read -r _; do :; done
kill -s KILL -- "-$1" 2>/dev/null
[ -n "$2" ] || exit 0
tries=0
until find "$2" -mindepth 1 -maxdepth 1 ! -name "$3" -exec rm -rf {} + 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 30 ] || break
    sleep 0.05
done
tries=0
while [ -n "$4" ] && [ -n "$(find /sys/fs/cgroup -type d -name "$4" -print -quit)" ] && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    find /sys/fs/cgroup -depth -type d -path "*/$4*" -exec rmdir {} + 2>/dev/null
    sleep 0.05
done
if [ -n "$3" ]; then echo "logs are kept in $2/$3" >&2; else rmdir "$2"; fi
"#;

impl Reaper {
    /// A reaper of processes only.
    pub fn new() -> io::Result<Self> {
        Self::start("", "", "")
    }

    /// A reaper that also removes `folder`, except for the entry named `keep`.
    pub fn with_folder(folder: &Path, keep: Option<&str>) -> io::Result<Self> {
        Self::with_control_groups(folder, keep, "")
    }

    /// A reaper that also removes the control groups of this name, of every controller.
    pub fn with_control_groups(folder: &Path, keep: Option<&str>, groups: &str) -> io::Result<Self> {
        let folder = folder.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        Self::start(folder, keep.unwrap_or_default(), groups)
    }

    /// Starts a process that does not outlive this reaper.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.adopt(command).spawn()
    }

    /// Makes the processes that `command` will start end with this reaper.
    ///
    /// They also leave the terminal's foreground group: Ctrl-C reaches the owner alone, which keeps
    /// servers from dying in the middle of a test that still talks to them.
    pub fn adopt<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.process_group(self.anchor.id().cast_signed())
    }

    fn start(folder: &str, keep: &str, groups: &str) -> io::Result<Self> {
        let anchor = Command::new("cat").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "reaper", &anchor.id().to_string(), folder, keep, groups])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { anchor, shell })
    }
}

impl Drop for Reaper {
    /// Returns when the processes are killed and the folder is gone.
    fn drop(&mut self) {
        // `wait` closes the pipe first. The anchor comes last: its group must exist until then.
        let _ = self.shell.wait();
        let _ = self.anchor.wait();
    }
}
