use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tracing::{info, warn};

use super::pair::{Bundle, Fault, RENEW_BEFORE};

/// The names under which the API server calls.
#[derive(Debug, Clone)]
pub struct Names(Vec<String>);

impl Names {
    pub fn of_service(service: &str, namespace: &str) -> Self {
        let short = format!("{service}.{namespace}.svc");
        Self(vec![short.clone(), format!("{short}.cluster.local"), format!("{service}.{namespace}")])
    }

    fn first(&self) -> &str {
        &self.0[0]
    }
}

/// The certificate that new connections are served with.
#[derive(Debug, Default)]
pub struct Serving(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Keeps the Secret, the served certificate and the authority that entries name the same.
pub struct Keeper {
    secrets: Api<Secret>,
    secret: String,
    names: Names,
    serving: Arc<Serving>,
    authority: watch::Sender<Option<Vec<u8>>>,
    last_good: Option<Bundle>,
}

/// A Secret that was replaced, damaged or deleted is noticed within this time.
const INTERVAL: Duration = Duration::from_secs(5);
/// A connection that hangs must not keep certificates from being renewed.
const PATIENCE: Duration = Duration::from_secs(20);

impl Keeper {
    pub fn new(client: Client, namespace: &str, secret: &str, names: Names) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            secret: secret.to_owned(),
            names,
            serving: Arc::default(),
            authority: watch::Sender::new(None),
            last_good: None,
        }
    }

    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving)
    }

    /// The authority's certificate as PEM, for entries; nothing until there is one.
    pub fn authority(&self) -> watch::Receiver<Option<Vec<u8>>> {
        self.authority.subscribe()
    }

    pub async fn run(mut self) {
        loop {
            let looked = tokio::time::timeout(PATIENCE, self.look()).await;
            if let Err(error) = looked.unwrap_or_else(|_| Err(anyhow::anyhow!("the API server does not answer"))) {
                warn!(secret = self.secret, error = %error, "certificates cannot be kept; trying again");
                // What is served may meanwhile have run out; then the process must not call itself ready.
                if let Some(bundle) = &self.last_good
                    && bundle.usable(self.names.first(), UnixTime::now()).is_err()
                {
                    self.authority.send_replace(None);
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let found = self.secrets.get_opt(&self.secret).await?;
        let soon = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + RENEW_BEFORE);
        let bundle = found
            .as_ref()
            .map_or(Err(Fault::Missing("the Secret")), |secret| Bundle::read(&secret.data.clone().unwrap_or_default()));
        match bundle.and_then(|bundle| Ok((bundle.usable(self.names.first(), UnixTime::now())?, bundle))) {
            Ok((certified, bundle)) => {
                self.publish(certified, bundle.clone());
                if bundle.usable(self.names.first(), soon).is_err() {
                    self.renew(found, &bundle, soon).await?;
                }
            }
            Err(fault) => self.replace(found, &fault).await?,
        }
        Ok(())
    }

    /// Writes a certificate with more time left, to be read the next time: perhaps another replica was first.
    async fn renew(&self, found: Option<Secret>, bundle: &Bundle, soon: UnixTime) -> anyhow::Result<()> {
        let good = |bundle: &Bundle| bundle.usable(self.names.first(), soon).is_ok();
        let renewed = match bundle.renewed(&self.names.0).ok().filter(good) {
            Some(renewed) => renewed,
            // The authority itself runs out, or its key is damaged.
            None => Bundle::make(&self.names.0)?,
        };
        info!(secret = self.secret, "the certificate is renewed before it runs out");
        self.write(found, &renewed).await?;
        Ok(())
    }

    /// Puts back what was good until now, or what the same authority can sign, or makes everything anew.
    async fn replace(&mut self, found: Option<Secret>, fault: &Fault) -> anyhow::Result<()> {
        let good = |bundle: &Bundle| bundle.usable(self.names.first(), UnixTime::now()).is_ok();
        let data = found.as_ref().and_then(|secret| secret.data.as_ref());
        let signed_anew = || Bundle::read(data?).ok()?.renewed(&self.names.0).ok();
        let bundle = match self.last_good.clone().filter(good).or_else(|| signed_anew().filter(good)) {
            Some(bundle) => bundle,
            None => Bundle::make(&self.names.0)?,
        };
        info!(secret = self.secret, %fault, "certificates are written");
        if self.write(found, &bundle).await? {
            let certified = bundle.usable(self.names.first(), UnixTime::now())?;
            self.publish(certified, bundle);
        }
        Ok(())
    }

    /// False where another replica wrote first.
    async fn write(&self, found: Option<Secret>, bundle: &Bundle) -> anyhow::Result<bool> {
        let written = if let Some(mut secret) = found {
            secret.data = Some(bundle.data());
            self.secrets.replace(&self.secret, &PostParams::default(), &secret).await
        } else {
            let metadata = ObjectMeta { name: Some(self.secret.clone()), ..ObjectMeta::default() };
            let secret = Secret { metadata, data: Some(bundle.data()), ..Secret::default() };
            self.secrets.create(&PostParams::default(), &secret).await
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn publish(&mut self, certified: CertifiedKey, bundle: Bundle) {
        if self.last_good.as_ref() == Some(&bundle) && self.authority.borrow().is_some() {
            return;
        }
        self.serving.0.store(Some(Arc::new(certified)));
        self.authority.send_replace(Some(bundle.ca.clone().into_bytes()));
        self.last_good = Some(bundle);
    }
}
