//! A server that takes a review as Tagout does and always says the same: what answering costs where nothing is decided.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use controlplane::ControlPlane;
use http_body_util::BodyExt;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::load::{Peer, Process};

/// Its process, which ends with the control plane.
pub struct Constant {
    pub address: SocketAddr,
    /// In PEM.
    pub authority: String,
    child: Child,
}

pub const NAME: &str = "localhost";
const CERTIFICATE: &str = "constant.crt";
const KEY: &str = "constant.key";

impl Constant {
    pub fn start(cp: &ControlPlane) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned(), "127.0.0.1".to_owned()])?;
        fs::write(cp.dir().join(CERTIFICATE), made.cert.pem())?;
        fs::write(cp.dir().join(KEY), made.signing_key.serialize_pem())?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("constant").arg(address.to_string()).arg(cp.dir());
        let child = cp.spawn("constant", command)?;
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(began.elapsed() < Duration::from_secs(20), "the constant server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { address, authority: made.cert.pem(), child })
    }

    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    pub fn peer(&self) -> Result<Peer> {
        Peer::new(self.address, NAME, self.authority.as_bytes())
    }
}

/// What the process does.
pub async fn serve(address: SocketAddr, folder: &Path) -> Result<()> {
    let file = |name: &str| -> PathBuf { folder.join(name) };
    let certificate = CertificateDer::from_pem_file(file(CERTIFICATE))?;
    let key = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::from_pem_file(file(KEY))?)?;
    let certified = Always(Arc::new(CertifiedKey::new(vec![certificate], key)));
    let tls = tagout::serve::connections::tls(Arc::new(certified), None)?;
    let router = Router::new()
        .route("/allow", post(async |body: Body| say(body, true).await))
        .route("/refuse", post(async |body: Body| say(body, false).await));
    let listener = tokio::net::TcpListener::bind(address).await?;
    tagout::serve::connections::serve(listener, Some(tls), router, std::future::pending()).await;
    Ok(())
}

async fn say(body: Body, allowed: bool) -> Response {
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match answer(&body, allowed) {
        Some(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// The UID of the request stands near the beginning; without it the API server takes no answer.
fn answer(body: &Bytes, allowed: bool) -> Option<String> {
    let beginning = String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned();
    let (_, uid) = beginning.split_once("\"uid\":\"")?;
    let (uid, _) = uid.split_once('"')?;
    // About as long as what Tagout says.
    let status = if allowed {
        String::new()
    } else {
        format!(r#","status":{{"code":403,"reason":"Forbidden","message":"{}"}}"#, "no ".repeat(150))
    };
    Some(format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{uid}","allowed":{allowed}{status}}}}}"#
    ))
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
