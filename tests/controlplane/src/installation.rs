//! The chart installed as users install it, with the real process in the place of its simulated pods.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{ControlPlane, User};

pub const NAMESPACE: &str = "tagout-system";

/// An installed chart whose process answers on the address of its Service.
///
/// The pods are simulated, so nothing in them runs. The process is started with what the chart's container sets as
/// arguments and environment, as the chart's service account, and listens where the API server looks for the Service.
pub struct Installation<'c> {
    cp: &'c ControlPlane,
    process: PodProcess,
    running: Option<Child>,
}

/// What the kubelet would run.
struct PodProcess {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    listen: SocketAddr,
    metrics: SocketAddr,
}

impl<'c> Installation<'c> {
    /// `helm upgrade --install --wait`, with the process started as soon as the chart's objects exist.
    pub fn helm(cp: &'c ControlPlane, chart: &Path, binary: &Path, values: &[&str]) -> Result<Self> {
        let mut helm = cp.helm(User::Admin);
        helm.args(["upgrade", "--install", "tagout"]).arg(chart);
        helm.args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s"]);
        for value in values {
            helm.args(["--set", value]);
        }
        if !may_bind_privileged_ports() {
            helm.args(["--set", &format!("service.port={UNPRIVILEGED_PORT}")]);
        }
        Self::by(cp, binary, helm)
    }

    /// Installed by any command that waits until Tagout is ready, with the process started meanwhile.
    pub fn by(cp: &'c ControlPlane, binary: &Path, mut helm: Command) -> Result<Self> {
        let helm = helm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let waiting = thread::spawn(move || helm.wait_with_output());

        let started = Instant::now();
        let process = loop {
            if waiting.is_finished() {
                break None;
            }
            if let Ok(process) = pod_process(cp, binary) {
                break Some(process);
            }
            ensure!(started.elapsed() < PATIENCE, "the chart's objects did not appear");
            thread::sleep(Duration::from_millis(100));
        };
        let Some(process) = process else {
            // It ended before there was anything to start: either it failed, or all was there already.
            let output = waiting.join().expect("waiting does not panic")?;
            ensure!(output.status.success(), "helm: {}", words(&output));
            let mut installation = Self { cp, process: pod_process(cp, binary)?, running: None };
            installation.start()?;
            return Ok(installation);
        };
        let mut installation = Self { cp, process, running: None };
        installation.start()?;
        let output = waiting.join().expect("waiting does not panic")?;
        ensure!(output.status.success(), "helm: {}", words(&output));
        Ok(installation)
    }

    /// Starts the process, if it does not run, and waits until every rule is in force.
    pub fn start(&mut self) -> Result<()> {
        if self.running.is_none() {
            self.running = Some(self.cp.spawn(NAME, self.process.command(self.process.listen, self.process.metrics))?);
        }
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.running.as_mut().and_then(|child| child.try_wait().transpose()).transpose()? {
                bail!("tagout ended ({status}):\n{}", self.log());
            }
            let address = self.address();
            let ready = Command::new("curl")
                .args(["--silent", "--insecure", "--fail", "--max-time", "2"])
                .arg(format!("https://{address}/readyz"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .context("curl is needed to ask the process whether it is ready")?;
            if ready.success() {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "tagout did not become ready:\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the process at once, as a lost node would.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks the process to end, as a kubelet would, and waits for it.
    pub fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        let mut child = self.running.take().context("it does not run")?;
        let status = Command::new("kill").arg(child.id().to_string()).status()?;
        ensure!(status.success(), "kill failed");
        Ok(child.wait()?)
    }

    /// Where the API server calls it.
    pub fn address(&self) -> SocketAddr {
        self.process.listen
    }

    pub fn metrics_address(&self) -> SocketAddr {
        self.process.metrics
    }

    /// Adds arguments for processes that start from now on.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.process.args.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// A further replica, on addresses of its own.
    pub fn replica(&self, name: &str) -> Result<Child> {
        self.replica_on(name, free_address()?)
    }

    /// A further replica that listens here.
    pub fn replica_on(&self, name: &str, listen: SocketAddr) -> Result<Child> {
        self.cp.spawn(name, self.process.command(listen, free_address()?))
    }

    /// Writes mounted Secrets as they are now, as a kubelet does within a minute.
    pub fn remount(&self) -> Result<()> {
        mounts(self.cp, &get(self.cp, &["deployment", "tagout"])?["spec"]["template"]["spec"])?;
        Ok(())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.cp.dir().join("logs").join(format!("{NAME}.log"))).unwrap_or_default()
    }
}

/// The pod in which the process is, as far as its token tells. On no node: its node's drain would end the token.
const STAND_IN: &str = "stand-in";

fn stand_in(account: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": STAND_IN, "namespace": NAMESPACE},
        "spec": {"serviceAccountName": account, "schedulerName": "nobody",
            "containers": [{"name": "stand-in", "image": "stand-in"}]}})
}

const PATIENCE: Duration = Duration::from_mins(2);
const UNPRIVILEGED_PORT: u16 = 10443;
const NAME: &str = "tagout";

/// The container's arguments and environment, and its service account, as the Deployment has them.
fn pod_process(cp: &ControlPlane, binary: &Path) -> Result<PodProcess> {
    let deployment = get(cp, &["deployment", "tagout"])?;
    let service = get(cp, &["service", "tagout"])?;
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let account = pod["serviceAccountName"].as_str().unwrap_or("default");
    // As a kubelet asks for it: the token says in which pod it is. Not in one of the Deployment's, or it would end when that
    // is replaced and the process is not.
    run(cp.kubectl(User::Admin).args(["apply", "-f", "-"]), &stand_in(account).to_string())?;
    let token = ["create", "token", account, "-n", NAMESPACE, "--duration=12h", "--bound-object-kind=Pod"];
    let token = run(cp.kubectl(User::Admin).args(token).args(["--bound-object-name", STAND_IN]), "")?;
    let kubeconfig = cp.write_kubeconfig("tagout", String::from_utf8(token.stdout)?.trim())?;

    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mounts = mounts(cp, pod)?;
    let mounted = |arg: String| mounts.iter().fold(arg, |arg, (path, folder)| arg.replace(path, folder));
    let mut env = vec![("KUBECONFIG".to_owned(), kubeconfig.display().to_string())];
    for variable in container["env"].as_array().into_iter().flatten() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.namespace") => NAMESPACE,
            Some(other) => bail!("the chart reads {other}, which this harness does not know"),
            None => variable["value"].as_str().unwrap_or_default(),
        };
        env.push((variable["name"].as_str().unwrap_or_default().to_owned(), value.to_owned()));
    }
    let ip = service["spec"]["clusterIP"].as_str().context("the Service has no address yet")?;
    let port = service["spec"]["ports"][0]["port"].as_u64().context("the Service has no port")?;
    Ok(PodProcess {
        program: binary.to_owned(),
        args: texts(&container["args"]).into_iter().map(mounted).collect(),
        env,
        listen: format!("{ip}:{port}").parse()?,
        metrics: free_address()?,
    })
}

/// Puts the Secrets that the pod mounts into folders, and says which folder stands for which path in the container. As
/// with a kubelet, nothing starts while one is missing.
fn mounts(cp: &ControlPlane, pod: &Value) -> Result<Vec<(String, String)>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut mounts = Vec::new();
    for mount in list(&pod["containers"][0]["volumeMounts"]) {
        let volume = list(&pod["volumes"]).into_iter().find(|volume| volume["name"] == mount["name"]);
        let volume = volume.with_context(|| format!("there is no volume for {mount}"))?;
        let secret = volume["secret"]["secretName"].as_str();
        let secret = secret.with_context(|| format!("the chart mounts {volume}, which this harness does not know"))?;
        let folder = cp.dir().join("volumes").join(secret);
        fs::create_dir_all(&folder)?;
        for item in list(&volume["secret"]["items"]) {
            let key = item["key"].as_str().context("an item has a key")?;
            let template = format!("go-template={{{{index .data {key:?} | base64decode}}}}");
            let read = ["get", "secret", secret, "-n", NAMESPACE, "-o", &template];
            let contents = run(cp.kubectl(User::Admin).args(read), "")?.stdout;
            // Never half of it: the process may read it at any time.
            let (file, fresh) = (folder.join(item["path"].as_str().unwrap_or(key)), folder.join("..fresh"));
            fs::write(&fresh, contents)?;
            fs::rename(fresh, file)?;
        }
        let path = mount["mountPath"].as_str().context("a mount has a path")?;
        mounts.push((path.to_owned(), folder.display().to_string()));
    }
    Ok(mounts)
}

fn get(cp: &ControlPlane, what: &[&str]) -> Result<Value> {
    let output = run(cp.kubectl(User::Admin).args(["get", "-n", NAMESPACE, "-o", "json"]).args(what), "")?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl PodProcess {
    fn command(&self, listen: SocketAddr, metrics: SocketAddr) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        // A later flag wins. Nobody has to be given time to look elsewhere: the Service is a single address here.
        command.arg(format!("--listen={listen}")).arg(format!("--metrics-listen={metrics}")).arg("--drain-delay=0");
        command
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn may_bind_privileged_ports() -> bool {
    TcpListener::bind("127.99.0.1:443").is_ok()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a command with this input; fails with its words where it fails.
pub fn run(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input may have closed it.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{} failed: {}", command.get_program().display(), words(&output));
    Ok(output)
}
