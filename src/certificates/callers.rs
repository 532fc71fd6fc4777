use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use thiserror::Error;
use tracing::{info, warn};
use x509_parser::extensions::GeneralName;

/// Who may call: whoever shows a certificate by an authority in a file and, where names are given, of one of them.
///
/// To TLS it is the verifier of clients: who shows no certificate is let in all the same, as probes have none; who shows
/// one of another authority is not.
#[derive(Debug)]
pub struct Callers {
    file: PathBuf,
    names: Vec<String>,
    authorities: ArcSwap<Authorities>,
}

#[derive(Debug)]
struct Authorities {
    pem: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why somebody is none of the callers.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Stranger {
    #[error("no client certificate was shown")]
    NoCertificate,
    #[error("the client certificate is not good any more")]
    NotGood,
    #[error("the client certificate has none of the names of --client-name")]
    OtherName,
}

/// A file that was exchanged is noticed within this time.
const INTERVAL: Duration = Duration::from_secs(10);

impl Callers {
    /// Fails where the file holds no authority: then nobody could call, or, without this, everybody.
    pub fn read(file: PathBuf, names: Vec<String>) -> anyhow::Result<Self> {
        let authorities = Authorities::read(&file).with_context(|| {
            let file = file.display();
            format!("--client-ca={file} cannot be used; name a file with the certificates of authorities, as PEM")
        })?;
        Ok(Self { file, names, authorities: ArcSwap::from_pointee(authorities) })
    }

    /// Those of authorities that stand in no file, and so never change.
    pub fn of(pem: Vec<u8>, names: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self { file: PathBuf::new(), names, authorities: ArcSwap::from_pointee(Authorities::of(pem)?) })
    }

    /// Asked of every call, not of every connection alone: one is kept for long, and what it has shown may run out, or
    /// its authority be exchanged.
    pub fn check(&self, shown: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Stranger> {
        let (first, others) = shown.split_first().ok_or(Stranger::NoCertificate)?;
        self.verify_client_cert(first, others, now).map_err(|_| Stranger::NotGood)?;
        if self.names.is_empty() || names_of(first).iter().any(|name| self.names.contains(name)) {
            return Ok(());
        }
        Err(Stranger::OtherName)
    }

    /// Reads the file again whenever it has changed. What cannot be used leaves the last good one.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.look() {
                Ok(false) => {}
                Ok(true) => info!(file = %self.file.display(), "the authorities of --client-ca were exchanged"),
                Err(error) => {
                    let file = self.file.display();
                    warn!(%file, error = format!("{error:#}"), "--client-ca cannot be used; the last good one stays");
                }
            }
        }
    }

    /// Whether there are other authorities now.
    fn look(&self) -> anyhow::Result<bool> {
        let found = Authorities::read(&self.file)?;
        let changed = found.pem != self.authorities.load().pem;
        if changed {
            self.authorities.store(Arc::new(found));
        }
        Ok(changed)
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.authorities.load().verifier)
    }
}

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client that is told which authorities are known keeps a certificate of another to itself, and nobody
    /// learns that it is the wrong one.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

impl Authorities {
    fn read(file: &Path) -> anyhow::Result<Self> {
        Self::of(std::fs::read(file)?)
    }

    fn of(pem: Vec<u8>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.context("it is not PEM")?).context("a certificate in it cannot be read")?;
        }
        ensure!(!roots.is_empty(), "there is no certificate in it");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated().build()?;
        Ok(Self { pem, verifier })
    }
}

/// The subject's common name and the DNS names beside it. Of several common names none counts: programs differ in which
/// of them is meant, so an authority may have looked at another one.
fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let mut common = parsed.subject().iter_common_name();
    let mut names = Vec::new();
    if let (Some(name), None) = (common.next(), common.next()) {
        names.extend(name.as_str().ok().map(str::to_owned));
    }
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }));
    }
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    };
    use tempfile::TempDir;

    use super::*;

    struct Authority {
        pem: String,
        key: KeyPair,
    }

    impl Authority {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            Self { pem: params.self_signed(&key).unwrap().pem(), key }
        }

        fn signs(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "apiserver");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.not_after = (std::time::SystemTime::now() + Duration::from_hours(1)).into();
            change(&mut params);
            let issuer = Issuer::from_ca_cert_pem(&self.pem, &self.key).unwrap();
            params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
        }
    }

    fn callers(pem: &str, names: &[&str]) -> (Callers, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        fs::write(&file, pem).unwrap();
        (Callers::read(file, names.iter().map(|name| (*name).to_owned()).collect()).unwrap(), folder)
    }

    fn checked(callers: &Callers, certificate: CertificateDer<'_>) -> Result<(), Stranger> {
        callers.check(&[certificate], UnixTime::now())
    }

    #[test]
    fn whoever_shows_nothing_is_a_stranger() {
        let (callers, _folder) = callers(&Authority::new().pem, &[]);
        assert_eq!(callers.check(&[], UnixTime::now()), Err(Stranger::NoCertificate));
    }

    #[test]
    fn a_certificate_of_the_authority_will_do_and_one_of_another_will_not() {
        let (ours, other) = (Authority::new(), Authority::new());
        let (callers, _folder) = callers(&ours.pem, &[]);
        assert_eq!(checked(&callers, ours.signs(|_| ())), Ok(()));
        assert_eq!(checked(&callers, other.signs(|_| ())), Err(Stranger::NotGood));
    }

    #[test]
    fn each_authority_of_the_file_will_do() {
        let (old, new) = (Authority::new(), Authority::new());
        let (callers, _folder) = callers(&format!("{}{}", old.pem, new.pem), &[]);
        assert_eq!(checked(&callers, old.signs(|_| ())), Ok(()));
        assert_eq!(checked(&callers, new.signs(|_| ())), Ok(()));
    }

    #[test]
    fn a_certificate_for_servers_will_not_do() {
        let ours = Authority::new();
        let (callers, _folder) = callers(&ours.pem, &[]);
        let server = ours.signs(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
        assert_eq!(checked(&callers, server), Err(Stranger::NotGood));
    }

    #[test]
    fn a_certificate_will_not_do_after_its_time_on_an_old_connection_either() {
        let ours = Authority::new();
        let (callers, _folder) = callers(&ours.pem, &[]);
        let shown = [ours.signs(|_| ())];
        let later =
            UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + Duration::from_hours(2));
        assert_eq!(callers.check(&shown, UnixTime::now()), Ok(()));
        assert_eq!(callers.check(&shown, later), Err(Stranger::NotGood));
    }

    #[test]
    fn where_names_are_given_the_common_name_or_a_dns_name_is_one_of_them() {
        let ours = Authority::new();
        let (callers, _folder) = callers(&ours.pem, &["kube-apiserver", "apiserver"]);
        assert_eq!(checked(&callers, ours.signs(|_| ())), Ok(()));
        let named =
            |params: &mut CertificateParams, name: &str| params.distinguished_name.push(DnType::CommonName, name);
        assert_eq!(checked(&callers, ours.signs(|params| named(params, "node-1"))), Err(Stranger::OtherName));
        assert_eq!(checked(&callers, ours.signs(|params| named(params, "apiserver2"))), Err(Stranger::OtherName));
        assert_eq!(checked(&callers, ours.signs(|params| named(params, ""))), Err(Stranger::OtherName));
        let dns = ours.signs(|params| {
            named(params, "node-1");
            params.subject_alt_names =
                CertificateParams::new(vec!["kube-apiserver".to_owned()]).unwrap().subject_alt_names;
        });
        assert_eq!(checked(&callers, dns), Ok(()));
    }

    #[test]
    fn of_several_common_names_none_counts() {
        let ours = Authority::new();
        let (callers, _folder) = callers(&ours.pem, &["apiserver"]);
        let second = DnType::CustomDnType(vec![2, 5, 4, 3]);
        let two = ours.signs(|params| params.distinguished_name.push(second, "node-1"));
        assert_eq!(checked(&callers, two), Err(Stranger::OtherName));
    }

    #[test]
    fn an_exchanged_file_counts_for_what_was_shown_before() {
        let (old, new) = (Authority::new(), Authority::new());
        let (callers, folder) = callers(&old.pem, &[]);
        let (shown, renewed) = (old.signs(|_| ()), new.signs(|_| ()));
        assert!(!callers.look().unwrap());
        fs::write(folder.path().join("ca.crt"), &new.pem).unwrap();
        assert!(callers.look().unwrap());
        assert_eq!(checked(&callers, shown), Err(Stranger::NotGood));
        assert_eq!(checked(&callers, renewed), Ok(()));
    }

    #[test]
    fn a_file_that_cannot_be_used_any_more_leaves_the_last_good_one() {
        let ours = Authority::new();
        let (callers, folder) = callers(&ours.pem, &[]);
        let file = folder.path().join("ca.crt");
        for junk in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            fs::write(&file, junk).unwrap();
            assert!(callers.look().is_err(), "{junk}");
            assert_eq!(checked(&callers, ours.signs(|_| ())), Ok(()));
        }
        fs::remove_file(&file).unwrap();
        assert!(callers.look().is_err());
        assert_eq!(checked(&callers, ours.signs(|_| ())), Ok(()));
    }

    #[test]
    fn a_file_without_an_authority_is_no_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        let key = KeyPair::generate().unwrap().serialize_pem();
        for (text, words) in [("", "there is no certificate in it"), (&key, "there is no certificate in it")] {
            fs::write(&file, text).unwrap();
            let said = format!("{:#}", Callers::read(file.clone(), Vec::new()).unwrap_err());
            assert!(said.contains("--client-ca=") && said.contains(words), "{said}");
        }
        assert!(Callers::read(folder.path().join("elsewhere"), Vec::new()).is_err());
    }
}
