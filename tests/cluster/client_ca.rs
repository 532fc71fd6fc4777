//! With `--client-ca` the API server is answered, which has a client certificate, and nobody else is.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use controlplane::installation::{NAMESPACE, run};
use controlplane::{ControlPlane, Options, User};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use tempfile::TempDir;

use crate::bad_input::{JSON, RULE, Reply, curl, is_a_denial, review};
use crate::world::{APPROVERS, Outcome, World, binary, eventually, root};

/// Under this name the API server calls webhooks.
const NAME: &str = "kube-apiserver-webhooks";
/// And under this one it calls kubelets, where an authority serves both, as that of a cluster does.
const KUBELETS: &str = "kube-apiserver-kubelet-client";
const NO_CERTIFICATE: &str = "tagout: no client certificate was shown; this webhook answers only whoever shows a client \
                              certificate of --client-ca";
const OTHER_NAME: &str = "tagout: the client certificate has none of the names of --client-name; this webhook answers \
                          only whoever shows a client certificate of --client-ca";

struct Authority {
    pem: String,
    key: KeyPair,
}

/// A client certificate in files.
struct Client {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self { pem: params.self_signed(&key).expect("a certificate").pem(), key }
    }

    fn client(&self, folder: &Path, file: &str, name: &str) -> Client {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_ca_cert_pem(&self.pem, &self.key).expect("an authority");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let path = |extension: &str| folder.join(file).with_added_extension(extension);
        let client = Client { certificate: path("crt"), key: path("key") };
        fs::write(&client.certificate, certificate.pem()).expect("it is written");
        fs::write(&client.key, key.serialize_pem()).expect("it is written");
        client
    }
}

/// What stands in docs/operations.md between a line that begins so and the end of the code.
fn documented(begins: &str) -> String {
    let page = fs::read_to_string(root().join("docs/operations.md")).expect("the page");
    let section = page.split("## Let only the API server call\n").nth(1).expect("the section");
    let code = &section[section.find(begins).expect("it is there")..];
    let lines = code.split("```").next().expect("code").lines();
    lines.map(|line| line.strip_prefix("   ").unwrap_or(line).to_owned() + "\n").collect()
}

/// Runs the commands of the documentation, whose files stay in the folder.
fn made_as_documented(folder: &Path) -> Authority {
    let mut shell = Command::new("sh");
    run(shell.args(["-e", "-c", &documented("openssl req -x509")]).current_dir(folder), "").expect("certificates");
    let read = |file: &str| fs::read_to_string(folder.join(file)).expect("it was made");
    Authority { pem: read("ca.crt"), key: KeyPair::from_pem(&read("ca.key")).expect("a key") }
}

/// A control plane as the documentation has it, with the chart closed to whom the authority does not know.
fn closed(authority: &Authority, folder: &Path) -> World {
    let kubelets = authority.client(folder, "kubelets", KUBELETS);
    let write = |file: &str, contents: &str| {
        let here = contents.replace("/etc/kubernetes/webhooks", &folder.display().to_string());
        fs::write(folder.join(file), here).expect("it is written");
    };
    write("admission.yaml", &documented("apiVersion: apiserver.config.k8s.io/v1"));
    let kubeconfig = documented("apiVersion: v1\n   kind: Config");
    // Who may not listen on port 443 gives the Service another port, and that belongs to the name then.
    let (_, user) = kubeconfig.split_once("users:\n").expect("users");
    write("kubeconfig.yaml", &(kubeconfig.clone() + &user.replace(".svc\n", ".svc:10443\n")));
    let admission = folder.join("admission.yaml");
    let flag = |name: &str, file: &Path| format!("--{name}={}", file.display());
    let options = Options {
        extra_apiserver_args: vec![
            flag("admission-control-config-file", &admission),
            flag("kubelet-client-certificate", &kubelets.certificate),
            flag("kubelet-client-key", &kubelets.key),
        ],
        ..Options::default()
    };
    let cp = Box::leak(Box::new(ControlPlane::start(&options).expect("a control plane")));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "apiserver-ca", "namespace": NAMESPACE},
        "stringData": {"ca.crt": authority.pem},
    });
    run(cp.kubectl(User::Admin).args(["create", "namespace", NAMESPACE]), "").expect("a namespace");
    run(cp.kubectl(User::Admin).args(["create", "-f", "-"]), &secret.to_string()).expect("a Secret");
    let names = format!("clientCA.names={{{NAME}}}");
    World::installed(cp, &[APPROVERS[0], "clientCA.secretName=apiserver-ca", &names])
}

/// Posts a review as whoever reaches the Service may.
fn forge(world: &World, client: Option<&Client>) -> Reply {
    let file = |path: &Path| path.display().to_string();
    let shown =
        client.map(|client| ["--cert".to_owned(), file(&client.certificate), "--key".to_owned(), file(&client.key)]);
    let mut args: Vec<&str> = shown.iter().flatten().map(String::as_str).collect();
    args.extend(JSON);
    args.extend(["--data-binary", "@-"]);
    curl(world, RULE, &args, review().to_string().as_bytes())
}

#[test]
fn with_a_client_ca_the_api_server_is_answered_and_a_forged_review_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, next, other) = (made_as_documented(folder.path()), Authority::new(), Authority::new());
    let world = closed(&ours, folder.path());
    let namespace = world.production();
    namespace.deployment("api");
    namespace
        .kubectl(User::Agent, &["delete", "deployment", "api"])
        .is_refused(&["tagout: denied Delete of", "\"api\""]);
    namespace.approve(User::Bob, "deployment/api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();

    let client = |authority: &Authority, file: &str, name: &str| authority.client(folder.path(), file, name);
    for (what, reply, status, words) in [
        ("nothing", forge(&world, None), 403, NO_CERTIFICATE),
        ("another name", forge(&world, Some(&client(&ours, "kubelet", "system:node:node-1"))), 403, OTHER_NAME),
        ("another authority", forge(&world, Some(&client(&other, "other", NAME))), 0, ""),
    ] {
        assert_eq!((reply.status, reply.body.as_str()), (status, words), "{what}");
    }
    for path in ["/v1/rules/production/beside", "/v1/rules/production/conditions", "/v1/approvals", "/v1/loosen"] {
        assert_eq!(curl(&world, path, &["-X", "POST"], b"").status, 403, "{path}");
    }
    proxies(&world);
    // What was forged names a namespace that is not there.
    assert!(!world.tagout.log().contains("nowhere"), "{}", world.tagout.log());
    assert!(
        world.metrics().contains("tagout_calls_failed_total{reason=\"unauthenticated\"} 6\n"),
        "{}",
        world.metrics()
    );
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(curl(&world, probe, &[], b"").body, "ok\n", "{probe}");
    }

    // Both authorities, as in a rotation.
    is_a_denial(&forge(&world, Some(&client(&ours, "ours", NAME))));
    let next_client = client(&next, "next", NAME);
    assert_eq!(forge(&world, Some(&next_client)).status, 0);
    let patch = json!({"stringData": {"ca.crt": format!("{}{}", ours.pem, next.pem)}}).to_string();
    world.kubectl(User::Admin, &["patch", "secret", "apiserver-ca", "-n", NAMESPACE, "-p", &patch]).succeeds();
    world.tagout.remount().expect("the Secret is written");
    eventually("the next authority is known", || forge(&world, Some(&next_client)).status == 200);
    is_a_denial(&forge(&world, Some(&client(&ours, "ours", NAME))));
    world.end();
}

/// The API server passes on what others post: to Services and pods without a certificate, and to what calls itself a
/// node with the one it has for kubelets.
fn proxies(world: &World) {
    let Some(listen) = proxied_address() else {
        eprintln!(
            "proxies were not tried: the API server passes nothing on to 127.0.0.1, and here is no other address"
        );
        return;
    };
    let mut replica = world.tagout.replica_on("proxied", listen).expect("it starts");
    eventually("the replica listens", || std::net::TcpStream::connect(listen).is_ok());

    let ip = listen.ip().to_string();
    // A pod that no node runs, so that nobody else writes its status.
    let metadata = json!({"name": "direct", "namespace": NAMESPACE});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "example.com/main:1"}]},
    });
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 443}]}});
    let target = json!({"kind": "Pod", "namespace": NAMESPACE, "name": "direct"});
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": [{"addresses": [{"ip": ip, "targetRef": target}], "ports": [{"port": listen.port()}]}],
    });
    for manifest in [pod, service, endpoints] {
        world.apply(User::Agent, &manifest).succeeds();
    }
    let running = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    let node = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": ip}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": listen.port()}},
    }});
    let status = |what: &str, patch: &serde_json::Value| {
        let patch = patch.to_string();
        let args = ["patch", what, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", &patch];
        world.kubectl(User::Agent, &args).succeeds();
    };
    status("pod/direct", &running);
    status("node/node-3", &node);

    let post = |proxy: &str| {
        let path = format!("/api/v1/{proxy}/proxy{RULE}");
        world.kubectl_with(User::Agent, &["create", "--raw", &path, "-f", "-"], &review().to_string())
    };
    post(&format!("namespaces/{NAMESPACE}/services/https:direct:443")).is_refused(&[NO_CERTIFICATE]);
    post(&format!("namespaces/{NAMESPACE}/pods/https:direct:{}", listen.port())).is_refused(&[NO_CERTIFICATE]);
    post(&format!("nodes/https:node-3:{}", listen.port())).is_refused(&[OTHER_NAME]);
    let _ = replica.kill();
    let _ = replica.wait();
}

/// A free port on an address of this machine that is not its own loopback.
fn proxied_address() -> Option<SocketAddr> {
    let tree = fs::read_to_string("/proc/net/fib_trie").ok()?;
    let lines: Vec<&str> = tree.lines().map(str::trim).collect();
    let mut local =
        lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL").map(|pair| pair[0].trim_start_matches("|-- "));
    let ip = local.find(|ip| !ip.starts_with("127."))?;
    TcpListener::bind(format!("{ip}:0")).ok()?.local_addr().ok()
}

fn serve(folder: &TempDir, args: &[&str]) -> Outcome {
    let mut command = Command::new(binary());
    command.args(["serve", "--namespace", NAMESPACE]).args(args).current_dir(folder.path());
    // What it would find there, if it came so far.
    Outcome::of(command.env("KUBECONFIG", folder.path().join("none")), "")
}

#[test]
fn without_an_authority_to_read_nothing_starts_and_the_option_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    serve(&folder, &["--client-ca=ca.crt"]).is_refused(&["--client-ca=ca.crt cannot be used", "No such file"]);
    fs::write(folder.path().join("ca.crt"), "").expect("it is written");
    serve(&folder, &["--client-ca=ca.crt"]).is_refused(&["--client-ca=ca.crt cannot be used", "no certificate in it"]);
    fs::write(folder.path().join("ca.crt"), Authority::new().pem).expect("it is written");
    serve(&folder, &["--client-ca=ca.crt"]).is_refused(&["no API server is configured"]);
    serve(&folder, &["--client-name=apiserver"]).is_refused(&["--client-ca <FILE>"]);
    serve(&folder, &["--client-ca=ca.crt", "--client-name="]).is_refused(&["a value is required"]);
}
