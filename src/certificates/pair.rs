use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use thiserror::Error;

/// A certificate authority and a serving certificate signed by it, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    pub ca: String,
    ca_key: String,
    certificate: String,
    key: String,
}

/// Why a bundle cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Fault {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is not PEM of the right kind")]
    Unreadable(&'static str),
    #[error("the key does not belong to the certificate")]
    KeyMismatch,
    #[error("the certificate is not good: {0}")]
    NotGood(String),
    #[error("certificates cannot be made: {0}")]
    NotMade(String),
}

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Ninety days, renewed when a third is left: a renewal that fails has a month to be noticed.
const LIFE: Duration = Duration::from_hours(90 * 24);
pub(super) const RENEW_BEFORE: Duration = Duration::from_hours(30 * 24);
/// Ten years: replacing the authority touches every entry.
const CA_LIFE: Duration = Duration::from_hours(3650 * 24);

impl Bundle {
    /// A new authority and a certificate for these names.
    pub(super) fn make(names: &[String]) -> Result<Self, Fault> {
        let ca_key = KeyPair::generate().map_err(not_made)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(not_made)?;
        params.distinguished_name.push(DnType::CommonName, "tagout");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        lives(&mut params, CA_LIFE);
        let ca = params.self_signed(&ca_key).map_err(not_made)?.pem();
        let (certificate, key) = leaf(&ca, &ca_key, names)?;
        Ok(Self { ca, ca_key: ca_key.serialize_pem(), certificate, key })
    }

    /// The same authority with a new certificate.
    pub(super) fn renewed(&self, names: &[String]) -> Result<Self, Fault> {
        let ca_key = KeyPair::from_pem(&self.ca_key).map_err(|_| Fault::Unreadable(CA_KEY))?;
        let (certificate, key) = leaf(&self.ca, &ca_key, names)?;
        Ok(Self { certificate, key, ..self.clone() })
    }

    pub(super) fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, Fault> {
        let text = |name: &'static str| {
            let bytes = data.get(name).filter(|bytes| !bytes.0.is_empty()).ok_or(Fault::Missing(name))?;
            String::from_utf8(bytes.0.clone()).map_err(|_| Fault::Unreadable(name))
        };
        Ok(Self { ca: text(CA)?, ca_key: text(CA_KEY)?, certificate: text(CERTIFICATE)?, key: text(KEY)? })
    }

    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        [(CA, &self.ca), (CA_KEY, &self.ca_key), (CERTIFICATE, &self.certificate), (KEY, &self.key)]
            .into_iter()
            .map(|(name, text)| (name.to_owned(), ByteString(text.clone().into_bytes())))
            .collect()
    }

    /// The pair to serve with, if the API server will accept it at this moment: right key, signed by the authority,
    /// for the right name, in time.
    pub(super) fn usable(&self, name: &str, at: UnixTime) -> Result<CertifiedKey, Fault> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| Fault::Unreadable(CERTIFICATE))?;
        let first = chain.first().ok_or(Fault::Unreadable(CERTIFICATE))?.clone();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| Fault::Unreadable(KEY))?;
        let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| Fault::Unreadable(KEY))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| Fault::KeyMismatch)?;

        let ca = CertificateDer::from_pem_slice(self.ca.as_bytes()).map_err(|_| Fault::Unreadable(CA))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&ca).map_err(|_| Fault::Unreadable(CA))?;
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        if seconds < validity.not_before.timestamp() || seconds > validity.not_after.timestamp() {
            return Err(Fault::NotGood("its authority is not valid now".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(|_| Fault::Unreadable(CA))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Fault::NotGood(error.to_string()))?;
        let server = ServerName::try_from(name.to_owned()).map_err(|error| Fault::NotGood(error.to_string()))?;
        verifier
            .verify_server_cert(&first, &certified.cert[1..], &server, &[], at)
            .map_err(|error| Fault::NotGood(error.to_string()))?;
        Ok(certified)
    }
}

fn leaf(ca: &str, ca_key: &KeyPair, names: &[String]) -> Result<(String, String), Fault> {
    let issuer = Issuer::from_ca_cert_pem(ca, ca_key).map_err(|_| Fault::Unreadable(CA))?;
    let key = KeyPair::generate().map_err(not_made)?;
    let mut params = CertificateParams::new(names).map_err(not_made)?;
    params.distinguished_name.push(DnType::CommonName, "tagout webhook");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    lives(&mut params, LIFE);
    let certificate = params.signed_by(&key, &issuer).map_err(not_made)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Valid from an hour ago: API servers' clocks may be behind.
fn lives(params: &mut CertificateParams, life: Duration) {
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_hours(1)).into();
    params.not_after = (now + life).into();
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` passes by value")]
fn not_made(error: rcgen::Error) -> Fault {
    Fault::NotMade(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "tagout.tagout-system.svc";

    fn made() -> Bundle {
        Bundle::make(&[NAME.to_owned()]).unwrap()
    }

    fn in_days(days: u64) -> UnixTime {
        UnixTime::since_unix_epoch(
            UnixTime::now().as_secs().checked_add(days * 86_400).map(Duration::from_secs).unwrap(),
        )
    }

    #[test]
    fn what_is_made_is_usable_and_survives_the_secret() {
        let bundle = made();
        assert!(bundle.usable(NAME, UnixTime::now()).is_ok());
        assert!(Bundle::read(&bundle.data()).unwrap() == bundle);
    }

    #[test]
    fn a_certificate_is_not_usable_after_its_time() {
        assert!(matches!(made().usable(NAME, in_days(91)), Err(Fault::NotGood(_))));
    }

    #[test]
    fn a_certificate_for_another_name_is_not_usable() {
        assert!(matches!(made().usable("tagout.elsewhere.svc", UnixTime::now()), Err(Fault::NotGood(_))));
    }

    #[test]
    fn the_key_of_another_certificate_is_not_usable() {
        let bundle = Bundle { key: made().key, ..made() };
        assert_eq!(bundle.usable(NAME, UnixTime::now()).err(), Some(Fault::KeyMismatch));
    }

    #[test]
    fn a_certificate_of_another_authority_is_not_usable() {
        let bundle = Bundle { ca: made().ca, ..made() };
        assert!(matches!(bundle.usable(NAME, UnixTime::now()), Err(Fault::NotGood(_))));
    }

    #[test]
    fn a_renewed_certificate_keeps_its_authority() {
        let bundle = made();
        let renewed = bundle.renewed(&[NAME.to_owned()]).unwrap();
        assert!(renewed.ca == bundle.ca && renewed.certificate != bundle.certificate);
        assert!(renewed.usable(NAME, UnixTime::now()).is_ok());
    }

    #[test]
    fn damaged_pem_is_an_error_and_no_panic() {
        let good = made();
        for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\0\0"] {
            let broken = broken.to_owned();
            assert!(Bundle { ca: broken.clone(), ..good.clone() }.usable(NAME, UnixTime::now()).is_err());
            assert!(Bundle { certificate: broken.clone(), ..good.clone() }.usable(NAME, UnixTime::now()).is_err());
            assert!(Bundle { key: broken.clone(), ..good.clone() }.usable(NAME, UnixTime::now()).is_err());
            assert!(Bundle { ca_key: broken, ..good.clone() }.renewed(&[NAME.to_owned()]).is_err());
        }
    }
}
