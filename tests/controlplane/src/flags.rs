//! How each process of the control plane is told what to do.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::control_plane::Options;
use crate::users::{CONTROLLERS_USER, GROUPS_WITH_EVERY_RIGHT, NODES_USER, SCHEDULER_USER};

/// Where one control plane lives: its folder and its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) etcd_port: u16,
    pub(crate) api_port: u16,
    /// Where clients find the API server.
    pub(crate) host: &'static str,
    /// The addresses of Services. Without a real node they are loopback addresses: who listens on one is reached by the
    /// API server exactly as in a cluster, without kube-proxy.
    pub(crate) services: String,
}

impl Place {
    pub(crate) fn server_url(&self) -> String {
        format!("https://{}:{}", self.host, self.api_port)
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.log("audit")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(name).with_added_extension("log")
    }

    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        // A service account's name has colons, which separate files in `$KUBECONFIG`.
        let name = name.replace([':', '/'], "-");
        self.dir.join("kubeconfigs").join(name).with_added_extension("yaml")
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.dir.join("certificates")
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.certificates().join("ca.crt")
    }

    pub(crate) fn service_account_key(&self) -> PathBuf {
        self.certificates().join("service-accounts.key")
    }

    pub(crate) fn service_account_public_key(&self) -> PathBuf {
        self.certificates().join("service-accounts.pub")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.join("tokens.csv")
    }

    pub(crate) fn audit_policy(&self) -> PathBuf {
        self.dir.join("audit-policy.yaml")
    }

    fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }
}

pub(crate) fn etcd(place: &Place) -> Vec<String> {
    let url = place.etcd_url();
    vec![
        format!("--data-dir={}", place.dir.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        // The data is thrown away with the folder.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

pub(crate) fn apiserver(place: &Place, options: &Options) -> Vec<String> {
    let file = |path: PathBuf| path.display().to_string();
    let mut flags = vec![
        format!("--etcd-servers={}", place.etcd_url()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", place.api_port),
        // Without a certificate of its own it makes one here, with its authority.
        format!("--cert-dir={}", file(place.certificates())),
        format!("--service-cluster-ip-range={}", place.services),
        "--authorization-mode=Node,RBAC".to_owned(),
        format!("--token-auth-file={}", file(place.token_file())),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file(place.service_account_public_key())),
        format!("--service-account-signing-key-file={}", file(place.service_account_key())),
        format!("--audit-policy-file={}", file(place.audit_policy())),
        format!("--audit-log-path={}", file(place.audit_log())),
        "--audit-log-format=json".to_owned(),
        // In megabytes: a test reads one file from its beginning.
        "--audit-log-maxsize=10000".to_owned(),
    ];
    if options.real_node {
        flags.extend([
            // Pods call from addresses of their own.
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={}", place.host),
            // Or it would look for the node's name in DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]);
    }
    flags.extend_from_slice(&options.extra_apiserver_args);
    flags
}

pub(crate) fn controllers(place: &Place, options: &Options) -> Vec<String> {
    let mut flags = clients(place, CONTROLLERS_USER);
    flags.extend([
        format!("--use-service-account-credentials={}", !options.share_controller_credentials),
        format!("--service-account-private-key-file={}", place.service_account_key().display()),
        format!("--root-ca-file={}", place.ca().display()),
        "--controllers=*,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller".to_owned(),
    ]);
    flags
}

pub(crate) fn scheduler(place: &Place) -> Vec<String> {
    clients(place, SCHEDULER_USER)
}

pub(crate) fn kwok(place: &Place, stages: &[PathBuf]) -> Vec<String> {
    let mut flags = vec![
        format!("--kubeconfig={}", place.kubeconfig(NODES_USER).display()),
        "--manage-all-nodes".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
        // The default is one fixed port on every address.
        "--server-address=127.0.0.1:0".to_owned(),
    ];
    flags.extend(stages.iter().map(|stage| format!("--config={}", stage.display())));
    flags
}

/// What the two components share that are clients of the API server and serve nothing themselves.
fn clients(place: &Place, user: &str) -> Vec<String> {
    let kubeconfig = place.kubeconfig(user);
    let with = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
    vec![
        with("kubeconfig", &kubeconfig),
        with("authentication-kubeconfig", &kubeconfig),
        with("authorization-kubeconfig", &kubeconfig),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        // By default controllers ask 20 times in a second, and all tests of a cluster wait for the same ones.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ]
}

pub(crate) fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Request"}],
    })
    .to_string()
}

/// What is in the cluster from the start: rights, and three simulated nodes.
pub(crate) fn first_objects(options: &Options) -> String {
    let subject = |kind: &str, name: &str| json!({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    let binding = |name: &str, subjects: Vec<Value>| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": subjects,
        })
    };
    let everyone = GROUPS_WITH_EVERY_RIGHT.map(|group| subject("Group", group));
    let mut items = vec![binding("everyone-has-every-right", everyone.to_vec())];
    if options.share_controller_credentials {
        // Its own role holds only what it needs to impersonate the controllers' accounts.
        items.push(binding("controllers", vec![subject("User", CONTROLLERS_USER)]));
    }
    if options.real_node {
        return json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    }
    items.push(binding("simulated-nodes", vec![subject("User", NODES_USER)]));
    items.extend((1..=3).map(|number| {
        let name = format!("node-{number}");
        // Tests leave their pods behind: with the usual 110 the last of them would find no room.
        let capacity = json!({"cpu": "32", "memory": "256Gi", "pods": "5000"});
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                },
            },
            "status": {"capacity": capacity, "allocatable": capacity},
        })
    }));
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
