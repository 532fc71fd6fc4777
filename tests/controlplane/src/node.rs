//! A real node: kubelet, container runtime, network and kube-proxy, on which pods are processes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::binaries::{Binaries, Program};
use crate::control_plane::ControlPlane;
use crate::enclosure::{self, ADDRESS};
use crate::go_build::tail;
use crate::installation::run;
use crate::names;
use crate::node_files;
use crate::users::{NODES_USER, PROXY_USER, User};

/// What holds a pod's network while its containers come and go; [`Node::start`] has to be given it.
pub const PAUSE_IMAGE: &str = "docker.io/library/pause:tests";
pub const NAME: &str = "node-1";

pub(crate) const STATE: &str = "/run/containerd";
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

const PATIENCE: Duration = Duration::from_mins(2);

/// Needs to be in an [`enclosure`], and a control plane with [`Options::real_node`](crate::Options).
#[derive(Debug)]
pub struct Node<'c> {
    cp: &'c ControlPlane,
    programs: Binaries,
    dir: PathBuf,
    groups: String,
    running: Mutex<Vec<Child>>,
}

impl<'c> Node<'c> {
    /// Returns when the node is ready for pods, of these images: archives as docker makes them.
    pub fn start(cp: &'c ControlPlane, images: &[PathBuf]) -> Result<Self> {
        let groups = enclosure::inside().context("a node is started in an enclosure only")?;
        let node = Self {
            cp,
            programs: Binaries::ensure_node()?,
            dir: cp.dir().join("node"),
            groups,
            running: Mutex::default(),
        };
        for folder in ["network", "kubelet", "pod-logs"] {
            fs::create_dir_all(node.dir.join(folder))?;
        }
        let folder = node.programs.folder();
        fs::write(node.dir.join("containerd.toml"), node_files::containerd(&node.dir, folder))?;
        fs::write(node.dir.join("network/pods.conflist"), node_files::network(&node.dir))?;
        fs::write(node.dir.join("kubelet.json"), node_files::kubelet(&node.dir))?;
        let runc = node.dir.join("runc");
        fs::write(&runc, node_files::runc(&node.groups))?;
        fs::set_permissions(&runc, Permissions::from_mode(0o755))?;
        node.start_runtime()?;
        for image in images {
            node.import(image)?;
        }
        names::answer(cp)?;
        node.start_kubelet()?;
        Ok(node)
    }

    /// Starts again what [`lose_power`](Self::lose_power) ended.
    pub fn begin_again(&self) -> Result<()> {
        self.start_runtime()?;
        self.start_kubelet()
    }

    /// Ends every process of the node at once, pods too, and what such a machine has in memory only.
    pub fn lose_power(&self) -> Result<()> {
        for mut child in self.running().drain(..) {
            child.kill()?;
            child.wait()?;
        }
        let started = Instant::now();
        loop {
            let mut left = self.container_processes()?;
            left.extend(processes_of(&self.programs.path(Program::ContainerdShim))?);
            if left.is_empty() {
                break;
            }
            ensure!(started.elapsed() < PATIENCE, "these processes do not end: {left:?}");
            for process in left {
                kill_at_once(process);
            }
            thread::sleep(Duration::from_millis(50));
        }
        // Whatever is left of them, a kubelet would look at for seconds each.
        for group in control_groups(&self.groups)?.into_iter().rev() {
            let _ = fs::remove_dir(group);
        }
        for folder in ["/run/netns", STATE] {
            unmount_below(folder)?;
            let _ = fs::remove_dir_all(folder);
        }
        Ok(())
    }

    /// The processes in this pod's container, by the numbers this process knows them by.
    pub fn processes(&self, container_id: &str) -> Result<Vec<u32>> {
        let id = container_id.rsplit('/').next().unwrap_or_default();
        ensure!(!id.is_empty(), "the container has no id yet");
        control_groups(&self.groups)?
            .into_iter()
            .find(|group| group.ends_with(id))
            .map_or_else(|| Ok(Vec::new()), |group| members(&group))
    }

    /// The processes in any container that were started so.
    pub fn started_as(&self, command: &[&str]) -> Result<Vec<u32>> {
        let begin = command.join("\0");
        let is_so = |process: &u32| {
            fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.starts_with(begin.as_bytes()))
        };
        Ok(self.container_processes()?.into_iter().filter(is_so).collect())
    }

    /// Makes an image known to the runtime.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let mut ctr = Command::new(self.programs.path(Program::Ctr));
        ctr.args(["--address", SOCKET, "--namespace", "k8s.io", "images", "import"]);
        ctr.args(["--local", "--snapshotter", node_files::SNAPSHOTTER]).arg(archive);
        run(&mut ctr, "").map(drop)
    }

    fn start_runtime(&self) -> Result<()> {
        let mut containerd = Command::new(self.programs.path(Program::Containerd));
        containerd.arg("--config").arg(self.dir.join("containerd.toml"));
        let mut containerd = self.cp.spawn("containerd", containerd)?;
        self.wait_until("the container runtime answers", "containerd", &mut containerd, || {
            let mut ctr = Command::new(self.programs.path(Program::Ctr));
            run(ctr.args(["--address", SOCKET, "--namespace", "k8s.io", "images", "list"]), "").is_ok()
        })?;
        self.running().push(containerd);
        Ok(())
    }

    fn start_kubelet(&self) -> Result<()> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut kubelet = Command::new(self.programs.path(Program::Kubelet));
        kubelet.args([
            format!("--kubeconfig={}", self.cp.kubeconfig_of(NODES_USER).display()),
            format!("--config={}", file("kubelet.json")),
            format!("--root-dir={}", file("kubelet")),
            format!("--cert-dir={}", file("kubelet/pki")),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={ADDRESS}"),
        ]);
        let mut kubelet = self.cp.spawn("kubelet", kubelet)?;
        let mut proxy = Command::new(self.programs.path(Program::KubeProxy));
        proxy.args([
            &format!("--kubeconfig={}", self.cp.kubeconfig_of(PROXY_USER).display()),
            &format!("--hostname-override={NAME}"),
            "--proxy-mode=iptables",
            // What belongs to the whole machine is left as it is.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ]);
        let proxy = self.cp.spawn("kube-proxy", proxy)?;
        let ready = ["wait", "--for=condition=Ready", "node", NAME, "--timeout=5s"];
        self.wait_until("the node is ready", "kubelet", &mut kubelet, || {
            run(self.cp.kubectl(User::Admin).args(ready), "").is_ok()
        })?;
        self.running().extend([kubelet, proxy]);
        Ok(())
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn container_processes(&self) -> Result<Vec<u32>> {
        let mut all = Vec::new();
        for group in control_groups(&self.groups)? {
            all.extend(members(&group)?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn wait_until(&self, what: &str, program: &str, child: &mut Child, is_so: impl Fn() -> bool) -> Result<()> {
        let log = self.cp.dir().join("logs").join(program).with_added_extension("log");
        let started = Instant::now();
        while !is_so() {
            if let Some(status) = child.try_wait()? {
                bail!("waiting until {what}: it ended ({status}). Its last words:\n{}", tail(&log, 20));
            }
            ensure!(started.elapsed() < PATIENCE, "waiting until {what}. Its last words:\n{}", tail(&log, 20));
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// As the kernel does where memory runs out.
pub fn kill_at_once(process: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-s", "KILL", &process.to_string()]).output();
}

/// The control groups below these, of whatever controllers the machine has.
fn control_groups(name: &str) -> Result<Vec<PathBuf>> {
    let found = run(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", &format!("*/{name}/*")]), "")?;
    Ok(String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect())
}

fn members(group: &Path) -> Result<Vec<u32>> {
    match fs::read_to_string(group.join("cgroup.procs")) {
        // Nought is a process that cannot be seen from here.
        Ok(processes) => Ok(processes.lines().filter_map(|line| line.parse().ok()).filter(|it| *it > 0).collect()),
        // It went meanwhile.
        Err(error) if matches!(error.raw_os_error(), Some(2 | 19)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn processes_of(program: &Path) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number
            && fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program)
        {
            found.push(number);
        }
    }
    Ok(found)
}

/// The innermost first.
fn unmount_below(folder: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(folder));
    for mount in below.collect::<Vec<_>>().into_iter().rev() {
        run(Command::new("umount").args(["--lazy", mount]), "")?;
    }
    Ok(())
}
