use std::fmt;

use ssh_key::public::KeyData;
use ssh_key::{EcdsaCurve, HashAlg, PublicKey};
use thiserror::Error;

/// A public key that may sign approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(KeyData);

/// Why a key cannot sign approvals. Never quotes it: it may be a secret that stands in the wrong place.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum KeyFault {
    #[error("this is a PRIVATE key. Take it out, make a new one, and write the line of the file that ends in .pub")]
    Private,
    #[error("it is no public key; write one line as it stands in the file that ends in .pub")]
    Unreadable,
    #[error("it begins with options, as in authorized_keys; write the line of the file that ends in .pub")]
    Options,
    #[error("certificates cannot sign approvals; write the public key itself")]
    Certificate,
    #[error("its type cannot sign approvals; make one with ssh-keygen -t ed25519-sk (hardware key) or -t ed25519")]
    Type,
    #[error("it is weak: anybody could sign with it. Make a new one with ssh-keygen")]
    Weak,
    #[error("it is a hardware key for {:?}-like applications; make one with ssh-keygen -t ed25519-sk", "https:")]
    Application,
}

impl Key {
    /// Reads a line like `ssh-ed25519 AAAA… comment`.
    pub fn read(line: &str) -> Result<Self, KeyFault> {
        let line = line.trim();
        if line.contains("PRIVATE KEY") {
            return Err(KeyFault::Private);
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(kind) = words.first() else { return Err(KeyFault::Unreadable) };
        if line.contains(['\n', '\r']) {
            return Err(KeyFault::Unreadable);
        }
        if kind.contains("-cert-") {
            return Err(KeyFault::Certificate);
        }
        let is_type = |word: &&str| ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| word.starts_with(prefix));
        if !is_type(kind) && words.iter().any(is_type) {
            return Err(KeyFault::Options);
        }
        // The comment may be anything; of what follows it nothing matters.
        let bare: Vec<&str> = words.iter().take(2).copied().collect();
        let data = PublicKey::from_openssh(&bare.join(" ")).map_err(|_| KeyFault::Unreadable)?.key_data().clone();
        Self::check(&data)?;
        Ok(Self(data))
    }

    fn check(data: &KeyData) -> Result<(), KeyFault> {
        let (point, application) = match data {
            KeyData::Ed25519(key) => (Point::Ed25519(&key.0), None),
            KeyData::SkEd25519(key) => (Point::Ed25519(&key.public_key().0), Some(key.application())),
            KeyData::Ecdsa(key) if key.curve() == EcdsaCurve::NistP256 => (Point::P256(key.as_sec1_bytes()), None),
            KeyData::SkEcdsaSha2NistP256(key) => (Point::P256(key.ec_point().as_bytes()), Some(key.application())),
            _ => return Err(KeyFault::Type),
        };
        match point {
            Point::Ed25519(bytes) => {
                let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyFault::Weak)?;
                if key.is_weak() || !is_reduced(bytes) {
                    return Err(KeyFault::Weak);
                }
            }
            // Every point of P-256 but infinity is of full order; of its two spellings OpenSSH writes the long one.
            Point::P256(bytes) => {
                if bytes.first() != Some(&4) || p256_point(bytes).is_none() {
                    return Err(KeyFault::Unreadable);
                }
            }
        }
        // What a browser has a key sign for a web site is another application's.
        match application {
            Some(application) if !application.starts_with("ssh:") => Err(KeyFault::Application),
            _ => Ok(()),
        }
    }

    pub fn is_hardware(&self) -> bool {
        matches!(self.0, KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_))
    }

    /// As `ssh-keygen -l` prints it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The point itself: the same key as a hardware key or not, or for several applications, is one key.
    pub fn point(&self) -> &[u8] {
        match &self.0 {
            KeyData::Ed25519(key) => &key.0,
            KeyData::SkEd25519(key) => &key.public_key().0,
            KeyData::Ecdsa(key) => key.as_sec1_bytes(),
            KeyData::SkEcdsaSha2NistP256(key) => key.ec_point().as_bytes(),
            _ => &[],
        }
    }

    /// What kind of key it is, as people say it.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => "hardware key",
            _ => "key in a file",
        }
    }

    pub(super) fn data(&self) -> &KeyData {
        &self.0
    }

    /// The line that `read` reads.
    pub fn to_line(&self) -> String {
        PublicKey::new(self.0.clone(), "").to_openssh().unwrap_or_default()
    }
}

/// The fingerprint.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

enum Point<'a> {
    Ed25519(&'a [u8; 32]),
    P256(&'a [u8]),
}

fn p256_point(bytes: &[u8]) -> Option<p256::ecdsa::VerifyingKey> {
    p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok()
}

/// Whether the y coordinate is below the field's prime, 2^255 - 19: otherwise the key has two spellings.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    bytes[31] & 0x7f != 0x7f || bytes[1..31].iter().any(|byte| *byte != 0xff) || bytes[0] < 0xed
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
