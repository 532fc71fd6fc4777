//! How a control plane is started, used, broken and taken down.

use std::env;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::binaries::{Binaries, Program};
use crate::enclosure;
use crate::flags::{self, Place};
use crate::go_build::tail;
use crate::kubeconfig::kubeconfig;
use crate::reaper::Reaper;
use crate::users::{self, User};

/// etcd, API server, controllers, scheduler and three simulated nodes.
///
/// All of it ends with this value, or with the process that holds it, however that ends: it may live in
/// a `static`. Set `TAGOUT_KEEP_LOGS` to keep the logs.
#[derive(Debug)]
pub struct ControlPlane {
    binaries: Binaries,
    options: Options,
    place: Place,
    ca: PathBuf,
    users: [PathBuf; User::ALL.len()],
    apiserver: Mutex<Child>,
    others: Mutex<Vec<Child>>,
    reaper: Reaper,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether all controllers act as `system:kube-controller-manager`, as in some distributions,
    /// instead of each with a service account of its own.
    pub share_controller_credentials: bool,
    /// Whether there is a place for a real [`Node`](crate::Node) instead of three simulated ones. Takes an
    /// [`Enclosure`](crate::enclosure).
    pub real_node: bool,
    /// Added after the flags of this crate: the last of two wins.
    pub extra_apiserver_args: Vec<String>,
}

impl ControlPlane {
    /// Returns when the API server, the nodes and the `default` service account are ready.
    pub fn start(options: &Options) -> Result<Self> {
        let binaries = Binaries::ensure()?;
        let mut attempt = 1;
        loop {
            match Self::start_once(&binaries, options) {
                // A free port is only known to have been free: somebody else may take it meanwhile.
                Err(error) if attempt < ATTEMPTS && is_port_taken(&error) => attempt += 1,
                result => return result,
            }
        }
    }

    pub fn server_url(&self) -> String {
        self.place.server_url()
    }

    /// The authority of the API server's certificate.
    pub fn ca_path(&self) -> &Path {
        &self.ca
    }

    /// Everything of this control plane is in this folder, which is removed with it.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// One JSON event a line, at level `Request`, written before the answer to the request is sent.
    pub fn audit_log(&self) -> PathBuf {
        self.place.audit_log()
    }

    pub fn kubeconfig(&self, user: User) -> &Path {
        &self.users[user as usize]
    }

    /// Of a component of Kubernetes.
    pub(crate) fn kubeconfig_of(&self, component: &str) -> PathBuf {
        self.place.kubeconfig(component)
    }

    /// Makes a kubeconfig for any bearer token, such as a service account's.
    pub fn write_kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        write_kubeconfig(&self.place, name, token)
    }

    pub fn kubectl(&self, user: User) -> Command {
        self.kubectl_with(self.kubeconfig(user))
    }

    /// `kubectl` as whoever the kubeconfig says.
    pub fn kubectl_with(&self, kubeconfig: &Path) -> Command {
        self.client(Program::Kubectl, kubeconfig)
    }

    pub fn helm(&self, user: User) -> Command {
        self.client(Program::Helm, self.kubeconfig(user))
    }

    /// What the API server counted, among it its calls of webhooks.
    pub fn apiserver_metrics(&self) -> Result<String> {
        let output = self.run(["get", "--raw", "/metrics"], "")?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a process that ends with this control plane; its output goes to `logs/NAME.log`.
    pub fn spawn(&self, name: &str, mut command: Command) -> Result<Child> {
        spawn(&self.reaper, &self.place, name, &mut command)
    }

    /// Kills the API server; what it stored remains.
    pub fn kill_apiserver(&self) -> Result<()> {
        kill(&mut self.apiserver())
    }

    /// Ends all its processes; what is leaked can be ended too.
    pub fn end(&self) {
        let _ = self.kill_apiserver();
        for other in self.others.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let _ = kill(other);
        }
    }

    /// Ends all its processes for good and removes what it stored: one that is leaked would keep hundreds of megabytes
    /// until the process that holds it ends.
    pub fn discard(&self) {
        self.end();
        let keep = env::var_os("TAGOUT_KEEP_LOGS").map(|_| "logs");
        for entry in fs::read_dir(self.dir()).into_iter().flatten().flatten() {
            if keep.is_none_or(|keep| entry.file_name() != keep) {
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
    }

    /// Starts the API server again, with the same address and the same data, and waits for it.
    pub fn restart_apiserver(&self) -> Result<()> {
        let mut apiserver = self.apiserver();
        kill(&mut apiserver)?;
        *apiserver = start_apiserver(&self.reaper, &self.place, &self.binaries, &self.options)?;
        self.wait_for_apiserver(&mut apiserver)
    }

    /// Starts everything again that [`end`](Self::end) ended, with what was stored, as after a power cut.
    pub fn begin_again(&self) -> Result<()> {
        let mut apiserver = self.apiserver();
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let mut etcd = start_etcd(&self.reaper, &self.place, &self.binaries)?;
        *apiserver = start_apiserver(&self.reaper, &self.place, &self.binaries, &self.options)?;
        self.wait_for_apiserver(&mut apiserver).with_context(|| format!("etcd: {:?}", etcd.try_wait()))?;
        *others = self.clients()?;
        others.push(etcd);
        Ok(())
    }

    fn start_once(binaries: &Binaries, options: &Options) -> Result<Self> {
        let place = prepare_place(options)?;
        let keep = env::var_os("TAGOUT_KEEP_LOGS").map(|_| "logs");
        let reaper = Reaper::with_folder(&place.dir, keep)?;

        let etcd = start_etcd(&reaper, &place, binaries)?;
        let mut apiserver = start_apiserver(&reaper, &place, binaries, options)?;
        let served = place.certificates().join("apiserver.crt");
        wait_until("the API server has its certificate", &mut apiserver, &place.log("kube-apiserver"), || {
            write_ca(&served, &place.ca()).is_ok()
        })?;
        let control_plane = Self {
            binaries: binaries.clone(),
            options: options.clone(),
            ca: place.ca(),
            users: User::ALL.map(|user| place.kubeconfig(user.name())),
            apiserver: Mutex::new(apiserver),
            others: Mutex::new(vec![etcd]),
            place,
            reaper,
        };
        control_plane.wait_for_apiserver(&mut control_plane.apiserver())?;
        control_plane.run(["create", "-f", "-"], &flags::first_objects(options))?;
        let clients = control_plane.clients()?;
        control_plane.others.lock().unwrap_or_else(PoisonError::into_inner).extend(clients);
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let account = "--for=create serviceaccount/default --namespace=default";
        let nodes = (!options.real_node).then_some("--for=condition=Ready nodes --all");
        for what in nodes.into_iter().chain([account]) {
            control_plane.run(["wait", &timeout].into_iter().chain(what.split(' ')), "")?;
        }
        Ok(control_plane)
    }

    /// After the API server, and not beside it: the controllers wait for it for ten seconds only.
    fn clients(&self) -> Result<Vec<Child>> {
        let place = &self.place;
        let mut programs = vec![
            (Program::KubeControllerManager, flags::controllers(place, &self.options)),
            (Program::KubeScheduler, flags::scheduler(place)),
        ];
        if !self.options.real_node {
            programs.push((Program::Kwok, flags::kwok(place, &self.binaries.stages()?)));
        }
        let start = |(program, flags)| start_program(&self.reaper, place, &self.binaries, program, flags);
        programs.into_iter().map(start).collect()
    }

    fn apiserver(&self) -> MutexGuard<'_, Child> {
        // A test that failed while it held the lock shall not make the others fail too.
        self.apiserver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_apiserver(&self, apiserver: &mut Child) -> Result<()> {
        wait_until("the API server is ready", apiserver, &self.place.log("kube-apiserver"), || {
            TcpStream::connect((self.place.host, self.place.api_port)).is_ok()
                && self.run(["get", "--raw", "/readyz"], "").is_ok()
        })
    }

    fn client(&self, program: Program, kubeconfig: &Path) -> Command {
        let mut command = Command::new(self.binaries.path(program));
        let home = self.place.dir.join("home");
        // What the developer has set for their own clusters has no place here.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if ["HELM_", "KUBE", "XDG_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&*name);
            }
        }
        command
            .env("KUBECONFIG", kubeconfig)
            .env("KUBECACHEDIR", home.join("kube-cache"))
            .env("HELM_CACHE_HOME", home.join("helm/cache"))
            .env("HELM_CONFIG_HOME", home.join("helm/config"))
            .env("HELM_DATA_HOME", home.join("helm/data"))
            .env("HOME", home);
        self.reaper.adopt(&mut command);
        command
    }

    /// Runs `kubectl` as the administrator.
    fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>, input: &str) -> Result<Output> {
        let mut kubectl = self
            .kubectl(User::Admin)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = kubectl.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = kubectl.wait_with_output()?;
        ensure!(
            output.status.success(),
            "kubectl failed: {}\nSet TAGOUT_KEEP_LOGS=1 to keep the logs of the control plane",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end();
    }
}

const ATTEMPTS: u32 = 3;

/// Starting takes about ten seconds; a machine that builds something meanwhile needs several times that.
const PATIENCE: Duration = Duration::from_mins(2);

fn prepare_place(options: &Options) -> Result<Place> {
    let dir = tempfile::Builder::new().prefix("tagout-controlplane-").tempdir()?;
    // Both are held until both are known, or they may be the same.
    let ports = [free_port()?, free_port()?];
    let place = Place {
        dir: dir.path().to_owned(),
        etcd_port: ports[0].local_addr()?.port(),
        api_port: ports[1].local_addr()?.port(),
        host: if options.real_node { enclosure::ADDRESS } else { "127.0.0.1" },
        services: if options.real_node { enclosure::SERVICES.to_owned() } else { random_network() },
    };
    for folder in ["certificates", "home", "kubeconfigs", "logs"] {
        fs::create_dir(place.dir.join(folder))?;
    }
    let key = rcgen::KeyPair::generate()?;
    fs::write(place.service_account_key(), key.serialize_pem())?;
    fs::write(place.service_account_public_key(), key.public_key_pem())?;
    fs::write(place.token_file(), users::token_file())?;
    fs::write(place.audit_policy(), flags::audit_policy())?;
    for name in users::names() {
        write_kubeconfig(&place, name, name)?;
    }
    // From here on the reaper removes it.
    let _ = dir.keep();
    Ok(place)
}

fn free_port() -> Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")
}

/// Two control planes on one machine shall rarely give their Services the same addresses.
fn random_network() -> String {
    let random = RandomState::new().hash_one(std::process::id()) % 151;
    format!("127.{}.0.0/16", 100 + random)
}

fn write_kubeconfig(place: &Place, name: &str, token: &str) -> Result<PathBuf> {
    let file = place.kubeconfig(name);
    fs::write(&file, kubeconfig(&place.server_url(), &place.ca(), token))?;
    Ok(file)
}

/// The file the API server made holds its certificate, then the authority's.
fn write_ca(served: &Path, ca: &Path) -> Result<()> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let chain = fs::read_to_string(served)?;
    ensure!(chain.matches(BEGIN).count() == 2 && chain.ends_with("-----\n"), "not written to its end");
    let last = chain.rfind(BEGIN).unwrap_or_default();
    fs::write(ca, &chain[last..])?;
    Ok(())
}

/// Returns when it listens.
fn start_etcd(reaper: &Reaper, place: &Place, binaries: &Binaries) -> Result<Child> {
    let mut etcd = start_program(reaper, place, binaries, Program::Etcd, flags::etcd(place))?;
    wait_until("etcd listens", &mut etcd, &place.log("etcd"), || {
        TcpStream::connect(("127.0.0.1", place.etcd_port)).is_ok()
    })?;
    Ok(etcd)
}

fn start_apiserver(reaper: &Reaper, place: &Place, binaries: &Binaries, options: &Options) -> Result<Child> {
    let flags = flags::apiserver(place, options);
    start_program(reaper, place, binaries, Program::KubeApiserver, flags)
}

fn start_program(
    reaper: &Reaper,
    place: &Place,
    binaries: &Binaries,
    program: Program,
    flags: Vec<String>,
) -> Result<Child> {
    let mut command = Command::new(binaries.path(program));
    command.args(flags).current_dir(&place.dir);
    spawn(reaper, place, program.name(), &mut command)
}

fn spawn(reaper: &Reaper, place: &Place, name: &str, command: &mut Command) -> Result<Child> {
    let log = File::options().create(true).append(true).open(place.log(name))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    reaper.spawn(command).with_context(|| format!("{name} ({}) could not be started", command.get_program().display()))
}

fn kill(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn wait_until(what: &str, child: &mut Child, log: &Path, is_so: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    while !is_so() {
        if let Some(status) = child.try_wait()? {
            bail!("waiting until {what}: it ended ({status}). Its last words:\n{}", tail(log, 20));
        }
        if started.elapsed() > PATIENCE {
            bail!("waiting until {what}: not within {PATIENCE:?}. Its last words:\n{}", tail(log, 20));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn is_port_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("address already in use")
}
