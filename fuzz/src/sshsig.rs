//! SSH signatures, read once more by what OpenSSH writes of them (PROTOCOL.sshsig, PROTOCOL.u2f) and with nothing of the
//! library that Tagout reads them with.

use authenticator::{Authenticator, Kind};
use base64ct::{Base64, Encoding};
use ed25519_dalek::VerifyingKey;
use p256::ecdsa::signature::Verifier;
use sha2::{Digest, Sha256, Sha512};

/// What a key signed in this text under Tagout's use of signatures: the flags of a hardware key, or none.
pub fn verify(armored: &str, key: &Authenticator, text: &str) -> Option<u8> {
    let inner = armored.trim().strip_prefix("-----BEGIN SSH SIGNATURE-----")?;
    let inner: String = inner.strip_suffix("-----END SSH SIGNATURE-----")?.split_ascii_whitespace().collect();
    let blob = Base64::decode_vec(&inner).ok()?;
    let mut rest = Reader(blob.strip_prefix(b"SSHSIG")?);
    let version = rest.number()?;
    let [own_key, namespace, reserved, hash, signature] =
        [rest.string()?, rest.string()?, rest.string()?, rest.string()?, rest.string()?];
    if version != 1 || own_key != key.blob() || namespace != b"approval@tagout.dev" || !rest.0.is_empty() {
        return None;
    }
    let digest = match hash {
        b"sha256" => Sha256::digest(text).to_vec(),
        b"sha512" => Sha512::digest(text).to_vec(),
        _ => return None,
    };
    let signed = [b"SSHSIG".to_vec(), string(namespace), string(reserved), string(hash), string(&digest)].concat();
    let mut rest = Reader(signature);
    let (kind, own) = (rest.string()?, rest.string()?);
    if kind != key.kind().name().as_bytes() {
        return None;
    }
    let (flags, over) = if key.kind().is_hardware() {
        let [flags, ..] = rest.0 else { return None };
        let trailer = rest.take(5)?;
        let over = [Sha256::digest("ssh:").to_vec(), trailer.to_vec(), Sha256::digest(&signed).to_vec()].concat();
        (*flags, over)
    } else {
        (0, signed)
    };
    let point = key.point();
    let good = rest.0.is_empty()
        && match key.kind() {
            Kind::Ed25519 | Kind::SkEd25519 => ed25519(&point, own, &over),
            Kind::Ecdsa | Kind::SkEcdsa => p256(&point, own, &over),
        }?;
    good.then_some(flags)
}

fn ed25519(point: &[u8], signature: &[u8], over: &[u8]) -> Option<bool> {
    let key = VerifyingKey::from_bytes(point.try_into().ok()?).ok()?;
    let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
    Some(key.verify_strict(over, &signature).is_ok())
}

fn p256(point: &[u8], signature: &[u8], over: &[u8]) -> Option<bool> {
    let mut numbers = Reader(signature);
    let [r, s] = [numbers.scalar()?, numbers.scalar()?];
    let signature = p256::ecdsa::Signature::from_scalars(r, s).ok()?;
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
    Some(numbers.0.is_empty() && key.verify(over, &signature).is_ok())
}

fn string(bytes: &[u8]) -> Vec<u8> {
    authenticator::string(bytes)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.try_into().ok()?)
    }

    /// A positive number of at most 32 bytes.
    fn scalar(&mut self) -> Option<[u8; 32]> {
        let bytes = self.string()?;
        let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        let mut scalar = [0; 32];
        scalar.get_mut(32_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
        Some(scalar)
    }
}
