//! A place on this machine in which a whole node can live, and of which nothing stays.
//!
//! A container runtime leaves much that is nobody's child: shims, mounts, interfaces, rules of the packet filter. All of
//! it belongs to Linux namespaces, and these end with their first process, whatever ended that. So the tests run
//! themselves again inside such namespaces, where they may also use fixed addresses and do to the network what they like.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use crate::reaper::Reaper;

/// The node's address on its bridge, on which the API server listens too.
pub const ADDRESS: &str = "10.88.0.1";
/// The bridge to which pods are joined.
pub(crate) const BRIDGE: &str = "cni0";
pub(crate) const PODS: &str = "10.88.0.0/24";
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// Where pods ask for names, among the Services.
pub(crate) const NAMES: &str = "10.96.0.10";

const INSIDE: &str = "TAGOUT_ENCLOSURE";

const TOOLS: [&str; 6] = ["buildah", "ip", "iptables", "mount", "runc", "unshare"];

const NAMESPACES: [&str; 6] =
    ["--net", "--mount", "--pid", "--fork", "--mount-proc", /* and all in it */ "--kill-child=KILL"];

/// What the first process inside does: it prepares the place, and takes in the orphans.
///
/// What would be written to folders that all namespaces share gets lost in memory instead.
const FIRST_PROCESS: &str = r#"
set -e
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs "$folder"; done
ip link set lo up
ip link add "$BRIDGE" type bridge
ip address add "$ADDRESS/24" dev "$BRIDGE"
ip link set "$BRIDGE" up
# Where a packet goes is decided before it gets the address of a pod.
ip route add "$SERVICES" dev "$BRIDGE"
ip address add "$NAMES/32" dev lo
echo 1 > /proc/sys/net/ipv4/ip_forward
# Without the module, what goes over the bridge is not filtered to begin with.
[ ! -e /proc/sys/net/bridge ] || echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
trap 'exit 130' INT TERM
"$@" &
wait $!
"#;

/// Why there can be none on this machine, if so.
pub fn lacking() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("a node needs Linux".to_owned());
    }
    if fs::metadata("/proc/self").map_or(1, |this| this.uid()) != 0 {
        return Some("a node needs root".to_owned());
    }
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !is_installed(tool)).collect();
    if !missing.is_empty() {
        return Some(format!("these are not installed: {}", missing.join(", ")));
    }
    let tried = Command::new("unshare").args(NAMESPACES).args(["--", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no namespaces here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("no namespaces here: {error}")),
    }
}

/// Whether this process is in one, and the name of its control groups.
pub fn inside() -> Option<String> {
    env::var(INSIDE).ok()
}

/// Runs this program again with the same arguments inside, with `folder` as its temporary folder, which is removed.
pub fn enter(folder: &Path) -> Result<ExitStatus> {
    let groups = folder.file_name().and_then(|name| name.to_str()).context("the folder has no name")?;
    let keep = env::var_os("TAGOUT_KEEP_LOGS").map(|_| "inside");
    let reaper = Reaper::with_control_groups(folder, keep, groups)?;
    let temporary = folder.join("inside");
    fs::create_dir(&temporary)?;
    let mut command = Command::new("unshare");
    command.args(NAMESPACES).args(["--", "sh", "-c", FIRST_PROCESS, "first"]);
    command.arg(env::current_exe()?).args(env::args_os().skip(1));
    command
        .env(INSIDE, groups)
        .env("ADDRESS", ADDRESS)
        .env("BRIDGE", BRIDGE)
        .env("SERVICES", SERVICES)
        .env("NAMES", NAMES);
    command.env("TMPDIR", temporary).stdin(Stdio::null());
    let mut unshared = reaper.spawn(&mut command)?;
    Ok(unshared.wait()?)
}

fn is_installed(tool: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(tool).exists())
}
