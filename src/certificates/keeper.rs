use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use kube::Client;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tracing::{info, warn};

use super::authority::Authority;
use super::leaf::{Good, Leaf, Names};
use super::lives::Lives;
use super::provided::{self, TRUSTED};
use super::secrets::{Read, Secrets};
use super::standing::{Bundles, Memory};
use super::stored::{Served, Step, Stored, View};

/// The certificate that new connections are served with.
#[derive(Debug, Default)]
pub struct Serving(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Who makes the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// Tagout makes and renews them
    Own,
    /// Somebody else keeps tls.crt, tls.key and ca.crt in the Secret, like cert-manager
    Provided,
}

/// When what is served, and the authority that signed it, run out: seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub serving: i64,
    pub authority: i64,
}

/// Keeps the Secret, the served certificate and the authorities that entries name in step.
pub struct Keeper {
    source: Source,
    secrets: Secrets,
    secret: String,
    names: Names,
    lives: Lives,
    serving: Arc<Serving>,
    authority: watch::Sender<Option<Vec<u8>>>,
    expiry: watch::Sender<Option<Expiry>>,
    entries: watch::Receiver<Bundles>,
    memory: Memory,
    known: Option<Stored>,
    served: Option<Served>,
}

/// A connection that hangs must not keep certificates from being renewed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Another replica was first, or entries have changed.
const SOON: Duration = Duration::from_millis(100);

impl Keeper {
    /// `entries` says which authorities the entries in force name.
    pub fn new(
        client: Client,
        namespace: &str,
        secret: &str,
        names: Names,
        (source, lives): (Source, Lives),
        entries: watch::Receiver<Bundles>,
    ) -> Self {
        Self {
            source,
            secrets: Secrets::new(client, namespace),
            secret: secret.to_owned(),
            names,
            lives,
            serving: Arc::default(),
            authority: watch::Sender::new(None),
            expiry: watch::Sender::new(None),
            entries,
            memory: Memory::default(),
            known: None,
            served: None,
        }
    }

    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving)
    }

    /// The authorities' certificates as PEM, for entries; nothing until there is one.
    pub fn authority(&self) -> watch::Receiver<Option<Vec<u8>>> {
        self.authority.subscribe()
    }

    pub fn expiry(&self) -> watch::Receiver<Option<Expiry>> {
        self.expiry.subscribe()
    }

    pub async fn run(mut self) {
        loop {
            let looked = tokio::time::timeout(PATIENCE, self.look()).await;
            let settled = looked.unwrap_or_else(|_| Err(anyhow::anyhow!("the API server does not answer")));
            let settled = settled.unwrap_or_else(|error| {
                let error = format!("{error:#}");
                warn!(secret = self.secret, error, "certificates cannot be kept; trying again");
                // What is served may meanwhile have run out; then the process must not call itself ready.
                if !self.served.as_ref().is_some_and(|served| self.is_good(served, UnixTime::now())) {
                    self.authority.send_replace(None);
                }
                true
            });
            tokio::time::sleep(SOON).await;
            if settled {
                tokio::select! {
                    () = tokio::time::sleep(self.lives.interval()) => {}
                    Ok(()) = self.entries.changed() => {}
                }
            }
        }
    }

    /// False where there is something left to be done at once.
    async fn look(&mut self) -> anyhow::Result<bool> {
        let entries = self.entries.borrow_and_update().clone();
        self.memory.hear(&entries, Instant::now());
        let read = self.secrets.read(&self.secret).await?;
        match self.source {
            Source::Own => self.keep_own(read).await,
            Source::Provided => self.keep_provided(read).await,
        }
    }

    async fn keep_own(&mut self, Read { secret, now }: Read) -> anyhow::Result<bool> {
        let data = secret.as_ref().and_then(|secret| secret.data.clone()).unwrap_or_default();
        let found = Stored::read(&data);
        let at = Instant::now();
        let view = View {
            names: &self.names,
            lives: self.lives,
            now,
            known: self.known.as_ref(),
            served: self.served.as_ref(),
            stood: self.memory.stood(&found.authorities, at).unwrap_or_default(),
            unchanged: self.memory.unchanged(&found.authorities, at),
        };
        let (stored, why) = match found.step(&data, &view)? {
            Step::Stand => return self.publish_own(found, now).map(|()| true),
            Step::Write(stored, why) => (*stored, why),
        };
        info!(secret = self.secret, why, "certificates are written");
        match self.secrets.write(&self.secret, secret, stored.data()).await {
            Ok(true) => self.publish_own(stored, now).map(|()| true),
            Ok(false) => Ok(false),
            Err(error) => {
                // It will do as it is, for now.
                if found.good(&self.names, now).is_ok() {
                    self.publish_own(found, now)?;
                }
                Err(error.into())
            }
        }
    }

    fn publish_own(&mut self, stored: Stored, now: UnixTime) -> anyhow::Result<()> {
        let good = stored.good(&self.names, now)?;
        self.publish(&stored.authorities);
        if let Some(leaf) = &stored.leaf {
            self.serve(leaf, good, &stored.authorities, now);
        }
        self.known = Some(stored);
        Ok(())
    }

    async fn keep_provided(&mut self, Read { secret, now }: Read) -> anyhow::Result<bool> {
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let (leaf, provided) = provided::read(&data)?;
        let good = leaf.good(&provided, &self.names, now)?;

        let kept = self.secrets.read(TRUSTED).await?.secret;
        let data = kept.as_ref().and_then(|secret| secret.data.clone()).unwrap_or_default();
        let trusted = provided::trusted(&data);
        let unchanged = self.memory.unchanged(&trusted, Instant::now());
        let served = self.served.as_ref().filter(|served| self.is_good(served, now)).map(|served| &served.signer);
        let wanted = provided::wanted(&trusted, &provided, served, unchanged, self.lives.drop_authority());
        if provided::data(&wanted) != data {
            info!(secret = TRUSTED, authorities = wanted.len(), "the authorities that are trusted are written");
            if !self.secrets.write(TRUSTED, kept, provided::data(&wanted)).await? {
                return Ok(false);
            }
        }
        self.publish(&wanted);
        self.serve(&leaf, good, &wanted, now);
        Ok(true)
    }

    fn publish(&self, authorities: &[Authority]) {
        let pem = Authority::pem(authorities).into_bytes();
        self.authority.send_if_modified(|before| {
            let news = before.as_ref() != Some(&pem);
            *before = Some(pem);
            news
        });
    }

    /// Trusted first, then served: as long as what is served now will do, an authority has to have been in every entry
    /// for a while.
    fn serve(&mut self, leaf: &Leaf, good: Good, trusted: &[Authority], now: UnixTime) {
        let waits = self.served.as_ref().is_some_and(|served| {
            let stood = self.memory.stood(std::slice::from_ref(&good.signer), Instant::now());
            served.signer != good.signer
                && trusted.contains(&served.signer)
                && self.is_good(served, now)
                && stood.is_none_or(|stood| stood < self.lives.overlap)
        });
        if waits {
            return;
        }
        if self.served.as_ref().is_none_or(|served| served.leaf != *leaf) {
            info!(secret = self.secret, "new connections are served with another certificate");
            self.serving.0.store(Some(Arc::new(good.certified)));
        }
        let authority = good.signer.ends();
        self.expiry.send_replace(Some(Expiry { serving: good.ends.min(authority), authority }));
        self.served = Some(Served { leaf: leaf.clone(), signer: good.signer });
    }

    fn is_good(&self, served: &Served, now: UnixTime) -> bool {
        served.leaf.good(std::slice::from_ref(&served.signer), &self.names, now).is_ok()
    }
}
