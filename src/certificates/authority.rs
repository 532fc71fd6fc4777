use std::time::Duration;

use base64ct::{Base64, Encoding};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::leaf::{Fault, lives, not_made};

/// The certificate of an authority, not its key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Authority(pub(super) CertificateDer<'static>);

/// No more are trusted at once; two are while one follows the other.
pub(super) const MOST: usize = 8;
const MOST_READ: usize = 64;

impl Authority {
    /// A new one and its key.
    pub(super) fn make(now: UnixTime, life: Duration) -> Result<(Self, String), Fault> {
        let key = KeyPair::generate().map_err(not_made)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(not_made)?;
        params.distinguished_name.push(DnType::CommonName, "tagout");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        lives(&mut params, now, life)?;
        let made = params.self_signed(&key).map_err(not_made)?;
        Ok((Self(made.der().clone()), key.serialize_pem()))
    }

    /// Those in a text, each once. What else is in it is not theirs to tell: entries are read by everybody, and keys are
    /// put in the wrong file easily.
    pub fn read(pem: &[u8]) -> Vec<Self> {
        let mut read = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem).take(MOST_READ).flatten() {
            let is_one = x509_parser::parse_x509_certificate(&certificate).is_ok_and(|(rest, _)| rest.is_empty());
            let one = Self(certificate);
            if is_one && !read.contains(&one) && read.len() < MOST {
                read.push(one);
            }
        }
        read
    }

    pub fn pem(authorities: &[Self]) -> String {
        let mut pem = String::new();
        for Self(certificate) in authorities {
            let text = Base64::encode_string(certificate);
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in text.as_bytes().chunks(64) {
                pem.extend(line.iter().copied().map(char::from));
                pem.push('\n');
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem
    }

    /// The first and last second in which it is valid.
    fn validity(&self) -> Option<(i64, i64)> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.0).ok()?;
        let validity = parsed.validity();
        Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
    }

    pub(super) fn ends(&self) -> i64 {
        self.validity().map_or(0, |(_, ends)| ends)
    }

    /// The API server looks at this too, which the library that verifies here does not.
    pub(super) fn is_valid(&self, at: UnixTime) -> bool {
        let at = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        self.validity().is_some_and(|(begins, ends)| begins <= at && at <= ends)
    }

    /// Whether this is the authority's key.
    pub(super) fn is_of(&self, key: &KeyPair) -> bool {
        x509_parser::parse_x509_certificate(&self.0)
            .is_ok_and(|(_, parsed)| parsed.public_key().raw == key.subject_public_key_info().as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (Authority, String) {
        Authority::make(UnixTime::now(), Duration::from_hours(1)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_and_each_once() {
        let (one, other) = (made().0, made().0);
        let pem = Authority::pem(&[one.clone(), other.clone(), one.clone()]);
        assert!(Authority::read(pem.as_bytes()) == [one, other]);
    }

    #[test]
    fn what_is_no_certificate_is_left_out_and_a_key_never_gets_on() {
        let (one, key) = made();
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let pem = format!("{key}{junk}a note\n{}{junk}-----BEGIN CERT", Authority::pem(std::slice::from_ref(&one)));
        assert!(Authority::read(pem.as_bytes()) == [one]);
        for nothing in ["", "\0\0", "-----BEGIN CERTIFICATE-----", junk, &key] {
            assert!(Authority::read(nothing.as_bytes()).is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn a_flood_of_authorities_is_cut_off() {
        let many: Vec<_> = (0..20).map(|_| made().0).collect();
        assert_eq!(Authority::read(Authority::pem(&many).as_bytes()).len(), MOST);
    }

    #[test]
    fn a_key_is_known_by_its_authority_alone() {
        let ((one, key), (other, _)) = (made(), made());
        let key = KeyPair::from_pem(&key).unwrap();
        assert!(one.is_of(&key) && !other.is_of(&key));
    }

    #[test]
    fn an_authority_is_valid_however_far_a_clock_is_behind_and_not_after_its_end() {
        let one = made().0;
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert!(one.is_valid(at(0)) && one.is_valid(UnixTime::now()));
        assert!(!one.is_valid(at(UnixTime::now().as_secs() + 2 * 3600)) && !one.is_valid(at(u64::MAX)));
    }
}
