use base64ct::{Base64, Encoding};
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};
use thiserror::Error;

use super::{Key, KeyFault};
use crate::api::SIGNATURE_NAMESPACE;

/// A signature that was read and whose key has yet to be found.
#[derive(Debug)]
pub struct Signed(SshSig);

/// Why a signature proves nothing. One name for each check.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum SignatureFault {
    #[error("its signature is none that ssh-keygen -Y sign makes")]
    Unreadable,
    #[error("its signature was made for another use than {SIGNATURE_NAMESPACE}")]
    OtherUse,
    #[error("its signature is over another text")]
    OtherText,
}

/// What was done at the key for one signature. Nothing of that is known of a key in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gesture {
    /// Somebody touched the key.
    pub present: bool,
    /// The key checked a PIN or a fingerprint.
    pub verified: bool,
}

/// An armored signature is about 400 bytes; an sk-ecdsa one with a long application some more.
const LONGEST: usize = 4096;

/// Letters in a line of an armored signature.
const LINE: usize = 70;

/// The bytes of flags and counter, with which a hardware key's signature ends.
const TRAILER: usize = 5;

/// Bits of the flags that a hardware key signs (CTAP2, authenticator data).
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;

impl Signed {
    pub fn read(armored: &str) -> Result<Self, SignatureFault> {
        if armored.len() > LONGEST {
            return Err(SignatureFault::Unreadable);
        }
        let signature = SshSig::from_pem(armored).map_err(|_| SignatureFault::Unreadable)?;
        // The crate takes version 0 too, signatures of other kinds than the key's, text before the armor, and lengths
        // that are not true. OpenSSH does not, and nobody shall count what it would not.
        let ours = signature.version() == SshSig::VERSION
            && signature.reserved().is_empty()
            && signature.algorithm() == signature.public_key().algorithm()
            && written(&signature).is_some_and(|text| armored.strip_suffix('\n').unwrap_or(armored) == text);
        if !ours {
            return Err(SignatureFault::Unreadable);
        }
        if signature.namespace() != SIGNATURE_NAMESPACE {
            return Err(SignatureFault::OtherUse);
        }
        Ok(Self(signature))
    }

    /// The key that it says it was made with.
    pub fn key(&self) -> Result<Key, KeyFault> {
        let key = ssh_key::PublicKey::from(self.0.public_key().clone());
        Key::read(&key.to_openssh().map_err(|_| KeyFault::Unreadable)?)
    }

    pub fn is_by(&self, key: &Key) -> bool {
        self.0.public_key() == key.data()
    }

    /// Whether this key signed this text, and what was done at it.
    pub fn verify(&self, key: &Key, text: &str) -> Result<Gesture, SignatureFault> {
        PublicKey::from(key.data().clone())
            .verify(SIGNATURE_NAMESPACE, text.as_bytes(), &self.0)
            .map_err(|_| SignatureFault::OtherText)?;
        if !key.is_hardware() {
            return Ok(Gesture::default());
        }
        // Flags and counter are under the signature. Verifying looks at neither.
        let bytes = self.0.signature_bytes();
        let flags = bytes.len().checked_sub(TRAILER).and_then(|at| bytes.get(at)).copied().unwrap_or_default();
        Ok(Gesture { present: flags & USER_PRESENT != 0, verified: flags & USER_VERIFIED != 0 })
    }
}

/// The signature as ssh-keygen writes it, without the last line feed. The crate itself writes those of hardware keys of
/// the type ECDSA wrongly.
fn written(signature: &SshSig) -> Option<String> {
    fn string(bytes: &[u8]) -> Option<Vec<u8>> {
        Some([&u32::try_from(bytes.len()).ok()?.to_be_bytes(), bytes].concat())
    }
    let hash: &[u8] = match signature.hash_alg() {
        HashAlg::Sha256 => b"sha256",
        HashAlg::Sha512 => b"sha512",
        _ => return None,
    };
    let key = PublicKey::from(signature.public_key().clone());
    let bytes = signature.signature_bytes();
    let (own, trailer) = bytes.split_at(bytes.len().checked_sub(if is_hardware(&key) { TRAILER } else { 0 })?);
    let blob = [
        b"SSHSIG".to_vec(),
        signature.version().to_be_bytes().to_vec(),
        string(&key.to_bytes().ok()?)?,
        string(signature.namespace().as_bytes())?,
        string(signature.reserved())?,
        string(hash)?,
        string(&[string(key.algorithm().as_str().as_bytes())?, string(own)?, trailer.to_vec()].concat())?,
    ]
    .concat();
    let body = Base64::encode_string(&blob);
    let lines: Vec<&str> = body.as_bytes().chunks(LINE).map(|line| str::from_utf8(line).unwrap_or_default()).collect();
    Some(format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----", lines.join("\n")))
}

fn is_hardware(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
