//! What stands in Secrets and files of certificates, whole or damaged.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::OnceLock;
use std::time::Duration;

use k8s_openapi::ByteString;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use tagout::certificates::{Authority, Callers, Lives, Names, Served, Step, Stored, View, provided};

const DAY: Duration = Duration::from_hours(24);
const LIVES: Lives =
    Lives { certificate: DAY.saturating_mul(90), authority: DAY.saturating_mul(1095), overlap: Duration::from_mins(1) };
/// 2026-11-21.
const NOW: u64 = 1_795_255_200;

/// Begins each part of an input, before its name.
const PART: &str = "== ";

pub fn certificates(data: &[u8]) -> &'static str {
    let parts = parts(data);
    let kept = own(&parts);
    others(&parts);
    callers(&parts);
    kept
}

/// Parts of a Secret, or of several, by their names.
fn parts(data: &[u8]) -> BTreeMap<String, ByteString> {
    let mut parts: BTreeMap<String, ByteString> = BTreeMap::new();
    let mut name = String::new();
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(PART.as_bytes()) {
            Some(begun) => name = String::from_utf8_lossy(begun.trim_ascii()).into_owned(),
            None => parts.entry(name.clone()).or_default().0.extend_from_slice(line),
        }
    }
    parts
}

fn names() -> Names {
    Names::of_service("tagout", "tagout-system")
}

/// What Tagout makes itself: whatever is found, a few steps lead to what is good and stays.
fn own(found: &BTreeMap<String, ByteString>) -> &'static str {
    let (names, now) = (names(), UnixTime::since_unix_epoch(Duration::from_secs(NOW)));
    let first = Stored::read(found);
    let is_good = first.good(&names, now).is_ok();
    let mut data = found.clone();
    let mut known: Option<Stored> = None;
    let mut served: Option<Served> = None;
    for _ in 0..12 {
        let stored = Stored::read(&data);
        let view = View {
            names: &names,
            lives: LIVES,
            now,
            known: known.as_ref(),
            served: served.as_ref(),
            stood: DAY,
            unchanged: DAY,
        };
        // An authority whose key cannot sign is no fault of ours; what is said of it is.
        let Ok(step) = stored.step(&data, &view) else { return "stuck" };
        let stored = match step {
            Step::Stand => {
                let good = stored.good(&names, now).expect("what is left as it is can be served");
                let published = String::from_utf8(provided::data(from_ref(&good.signer))["ca.crt"].0.clone());
                assert!(published.is_ok_and(|pem| !pem.contains("PRIVATE KEY")), "a key is told to everybody");
                return if is_good { "good" } else { "repaired" };
            }
            Step::Write(stored, _) => *stored,
        };
        let good = stored.good(&names, now).expect("what is written is good");
        data = stored.data();
        assert!(Stored::read(&data) == stored, "what is written is not what is read");
        assert!(!String::from_utf8_lossy(&data["ca.crt"].0).contains("PRIVATE KEY"), "a key stands among certificates");
        served = stored.leaf.clone().map(|leaf| Served { leaf, signer: good.signer });
        known = Some(stored);
    }
    panic!("it never settles");
}

/// What somebody else provides.
fn others(parts: &BTreeMap<String, ByteString>) {
    let trusted = provided::trusted(parts);
    let Ok((leaf, authorities)) = provided::read(parts) else { return };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let good = leaf.good(&authorities, &names(), now);
    let signer = good.ok().map(|good| good.signer);
    let wanted = provided::wanted(&trusted, &authorities, signer.as_ref(), DAY, DAY);
    assert!(authorities.iter().all(|one| wanted.contains(one)), "what is served by is not trusted");
    let again = Authority::read(&provided::data(&wanted)["ca.crt"].0);
    assert!(again == wanted, "what is written is not what is read");
}

/// Who may call: nobody whose certificate the one authority that is known here did not sign as it is.
fn callers(parts: &BTreeMap<String, ByteString>) {
    static KNOWN: OnceLock<(Callers, Vec<CertificateDer<'static>>)> = OnceLock::new();
    let (callers, signed) = KNOWN.get_or_init(|| {
        let pem = include_bytes!("callers.pem");
        let all: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().expect("certificates");
        let authority = Authority::pem(&Authority::read(pem)[..1]);
        (Callers::of(authority.into_bytes(), vec!["apiserver".to_owned()]).expect("an authority"), all)
    });
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    for part in ["shown", "tls.crt"] {
        let Some(bytes) = parts.get(part) else { continue };
        let shown: Vec<_> = CertificateDer::pem_slice_iter(&bytes.0).flatten().collect();
        if callers.check(&shown, now).is_ok() {
            let content = |der: &CertificateDer| signed_part(der);
            let first = shown.first().and_then(content);
            assert!(first.is_some() && signed.iter().any(|one| content(one) == first), "a stranger may call");
        }
    }
    if let Some(bytes) = parts.get("ca.crt") {
        drop(Callers::of(bytes.0.clone(), Vec::new()));
    }
}

/// What the signature of a certificate is over.
fn signed_part(der: &CertificateDer) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(parsed.tbs_certificate.as_ref().to_vec())
}
