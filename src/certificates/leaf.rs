use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use thiserror::Error;

use super::authority::Authority;

/// The names under which the API server calls.
#[derive(Debug, Clone)]
pub struct Names(Vec<String>);

impl Names {
    pub fn of_service(service: &str, namespace: &str) -> Self {
        let short = format!("{service}.{namespace}.svc");
        Self(vec![short.clone(), format!("{short}.cluster.local"), format!("{service}.{namespace}")])
    }
}

/// A certificate to serve with, those between it and its authority, and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// A leaf that the API server accepts.
pub struct Good {
    pub(super) certified: CertifiedKey,
    /// The authority because of which it does.
    pub signer: Authority,
    /// The last second of it.
    pub(super) ends: i64,
}

/// Why what was found cannot be used.
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

pub(super) const CA: &str = "ca.crt";
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";

/// The last second of the year 9999, after which no certificate can end.
const LAST: u64 = 253_402_300_799;

impl Leaf {
    /// A new one by this authority, whose key this is.
    pub(super) fn by(
        authority: &Authority,
        key: &KeyPair,
        names: &Names,
        now: UnixTime,
        life: Duration,
    ) -> Result<Self, Fault> {
        let issuer = Issuer::from_ca_cert_der(&authority.0, key).map_err(|_| Fault::Unreadable(CA))?;
        let key = KeyPair::generate().map_err(not_made)?;
        let mut params = CertificateParams::new(names.0.as_slice()).map_err(not_made)?;
        params.distinguished_name.push(DnType::CommonName, "tagout webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        lives(&mut params, now, life)?;
        let certificate = params.signed_by(&key, &issuer).map_err(not_made)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Whether the API server will accept it at this moment, knowing one of these authorities: right key, right name, in
    /// time.
    pub fn good(&self, authorities: &[Authority], names: &Names, at: UnixTime) -> Result<Good, Fault> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| Fault::Unreadable(CERTIFICATE))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| Fault::Unreadable(KEY))?;
        let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| Fault::Unreadable(KEY))?;
        let certified = CertifiedKey::new(chain, key);
        let first = certified.end_entity_cert().map_err(|_| Fault::Unreadable(CERTIFICATE))?;
        certified.keys_match().map_err(|_| Fault::KeyMismatch)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|_| Fault::Unreadable(CERTIFICATE))?;
        let ends = parsed.validity().not_after.timestamp();

        let mut why = Fault::NotGood("its authority is not valid now".to_owned());
        for signer in authorities.iter().filter(|authority| authority.is_valid(at)) {
            match accepted(&certified, signer, names, at) {
                Ok(()) => return Ok(Good { signer: signer.clone(), ends, certified }),
                Err(error) => why = Fault::NotGood(error.to_string()),
            }
        }
        Err(why)
    }
}

fn accepted(certified: &CertifiedKey, signer: &Authority, names: &Names, at: UnixTime) -> Result<(), rustls::Error> {
    let first = certified.end_entity_cert()?;
    let server = ServerName::try_from(names.0[0].clone()).map_err(|error| rustls::Error::General(error.to_string()))?;
    // A certificate may be its own authority; the API server takes it when it is trusted itself.
    if first == &signer.0 {
        return verify_server_name(&ParsedCertificate::try_from(first)?, &server);
    }
    let mut roots = RootCertStore::empty();
    roots.add(signer.0.clone())?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    verifier.verify_server_cert(first, &certified.cert[1..], &server, &[], at).map(drop)
}

/// Valid since ever: a clock that is behind must not cost the trust between the API server and Tagout, and nobody takes
/// a certificate's beginning for the age of its key.
pub(super) fn lives(params: &mut CertificateParams, now: UnixTime, life: Duration) -> Result<(), Fault> {
    let ends = now.as_secs().saturating_add(life.as_secs());
    let ends = (ends < LAST).then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(ends))).flatten();
    params.not_before = SystemTime::UNIX_EPOCH.into();
    params.not_after = ends.ok_or_else(|| Fault::NotMade("the clock shows a time far away".to_owned()))?.into();
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` passes by value")]
pub(super) fn not_made(error: rcgen::Error) -> Fault {
    Fault::NotMade(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    struct Made {
        authority: Authority,
        leaf: Leaf,
    }

    fn names() -> Names {
        Names::of_service("tagout", "tagout-system")
    }

    fn made() -> Made {
        let (authority, key) = Authority::make(UnixTime::now(), DAY * 1000).unwrap();
        let key = KeyPair::from_pem(&key).unwrap();
        let leaf = Leaf::by(&authority, &key, &names(), UnixTime::now(), DAY * 90).unwrap();
        Made { authority, leaf }
    }

    fn in_days(days: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + days * 86_400))
    }

    fn fault(leaf: &Leaf, authorities: &[Authority], names: &Names, at: UnixTime) -> Option<Fault> {
        leaf.good(authorities, names, at).err()
    }

    #[test]
    fn what_is_made_is_good_until_its_end_however_far_a_clock_is_behind() {
        let Made { authority, leaf } = made();
        let authorities = [authority];
        for at in [UnixTime::since_unix_epoch(Duration::ZERO), UnixTime::now(), in_days(89)] {
            assert_eq!(fault(&leaf, &authorities, &names(), at), None);
        }
        assert!(matches!(fault(&leaf, &authorities, &names(), in_days(91)), Some(Fault::NotGood(_))));
    }

    #[test]
    fn a_certificate_for_another_name_or_by_another_authority_is_not_good() {
        let (ours, other) = (made(), made());
        let (by_us, by_other) = (from_ref(&ours.authority), from_ref(&other.authority));
        let elsewhere = Names::of_service("tagout", "elsewhere");
        let now = UnixTime::now();
        assert!(matches!(fault(&ours.leaf, by_us, &elsewhere, now), Some(Fault::NotGood(_))));
        assert!(matches!(fault(&ours.leaf, by_other, &names(), now), Some(Fault::NotGood(_))));
        assert!(matches!(fault(&ours.leaf, &[], &names(), now), Some(Fault::NotGood(_))));
        let good = ours.leaf.good(&[other.authority.clone(), ours.authority.clone()], &names(), now).unwrap();
        assert!(good.signer == ours.authority);
    }

    #[test]
    fn the_key_of_another_certificate_is_not_good() {
        let Made { authority, leaf } = made();
        let leaf = Leaf { key: made().leaf.key, ..leaf };
        assert_eq!(fault(&leaf, &[authority], &names(), UnixTime::now()), Some(Fault::KeyMismatch));
    }

    #[test]
    fn a_certificate_that_is_its_own_authority_is_good_for_its_name_alone() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names().0).unwrap();
        let made = params.self_signed(&key).unwrap();
        let leaf = Leaf { certificate: made.pem(), key: key.serialize_pem() };
        let authorities = [Authority(made.der().clone())];
        assert_eq!(fault(&leaf, &authorities, &names(), UnixTime::now()), None);
        assert!(fault(&leaf, &authorities, &Names::of_service("tagout", "elsewhere"), UnixTime::now()).is_some());
    }

    #[test]
    fn damaged_pem_is_an_error_and_no_panic() {
        let Made { authority, leaf } = made();
        for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\0\0", "-----BEGIN"] {
            let (certificate, key) =
                (Leaf { certificate: broken.into(), ..leaf.clone() }, Leaf { key: broken.into(), ..leaf.clone() });
            for leaf in [certificate, key] {
                assert!(fault(&leaf, from_ref(&authority), &names(), UnixTime::now()).is_some(), "{broken:?}");
            }
        }
    }

    #[test]
    fn a_time_far_away_is_an_error_and_no_panic() {
        for now in [LAST, u64::MAX] {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            assert!(matches!(Authority::make(now, DAY).err(), Some(Fault::NotMade(_))));
        }
    }
}
