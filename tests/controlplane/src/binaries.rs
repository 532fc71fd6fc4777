//! Which programs the control plane is made of, and where they come from.

use std::env;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::go_build;

/// A folder with every program of the control plane, and kwok's stages.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    Kubectl,
    Kwok,
    Helm,
    Kubelet,
    KubeProxy,
    Containerd,
    ContainerdShim,
    Ctr,
    CniBridge,
    CniLoopback,
    CniHostLocal,
    Pause,
}

impl Binaries {
    /// Builds what is missing, once per machine and pin.
    ///
    /// The programs are kept in `$TAGOUT_CONTROLPLANE_CACHE`, else in the user's cache folder. Where
    /// `$KUBEBUILDER_ASSETS` is set, what it holds is taken and only the rest is built.
    pub fn ensure() -> Result<Self> {
        let cache = cache_folder()?;
        let modules = modules();
        let key = key(&modules, &Program::ALL)?;
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let (given, lacking): (Vec<_>, Vec<_>) = Program::ALL
            .into_iter()
            .partition(|program| assets.as_ref().is_some_and(|folder| folder.join(program.name()).exists()));

        let built = cache.join(&key);
        if !is_complete(&built, &lacking) || !built.join(STAGES).exists() {
            make_folder(&built)?;
            let _lock = lock(&built)?;
            build(&modules, &built, &lacking)?;
            copy_stages(&modules.join(Program::Kwok.module()), &built)?;
        }
        match assets {
            Some(assets) if !given.is_empty() => {
                let name = format!("{key}-with-{}", hash([assets.as_os_str().as_encoded_bytes()]));
                let folder = cache.join(name);
                fs::create_dir_all(&folder)?;
                let _lock = lock(&folder)?;
                gather(&folder, &assets, &given, &built, &lacking)?;
                Ok(Self { folder })
            }
            _ => Ok(Self { folder: built }),
        }
    }

    /// The same for what a real node needs beside the control plane, in a folder of its own: few tests ask for it.
    pub fn ensure_node() -> Result<Self> {
        let modules = modules();
        let folder = cache_folder()?.join(format!("{}-node", key(&modules, &Program::NODE)?));
        if !is_complete(&folder, &Program::NODE) {
            make_folder(&folder)?;
            let _lock = lock(&folder)?;
            build(&modules, &folder, &Program::NODE)?;
        }
        Ok(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, program: Program) -> PathBuf {
        self.folder.join(program.name())
    }

    /// What the simulated nodes and pods do, one file per stage.
    pub fn stages(&self) -> Result<Vec<PathBuf>> {
        let mut stages =
            fs::read_dir(self.folder.join(STAGES))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        stages.sort();
        Ok(stages)
    }
}

impl Program {
    /// The control plane, and what is used with it.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kubectl,
        Self::Kwok,
        Self::Helm,
    ];

    /// What makes this machine a node: kubelet, container runtime and network.
    pub const NODE: [Self; 9] = [
        Self::Kubelet,
        Self::KubeProxy,
        Self::Containerd,
        Self::ContainerdShim,
        Self::Ctr,
        Self::CniBridge,
        Self::CniLoopback,
        Self::CniHostLocal,
        Self::Pause,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kwok => "kwok",
            Self::Helm => "helm",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Containerd => "containerd",
            Self::ContainerdShim => "containerd-shim-runc-v2",
            Self::Ctr => "ctr",
            Self::CniBridge => "bridge",
            Self::CniLoopback => "loopback",
            Self::CniHostLocal => "host-local",
            Self::Pause => "pause",
        }
    }

    /// The folder of the Go module that pins it.
    fn module(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kwok => "kwok",
            Self::Helm => "helm",
            Self::Kubelet | Self::KubeProxy => "node",
            Self::Containerd | Self::ContainerdShim | Self::Ctr => "containerd",
            Self::CniBridge | Self::CniLoopback | Self::CniHostLocal => "cni",
            Self::Pause => "pause",
            _ => "kubernetes",
        }
    }

    fn package(self) -> String {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3".to_owned(),
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok".to_owned(),
            Self::Helm => "helm.sh/helm/v4/cmd/helm".to_owned(),
            Self::Containerd | Self::ContainerdShim | Self::Ctr => {
                format!("github.com/containerd/containerd/v2/cmd/{}", self.name())
            }
            Self::CniBridge | Self::CniLoopback => {
                format!("github.com/containernetworking/plugins/plugins/main/{}", self.name())
            }
            Self::CniHostLocal => "github.com/containernetworking/plugins/plugins/ipam/host-local".to_owned(),
            Self::Pause => ".".to_owned(),
            _ => format!("k8s.io/kubernetes/cmd/{}", self.name()),
        }
    }

    /// File systems of which only the libraries' C headers know, and which nothing here uses.
    fn tags(self) -> &'static str {
        match self {
            Self::Containerd | Self::ContainerdShim | Self::Ctr => "no_btrfs,no_devmapper,no_zfs",
            _ => "",
        }
    }

    /// Without these a server calls itself v0.0.0 and clients misbehave. Those without flags know theirs, or need none.
    fn link_flags(self, go_mod: &str) -> Result<String> {
        match self {
            Self::Etcd
            | Self::Kwok
            | Self::Containerd
            | Self::ContainerdShim
            | Self::Ctr
            | Self::CniBridge
            | Self::CniLoopback
            | Self::CniHostLocal
            | Self::Pause => Ok(String::new()),
            Self::Helm => {
                let version = pinned(go_mod, "helm.sh/helm/v4")?;
                Ok(format!("-X helm.sh/helm/v4/internal/version.version={version}"))
            }
            _ => {
                let version = pinned(go_mod, "k8s.io/kubernetes")?;
                let (major, rest) = version
                    .trim_start_matches('v')
                    .split_once('.')
                    .with_context(|| format!("{version} is no version"))?;
                let minor = rest.split('.').next().unwrap_or_default();
                let base = "k8s.io/component-base/version";
                Ok(format!(
                    "-X {base}.gitVersion={version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor} \
                     -X k8s.io/client-go/pkg/version.gitVersion={version}"
                ))
            }
        }
    }
}

const STAGES: &str = "stages";

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("go")
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| {
        format!("{} cannot be made: set TAGOUT_CONTROLPLANE_CACHE to a folder that can", folder.display())
    })
}

fn cache_folder() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("TAGOUT_CONTROLPLANE_CACHE") {
        return Ok(std::path::absolute(folder)?);
    }
    let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    match caches {
        Some(folder) => Ok(folder.join("tagout/controlplane")),
        None => bail!("HOME is not set: set TAGOUT_CONTROLPLANE_CACHE to the folder that shall hold the binaries"),
    }
}

/// Names the folder after all that the binaries depend on.
fn key(modules: &Path, programs: &[Program]) -> Result<String> {
    let mut parts = Vec::new();
    for program in programs {
        for file in ["go.mod", "go.sum"] {
            let file = modules.join(program.module()).join(file);
            parts.push(fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
        }
        // The one that is written here.
        parts.extend(fs::read(modules.join(program.module()).join("main.go")));
        let go_mod = go_mod(modules, *program)?;
        parts.push(program.link_flags(&go_mod)?.into_bytes());
    }
    parts.extend(go_build::FLAGS.map(|flag| flag.as_bytes().to_vec()));
    Ok(hash(parts.iter().map(Vec::as_slice)))
}

/// FNV-1a. Rust's own hasher may differ from release to release, which would build everything anew.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let hash = parts
        .into_iter()
        .flat_map(|part| part.iter().chain(&[0]))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

fn is_complete(folder: &Path, programs: &[Program]) -> bool {
    programs.iter().all(|program| folder.join(program.name()).exists())
}

/// Held until the file is dropped, or its process ends in whatever way.
fn lock(folder: &Path) -> Result<File> {
    let file = File::create(folder.with_extension("lock"))?;
    go_build::with_signs_of_life("waiting for another process that builds the control plane", || {
        match file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    })?;
    Ok(file)
}

fn build(modules: &Path, folder: &Path, programs: &[Program]) -> Result<()> {
    let missing: Vec<Program> =
        programs.iter().copied().filter(|program| !folder.join(program.name()).exists()).collect();
    if !missing.is_empty() {
        eprintln!(
            "The tests need a real Kubernetes; {} of its programs are not built yet. With cold Go caches a whole \
             control plane takes about ten minutes on two cores, once; they are then kept in {}",
            missing.len(),
            folder.display()
        );
    }
    for (index, program) in missing.iter().enumerate() {
        go_build::build(
            &modules.join(program.module()),
            &program.package(),
            program.tags(),
            &program.link_flags(&go_mod(modules, *program)?)?,
            &folder.join(program.name()),
            &format!("{} ({} of {})", program.name(), index + 1, missing.len()),
        )?;
    }
    Ok(())
}

fn copy_stages(module: &Path, folder: &Path) -> Result<()> {
    let target = folder.join(STAGES);
    if target.exists() {
        return Ok(());
    }
    let source = go_build::source_folder(module, "sigs.k8s.io/kwok")?.join("kustomize/stage");
    let unfinished = tempfile::tempdir_in(folder)?;
    for stage in ["node/fast", "node/heartbeat-with-lease", "pod/fast"] {
        for entry in fs::read_dir(source.join(stage))? {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default();
            if file.extension().is_some_and(|it| it == "yaml") && name != "kustomization.yaml" {
                // Read and written, not copied: files in Go's module cache are read-only.
                fs::write(unfinished.path().join(name), fs::read(&file)?)?;
            }
        }
    }
    fs::rename(unfinished.keep(), target)?;
    Ok(())
}

/// Fills `folder` with links to what was given and what was built.
fn gather(folder: &Path, assets: &Path, given: &[Program], built: &Path, lacking: &[Program]) -> Result<()> {
    let assets = std::path::absolute(assets)?;
    let given = given.iter().map(|it| (assets.join(it.name()), it.name()));
    let built = lacking.iter().map(|it| it.name()).chain([STAGES]).map(|name| (built.join(name), name));
    for (from, name) in given.chain(built) {
        // Made aside and moved: another process may be starting the program that has this name.
        let unfinished = folder.join(format!(".{name}"));
        let _ = fs::remove_file(&unfinished);
        symlink(from, &unfinished)?;
        fs::rename(&unfinished, folder.join(name))?;
    }
    Ok(())
}

fn go_mod(modules: &Path, program: Program) -> Result<String> {
    Ok(fs::read_to_string(modules.join(program.module()).join("go.mod"))?)
}

/// The version of a module in the text of a module file.
fn pinned<'a>(go_mod: &'a str, module: &str) -> Result<&'a str> {
    go_mod
        .lines()
        .map(|line| line.trim().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix(module)?.strip_prefix(' ')?.split(' ').next())
        .with_context(|| format!("the module file names no version of {module}"))
}
