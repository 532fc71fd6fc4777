//! Keys that sign as `ssh-keygen -Y sign` does: keys in files, and hardware keys without the hardware.
//!
//! The formats are OpenSSH's own: PROTOCOL.sshsig for the signature, PROTOCOL.u2f for what a hardware key signs,
//! PROTOCOL and RFC 5656 for keys. Everything is made from a seed, so a test always sees the same key.

mod wire;

use ed25519_dalek::Signer as _;
use sha2::{Digest, Sha256, Sha512};

pub use wire::{armor, bytes_of, mpint, string};

/// The flags of a hardware key: somebody touched it, and it checked a PIN or fingerprint.
pub const PRESENT: u8 = 0x01;
pub const VERIFIED: u8 = 0x04;

/// The types of keys that `ssh-keygen -t` makes, as far as they can sign approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    Ecdsa,
    SkEd25519,
    SkEcdsa,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Ed25519, Self::Ecdsa, Self::SkEd25519, Self::SkEcdsa];

    /// The name of the type, of keys and signatures alike.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::Ecdsa => "ecdsa-sha2-nistp256",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkEcdsa => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    pub fn is_hardware(self) -> bool {
        matches!(self, Self::SkEd25519 | Self::SkEcdsa)
    }
}

/// A key pair.
#[derive(Debug, Clone)]
pub struct Authenticator {
    kind: Kind,
    seed: [u8; 32],
    application: String,
}

impl Authenticator {
    /// The same seed gives the same key, and the same point whether it is said to be in hardware or not.
    pub fn new(kind: Kind, seed: &str) -> Self {
        Self { kind, seed: Sha256::digest(seed).into(), application: "ssh:".to_owned() }
    }

    #[must_use]
    pub fn for_application(self, application: &str) -> Self {
        Self { application: application.to_owned(), ..self }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The public point: 32 bytes of Ed25519, or 65 of P-256.
    pub fn point(&self) -> Vec<u8> {
        match self.kind {
            Kind::Ed25519 | Kind::SkEd25519 => self.ed25519().verifying_key().as_bytes().to_vec(),
            Kind::Ecdsa | Kind::SkEcdsa => self.p256().verifying_key().to_encoded_point(false).as_bytes().to_vec(),
        }
    }

    /// The public key, as it stands in base64 in a file that ends in .pub.
    pub fn blob(&self) -> Vec<u8> {
        key_blob(self.kind, &self.point(), &self.application)
    }

    /// The line of the file that ends in .pub.
    pub fn line(&self) -> String {
        key_line(self.kind.name(), &self.blob())
    }

    /// What `ssh-keygen -Y sign` writes, after a touch where there is something to touch.
    pub fn sign(&self, namespace: &str, text: &str) -> String {
        self.signature(&Intent::new(namespace, text)).armored()
    }

    /// A right signature, of which anything may be changed afterwards.
    pub fn signature(&self, intent: &Intent) -> Signature {
        let signed = intent.signed();
        let (over, trailer) = if self.kind.is_hardware() {
            let mut over = Sha256::digest(&self.application).to_vec();
            over.push(intent.flags);
            over.extend(intent.counter.to_be_bytes());
            over.extend(Sha256::digest(&signed));
            (over, Some((intent.flags, intent.counter)))
        } else {
            (signed, None)
        };
        Signature {
            version: 1,
            key: self.blob(),
            namespace: intent.namespace.clone(),
            reserved: intent.reserved.clone(),
            hash: intent.hash.clone(),
            algorithm: self.kind.name().to_owned(),
            signature: self.raw(&over),
            trailer,
            inner_trailing: Vec::new(),
            trailing: Vec::new(),
        }
    }

    /// The bare signature of these bytes.
    pub fn raw(&self, over: &[u8]) -> Vec<u8> {
        match self.kind {
            Kind::Ed25519 | Kind::SkEd25519 => self.ed25519().sign(over).to_bytes().to_vec(),
            Kind::Ecdsa | Kind::SkEcdsa => {
                let signature: p256::ecdsa::Signature = self.p256().sign(over);
                let (r, s) = signature.split_bytes();
                [mpint(&r), mpint(&s)].concat()
            }
        }
    }

    fn ed25519(&self) -> ed25519_dalek::SigningKey {
        ed25519_dalek::SigningKey::from_bytes(&self.seed)
    }

    fn p256(&self) -> p256::ecdsa::SigningKey {
        p256::ecdsa::SigningKey::from_slice(&self.seed).expect("nearly every hash is below the order of P-256")
    }
}

/// A public key with any point.
pub fn key_blob(kind: Kind, point: &[u8], application: &str) -> Vec<u8> {
    let mut blob = string(kind.name());
    if matches!(kind, Kind::Ecdsa | Kind::SkEcdsa) {
        blob.extend(string("nistp256"));
    }
    blob.extend(string(point));
    if kind.is_hardware() {
        blob.extend(string(application));
    }
    blob
}

/// A line as in a file that ends in .pub.
pub fn key_line(kind: &str, blob: &[u8]) -> String {
    format!("{kind} {} test", wire::base64(blob))
}

/// What is to be signed, and how.
#[derive(Debug, Clone)]
pub struct Intent {
    pub namespace: String,
    pub text: String,
    pub reserved: Vec<u8>,
    /// `sha512` or `sha256`.
    pub hash: String,
    pub flags: u8,
    pub counter: u32,
}

impl Intent {
    pub fn new(namespace: &str, text: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            text: text.to_owned(),
            reserved: Vec::new(),
            hash: "sha512".to_owned(),
            flags: PRESENT,
            counter: 7,
        }
    }

    /// The bytes that the signature is over; of a hardware key, that are hashed into it.
    pub fn signed(&self) -> Vec<u8> {
        let digest = match self.hash.as_str() {
            "sha256" => Sha256::digest(&self.text).to_vec(),
            _ => Sha512::digest(&self.text).to_vec(),
        };
        [b"SSHSIG".to_vec(), string(&self.namespace), string(&self.reserved), string(&self.hash), string(digest)]
            .concat()
    }
}

/// A signature, right or forged.
#[derive(Debug, Clone)]
pub struct Signature {
    pub version: u32,
    pub key: Vec<u8>,
    pub namespace: String,
    pub reserved: Vec<u8>,
    pub hash: String,
    pub algorithm: String,
    pub signature: Vec<u8>,
    /// Flags and counter of a hardware key.
    pub trailer: Option<(u8, u32)>,
    /// What follows within the signature's own field, and what follows everything.
    pub inner_trailing: Vec<u8>,
    pub trailing: Vec<u8>,
}

impl Signature {
    /// In binary.
    pub fn blob(&self) -> Vec<u8> {
        let mut own = [string(&self.algorithm), string(&self.signature)].concat();
        if let Some((flags, counter)) = self.trailer {
            own.push(flags);
            own.extend(counter.to_be_bytes());
        }
        own.extend(&self.inner_trailing);
        let mut blob = b"SSHSIG".to_vec();
        blob.extend(self.version.to_be_bytes());
        blob.extend(string(&self.key));
        blob.extend(string(&self.namespace));
        blob.extend(string(&self.reserved));
        blob.extend(string(&self.hash));
        blob.extend(string(&own));
        blob.extend(&self.trailing);
        blob
    }

    /// As `ssh-keygen -Y sign` writes it.
    pub fn armored(&self) -> String {
        armor(&self.blob())
    }
}
