//! Traces of reviews by the real API server, as a collector gets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use controlplane::{ControlPlane, Options, User};
use serde_json::Value;

use crate::docs::Page;
use crate::world::{APPROVERS, World, binary, eventually, text};

/// Takes what is posted to it, by HTTP.
struct Collector {
    address: SocketAddr,
    taken: Arc<Taken>,
}

/// Of each request its first line and its body.
type Taken = Mutex<Vec<(String, Vec<u8>)>>;

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let taken = Arc::<Taken>::default();
        let all = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                thread::spawn(move || while take(&stream, &all).is_some() {});
            }
        });
        Self { address, taken }
    }

    /// Whether this stands in anything that was sent. Text is in protobuf as it is.
    fn has(&self, text: &str) -> bool {
        let taken = self.taken.lock().unwrap();
        taken.iter().any(|(_, body)| body.windows(text.len()).any(|part| part == text.as_bytes()))
    }
}

fn take(stream: &TcpStream, all: &Taken) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    all.lock().unwrap().push((head.swap_remove(0), body));
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").ok()
}

#[test]
fn a_collector_gets_the_spans_of_a_review_and_no_name_of_an_object_or_a_user() {
    let program = binary().with_file_name("tagout-with-traces");
    if !program.exists() {
        let demanded = std::env::var("TAGOUT_E2E").is_ok_and(|said| said == "required");
        assert!(!demanded, "there is no {}", program.display());
        eprintln!("skipped: there is no {}, which tests/run makes", program.display());
        return;
    }
    let collector = Collector::start();
    let cp = Box::leak(Box::new(ControlPlane::start(&Options::default()).expect("a control plane")));
    let mut page = Page::open("docs/traces.md", cp);
    page.leave("docker build", "there is no container engine here; tests/run builds the program with the feature");
    page.ends();
    let place = format!("extraEnv[0].value=http://{}", collector.address);
    let values = [APPROVERS[0], "extraEnv[0].name=OTEL_EXPORTER_OTLP_ENDPOINT", &place];
    let world = World::running(cp, &program, &values);
    let namespace = world.production();
    namespace.deployment("never-told");
    namespace.kubectl(User::Agent, &["delete", "deployment", "never-told"]).is_refused(&["denied Delete of"]);
    namespace.approve(User::Alice, "deployment/never-told");
    namespace.kubectl(User::Agent, &["delete", "deployment", "never-told"]).succeeds();
    for told in ["review", "facts", "radius", "Delete", "deny", "allow"] {
        eventually(&format!("{told} is told"), || collector.has(told));
    }
    let rules = world.get(&["protectionrules"]);
    let named = |rule: &Value| collector.has(&text(&rule["metadata"]["name"]));
    assert!(rules["items"].as_array().into_iter().flatten().any(named), "no rule is told");
    for never in ["never-told", namespace.name.as_str(), User::Agent.name(), User::Alice.name()] {
        assert!(!collector.has(never), "{never} is told");
    }
    let taken = collector.taken.lock().unwrap();
    assert!(taken.iter().all(|(request, _)| request.starts_with("POST /v1/traces ")), "{:?}", taken[0].0);
    drop(taken);
    world.end();
}
