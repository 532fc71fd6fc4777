//! Seeds that are made: by keys that everybody may know, in a time that stands still.

use std::fs;

use authenticator::{Intent, Kind};
use jiff::SignedDuration;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use serde_json::{Value, json};
use tagout::api::{SIGNATURE_NAMESPACE, Statement};

use crate::folder;
use crate::fuzz::signature::TEXT;
use crate::fuzz::world::{AGENT, ALICE, CLUSTER, EPOCH, NAME, NAMESPACE, NOW, TEAM, UID, keys};

type Seed = (&'static str, String, Vec<u8>);

/// What Alice says, with this changed.
fn statement(changes: &Value) -> Value {
    let mut said = json!({"action": "Delete", "uid": UID, "resource": "deployments.apps", "namespace": NAMESPACE,
        "name": NAME, "cluster": CLUSTER, "epoch": EPOCH, "approver": ALICE, "team": TEAM,
        "reason": "OPS-1234", "approvedAt": NOW.to_string(),
        "expires": (NOW + SignedDuration::from_mins(30)).to_string()});
    for (key, value) in changes.as_object().unwrap() {
        said[key] = value.clone();
    }
    said
}

fn signed(key: usize, changes: &Value, flags: u8) -> Value {
    let mut said = statement(changes);
    said.as_object_mut().unwrap().remove("epoch");
    let read: Statement = serde_json::from_value(said.clone()).unwrap();
    let intent = Intent { flags, ..Intent::new(SIGNATURE_NAMESPACE, &read.text().unwrap()) };
    said["signature"] = json!(keys()[key].signature(&intent).armored());
    said
}

fn statements() -> Vec<Seed> {
    let of = |name: &str, list: Value| ("statements", name.to_owned(), list.to_string().into_bytes());
    let one = |name: &str, said: Value| of(name, json!([said]));
    let said = |changes: Value| statement(&changes);
    let none = json!({});
    vec![
        one("counted.by-identity.json", said(json!({}))),
        one("counted.for-the-agent.json", said(json!({"requester": AGENT, "deleteOnly": true}))),
        one("counted.by-a-key-in-a-file.json", signed(0, &none, 0)),
        one("counted.by-a-touched-key.json", signed(2, &none, 5)),
        one("counted.by-an-ecdsa-key.json", signed(3, &none, 1)),
        // By one rule of three.
        one("counted.by-an-untouched-key.json", signed(2, &none, 0)),
        of("counted.among-others.json", json!([7, {}, said(json!({"uid": "5f0d"})), said(json!({}))])),
        one("refused.by-the-agent.json", said(json!({"approver": AGENT}))),
        one("refused.expired.json", said(json!({"expires": "2026-11-21T09:59:59Z"}))),
        one("refused.of-another-epoch.json", said(json!({"epoch": "e0"}))),
        one("refused.breaking-glass.json", said(json!({"breakGlass": true}))),
        one(
            "refused.naming-what-is-not-its-digest.json",
            said(json!({"protects": {"digest": "sha256:00", "uids": ["a"]}})),
        ),
        one("refused.of-the-contents.json", said(json!({"scope": "Contents"}))),
        one("refused.changed-after-signing.json", {
            let mut said = signed(2, &none, 1);
            said["reason"] = json!("OPS-1235");
            said
        }),
        of("nothing.no-list.json", said(json!({}))),
    ]
}

fn signatures() -> Vec<Seed> {
    let of = |name: String, text: String| ("signature", name, text.into_bytes());
    let mut all = Vec::new();
    for key in keys() {
        let name = key.kind().name().split('@').next().unwrap();
        all.push(of(format!("key.{name}.pub"), key.line()));
        all.push(of(format!("verified.{name}.sig"), key.sign(SIGNATURE_NAMESPACE, TEXT)));
        let untouched = Intent { flags: 0, ..Intent::new(SIGNATURE_NAMESPACE, TEXT) };
        all.push(of(format!("verified.{name}-untouched.sig"), key.signature(&untouched).armored()));
        all.push(of(format!("unverified.{name}.sig"), key.sign(SIGNATURE_NAMESPACE, "another text\n")));
        all.push(of(format!("nothing.{name}-for-git.sig"), key.sign("git", TEXT)));
    }
    let other = authenticator::Authenticator::new(Kind::Ed25519, "mallory");
    all.push(of("unverified.of-nobody.sig".to_owned(), other.sign(SIGNATURE_NAMESPACE, TEXT)));
    all
}

#[test]
fn seeds_of_statements_and_signatures_are_those_that_are_made() {
    for (target, name, seed) in statements().into_iter().chain(signatures()) {
        let file = folder().join("seeds").join(target).join(&name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &seed).unwrap();
        }
        let same = fs::read(&file).is_ok_and(|found| found == seed);
        assert!(same, "run `UPDATE=1 cargo test --test fuzz made` and commit what changes in {}", file.display());
    }
}

/// An authority, its key, and what it signs until the year 2200.
struct Authority(String, KeyPair);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "fuzzed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_after = date_time_ymd(2200, 1, 1);
        Self(params.self_signed(&key).unwrap().pem(), key)
    }

    fn signs(&self, name: &str, until: i32, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_ca_cert_pem(&self.0, &self.1).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Keys are random: what they sign is made once, and kept.
#[test]
#[ignore = "writes seeds anew"]
fn certificates_are_made() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = "tagout.tagout-system.svc";
    let (leaf, key) = authority.signs(own, 2200, ExtendedKeyUsagePurpose::ServerAuth);
    let (over, over_key) = authority.signs(own, 2020, ExtendedKeyUsagePurpose::ServerAuth);
    let (caller, _) = authority.signs("apiserver", 2200, ExtendedKeyUsagePurpose::ClientAuth);
    let (stranger, _) = other.signs("apiserver", 2200, ExtendedKeyUsagePurpose::ClientAuth);
    let Authority(ca, ca_key) = &authority;
    let ca_key = ca_key.serialize_pem();
    let seeds = [
        ("good.whole.pem", vec![("ca.crt", ca), ("ca.key", &ca_key), ("tls.crt", &leaf), ("tls.key", &key)]),
        ("good.called.pem", vec![("ca.crt", ca), ("tls.crt", &leaf), ("tls.key", &key), ("shown", &caller)]),
        ("repaired.over.pem", vec![("ca.crt", ca), ("ca.key", &ca_key), ("tls.crt", &over), ("tls.key", &over_key)]),
        ("repaired.other-key.pem", vec![("ca.crt", ca), ("tls.crt", &leaf), ("tls.key", &over_key)]),
        ("repaired.stranger.pem", vec![("ca.crt", &other.0), ("shown", &stranger)]),
        (
            "good.two-authorities.pem",
            vec![("ca.crt", &other.0), ("ca.crt", ca), ("ca.key", &ca_key), ("tls.crt", &leaf), ("tls.key", &key)],
        ),
    ];
    let folder = folder();
    fs::create_dir_all(folder.join("seeds/certificates")).unwrap();
    for (name, parts) in seeds {
        let text: Vec<_> = parts.iter().map(|(name, text)| format!("== {name}\n{text}")).collect();
        fs::write(folder.join("seeds/certificates").join(name), text.concat()).unwrap();
    }
    fs::write(folder.join("src/callers.pem"), format!("{ca}{caller}")).unwrap();
}
