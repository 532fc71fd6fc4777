//! Somebody who is notified: a real HTTPS server, that does what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// What it does with the notification of this type.
type Habit = fn(&str) -> Does;

#[derive(Clone, Copy)]
pub enum Does {
    Answer(u16),
    /// Reads it, and says nothing for a minute.
    Hang,
    /// Sends whoever asks somewhere else.
    Redirect,
}

#[derive(Debug, Clone)]
pub struct Received {
    pub at: Instant,
    pub path: String,
    pub headers: Vec<String>,
    pub text: String,
    pub body: Value,
    pub taken: bool,
}

pub struct Receiver {
    pub address: SocketAddr,
    habit: Arc<Mutex<Habit>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Its authority is written into this file.
    pub fn start(authority: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let tls = tls(authority);
        let habit: Arc<Mutex<Habit>> = Arc::new(Mutex::new(|_| Does::Answer(202)));
        let received = Arc::default();
        let (habits, all) = (Arc::clone(&habit), Arc::clone(&received));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, habits, all) = (Arc::clone(&tls), Arc::clone(&habits), Arc::clone(&all));
                thread::spawn(move || serve(stream, tls, &habits, &all));
            }
        });
        Self { address, habit, received }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub fn does(&self, habit: Habit) {
        *self.habit.lock().unwrap() = habit;
    }

    /// What it was sent, taken or not.
    pub fn sent(&self, what: &str) -> Vec<Received> {
        let all = self.received.lock().unwrap();
        all.iter().filter(|one| kind(&one.body) == what).cloned().collect()
    }

    /// What it took.
    pub fn took(&self, what: &str) -> Vec<Value> {
        self.sent(what).into_iter().filter(|one| one.taken).map(|one| one.body).collect()
    }
}

fn tls(authority: &Path) -> Arc<ServerConfig> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).expect("an authority");
    std::fs::write(authority, root.pem()).expect("it is written");
    let issuer = Issuer::from_ca_cert_pem(&root.pem(), &key).expect("an authority");
    let own = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&own, &issuer).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate");
    Arc::new(config)
}

/// `dev.tagout.denied.v1`, or of Slack's the text.
fn kind(body: &Value) -> String {
    let named = body["type"].as_str().and_then(|named| named.strip_prefix("dev.tagout.")?.strip_suffix(".v1"));
    named.unwrap_or(if body.get("blocks").is_some() { "slack" } else { "" }).to_owned()
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, habit: &Mutex<Habit>, all: &Mutex<Vec<Received>>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut stream = StreamOwned::new(ServerConnection::new(tls).ok()?, stream);
    let mut reader = BufReader::new(&mut stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let text = String::from_utf8(body).expect("a body is text");
    let body: Value = serde_json::from_str(&text).expect("a body is JSON");
    let does = (habit.lock().unwrap())(&kind(&body));
    let path = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let taken = matches!(does, Does::Answer(200..300));
    all.lock().unwrap().push(Received { at: Instant::now(), path, headers: head, text, body, taken });
    let answer = match does {
        Does::Answer(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        Does::Redirect => "HTTP/1.1 307 X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned(),
        Does::Hang => {
            thread::sleep(Duration::from_mins(1));
            return None;
        }
    };
    stream.write_all(answer.as_bytes()).ok()?;
    stream.flush().ok()
}
