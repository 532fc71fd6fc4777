//! That OpenSSH itself takes what is made here for what it looks like.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use authenticator::{Authenticator, Intent, Kind, PRESENT, VERIFIED, armor, bytes_of};
use rstest::rstest;

const NAMESPACE: &str = "approval@tagout.dev";
const TEXT: &str = "Tagout approval, version 1\naction: Delete\n";

/// Whether `ssh-keygen -Y verify` takes the signature for alice's.
fn verifies(directory: &Path, key: &Authenticator, armored: &str, text: &str) -> bool {
    let (signers, signature) = (directory.join("signers"), directory.join("signature"));
    fs::write(&signers, format!("alice {}\n", key.line())).unwrap();
    fs::write(&signature, armored).unwrap();
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "alice", "-n", NAMESPACE, "-f"])
        .arg(&signers)
        .arg("-s")
        .arg(&signature)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait().unwrap().success()
}

#[rstest]
fn openssh_verifies_signatures_of_every_kind_of_key(
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
    #[values("sha512", "sha256")] hash: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    // Several keys: of P-256 one signature in a few has a number with a leading zero or a high bit.
    for number in 0..6 {
        let key = Authenticator::new(kind, &format!("key {number}"));
        let intent = Intent { hash: hash.to_owned(), flags: PRESENT | VERIFIED, ..Intent::new(NAMESPACE, TEXT) };
        let armored = key.signature(&intent).armored();
        assert!(verifies(directory.path(), &key, &armored, TEXT), "{kind:?} {number}");
        assert!(!verifies(directory.path(), &key, &armored, "another text\n"), "{kind:?} {number}");
    }
}

#[test]
fn openssh_refuses_flags_and_counters_that_were_changed_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    for kind in [Kind::SkEd25519, Kind::SkEcdsa] {
        let key = Authenticator::new(kind, "flags");
        let mut signature = key.signature(&Intent::new(NAMESPACE, TEXT));
        assert!(verifies(directory.path(), &key, &signature.armored(), TEXT));
        for trailer in [(PRESENT | VERIFIED, 7), (PRESENT, 8)] {
            signature.trailer = Some(trailer);
            assert!(!verifies(directory.path(), &key, &signature.armored(), TEXT), "{kind:?}");
        }
    }
}

#[test]
fn armor_is_what_ssh_keygen_writes() {
    let directory = tempfile::tempdir().unwrap();
    let (key, text) = (directory.path().join("key"), directory.path().join("text"));
    fs::write(&text, TEXT).unwrap();
    let run = |command: &mut Command| assert!(command.stderr(Stdio::null()).status().unwrap().success());
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    run(Command::new("ssh-keygen").args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]).arg(&key).arg(&text));
    let written = fs::read_to_string(directory.path().join("text.sig")).unwrap();
    assert_eq!(armor(&bytes_of(&written)), written);
}
