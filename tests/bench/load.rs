//! Posts reviews as the API server does, over a connection that is kept, and looks at what a process uses meanwhile.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::body::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Whom reviews are posted to.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    name: String,
    tls: TlsConnector,
}

/// One connection, as the API server keeps it.
pub struct Connection {
    peer: Peer,
    sender: SendRequest<Full<Bytes>>,
}

/// A server that does not answer ends the run.
const PATIENCE: Duration = Duration::from_secs(30);

impl Peer {
    /// `authority` is in PEM.
    pub fn new(address: SocketAddr, name: &str, authority: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { address, name: name.to_owned(), tls: TlsConnector::from(Arc::new(config)) })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let stream = self.tls.connect(ServerName::try_from(self.name.clone())?, stream).await?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            anyhow::Ok(Connection { peer: self.clone(), sender })
        };
        timeout(PATIENCE, connecting).await.context("no connection in time")?
    }
}

impl Connection {
    /// Posts a review and returns the answer.
    pub async fn post(&mut self, path: &str, review: &Bytes) -> Result<Bytes> {
        let request = Request::post(path)
            .header(HOST, &self.peer.name)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(review.clone()))?;
        let (status, body) = self.send(request).await?;
        ensure!(status == 200, "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// Whether a probe says so.
    pub async fn says_ok(&mut self, path: &str) -> Result<bool> {
        let request = Request::get(path).header(HOST, &self.peer.name).body(Full::default())?;
        Ok(self.send(request).await?.0 == 200)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
        let asking = async {
            if self.sender.is_closed() {
                *self = self.peer.clone().connect().await?;
            }
            self.sender.ready().await?;
            let answer: Response<Incoming> = self.sender.send_request(request).await?;
            let status = answer.status().as_u16();
            anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        timeout(PATIENCE, asking).await.context("no answer in time")?
    }
}

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// The time that it had a CPU, threads that have ended included. To a hundredth of a second.
    pub fn cpu(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The name may hold anything, and ends with the last bracket.
        let fields: Vec<&str> = stat.rsplit_once(')').context("a name")?.1.split_whitespace().collect();
        let ticks: u64 =
            fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 1000 / ticks_a_second()?))
    }

    /// In MiB: `VmRSS` now, `VmHWM` at the most since it was started or since [`forget_peak`](Self::forget_peak).
    pub fn memory(self, which: &str) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'));
        let kib: f64 = line.context("no such line")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }

    pub fn forget_peak(self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.0), "5")?)
    }

    pub fn descriptors(self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.0))?.count())
    }

    /// The process whose command line begins with such a program and names this folder.
    pub fn find(program: &str, folder: &str) -> Result<Self> {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let first = line.split('\0').next().unwrap_or_default();
            if first.ends_with(program) && line.contains(folder) {
                return Ok(Self(pid));
            }
        }
        bail!("{program} does not run")
    }

    fn read(self, file: &str) -> Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).with_context(|| format!("process {} is gone", self.0))
    }
}

fn ticks_a_second() -> Result<u64> {
    let output = Command::new("getconf").arg("CLK_TCK").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
