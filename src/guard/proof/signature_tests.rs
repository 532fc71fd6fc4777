use std::fs;
use std::process::{Command, Stdio};

use authenticator::{Authenticator, Intent, Kind, PRESENT, Signature, VERIFIED, armor, bytes_of, string};
use rstest::rstest;

use super::*;

const TEXT: &str = "Tagout approval, version 1\naction: Delete\n";

fn intent() -> Intent {
    Intent::new(SIGNATURE_NAMESPACE, TEXT)
}

fn pair(kind: Kind) -> (Authenticator, Key) {
    let pair = Authenticator::new(kind, "alice");
    let key = Key::read(&pair.line()).unwrap();
    (pair, key)
}

/// What comes of an armored signature.
fn check(armored: &str, key: &Key, text: &str) -> Result<Gesture, SignatureFault> {
    let signed = Signed::read(armored)?;
    assert!(signed.is_by(key));
    signed.verify(key, text)
}

#[rstest]
fn a_signature_of_every_kind_of_key_is_read_and_verified(
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
    #[values("sha512", "sha256")] hash: &str,
) {
    // Several texts: of P-256 one signature in a few has a number with a leading zero or a high bit.
    let (pair, key) = pair(kind);
    for number in 0..16 {
        let text = format!("{TEXT}reason: {number}\n");
        let armored = pair.signature(&Intent { hash: hash.into(), text: text.clone(), ..intent() }).armored();
        let gesture = Gesture { present: kind.is_hardware(), verified: false };
        assert_eq!(check(&armored, &key, &text), Ok(gesture), "{number}");
    }
}

#[rstest]
#[case("ed25519", &[])]
#[case("ecdsa", &["-b", "256"])]
fn what_ssh_keygen_signs_is_read_and_verified(
    #[case] kind: &str,
    #[case] bits: &[&str],
    #[values("sha512", "sha256")] hash: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let (path, text) = (directory.path().join("key"), directory.path().join("text"));
    fs::write(&text, TEXT).unwrap();
    let run = |command: &mut Command| assert!(command.stderr(Stdio::null()).status().unwrap().success());
    run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&path).args(bits));
    run(Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", SIGNATURE_NAMESPACE, "-O", &format!("hashalg={hash}"), "-f"])
        .arg(&path)
        .arg(&text));
    let key = Key::read(&fs::read_to_string(directory.path().join("key.pub")).unwrap()).unwrap();
    let armored = fs::read_to_string(directory.path().join("text.sig")).unwrap();
    assert_eq!(check(&armored, &key, TEXT), Ok(Gesture::default()));
    // The shell takes the last line feed off.
    assert_eq!(check(armored.trim_end(), &key, TEXT), Ok(Gesture::default()));
}

#[rstest]
#[case(0, false, false)]
#[case(PRESENT, true, false)]
#[case(VERIFIED, false, true)]
#[case(PRESENT | VERIFIED, true, true)]
#[case(!(PRESENT | VERIFIED), false, false)]
fn what_was_done_at_the_key_is_read_from_its_flags(
    #[values(Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
    #[case] flags: u8,
    #[case] present: bool,
    #[case] verified: bool,
) {
    let (pair, key) = pair(kind);
    // A counter that looks like flags is none.
    for counter in [0, 7, 0x0505_0505, u32::MAX] {
        let armored = pair.signature(&Intent { flags, counter, ..intent() }).armored();
        assert_eq!(check(&armored, &key, TEXT), Ok(Gesture { present, verified }));
    }
}

#[rstest]
fn flags_or_counter_flipped_after_signing_prove_nothing(#[values(Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind) {
    let (pair, key) = pair(kind);
    let signature = pair.signature(&Intent { flags: 0, ..intent() });
    for trailer in [(PRESENT, 7), (VERIFIED, 7), (0, 8), (0x80, 7)] {
        let forged = Signature { trailer: Some(trailer), ..signature.clone() };
        assert_eq!(check(&forged.armored(), &key, TEXT), Err(SignatureFault::OtherText), "{trailer:?}");
    }
}

#[rstest]
fn a_signature_over_another_text_proves_nothing(
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
) {
    let (pair, key) = pair(kind);
    let armored = pair.sign(SIGNATURE_NAMESPACE, TEXT);
    for other in ["", "Tagout approval, version 1\naction: Loosen\n", TEXT.trim_end()] {
        assert_eq!(check(&armored, &key, other), Err(SignatureFault::OtherText), "{other:?}");
    }
}

#[rstest]
#[case("git")]
#[case("file")]
#[case("approval@tagout.dev ")]
#[case("Approval@tagout.dev")]
#[case("approval@tagout.dev\0")]
fn a_signature_made_for_another_use_is_none(#[case] namespace: &str) {
    let (pair, _) = pair(Kind::Ed25519);
    assert_eq!(Signed::read(&pair.sign(namespace, TEXT)).unwrap_err(), SignatureFault::OtherUse);
}

#[test]
fn a_signature_made_for_another_use_whose_namespace_was_overwritten_proves_nothing() {
    let (pair, key) = pair(Kind::Ed25519);
    let forged = Signature { namespace: SIGNATURE_NAMESPACE.into(), ..pair.signature(&Intent::new("git", TEXT)) };
    assert_eq!(check(&forged.armored(), &key, TEXT), Err(SignatureFault::OtherText));
}

#[rstest]
fn a_signature_that_borrows_another_persons_key_proves_nothing(
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
) {
    let (alice, key) = pair(kind);
    let mallory = Authenticator::new(kind, "mallory");
    let own = mallory.signature(&intent());
    let forged = Signature { key: alice.blob(), ..own.clone() };
    assert_eq!(check(&forged.armored(), &key, TEXT), Err(SignatureFault::OtherText));
    // Under its own name it is not the listed key's, and verifies for no other.
    let own = Signed::read(&own.armored()).unwrap();
    assert!(!own.is_by(&key));
    assert_eq!(own.verify(&key, TEXT), Err(SignatureFault::OtherText));
}

#[test]
fn a_key_for_another_application_is_another_key() {
    let (_, key) = pair(Kind::SkEd25519);
    let other = Authenticator::new(Kind::SkEd25519, "alice").for_application("ssh:other");
    let signature = other.signature(&intent());
    assert!(!Signed::read(&signature.armored()).unwrap().is_by(&key));
    let forged = Signature { key: Authenticator::new(Kind::SkEd25519, "alice").blob(), ..signature };
    assert_eq!(check(&forged.armored(), &key, TEXT), Err(SignatureFault::OtherText));
}

fn unreadable(forged: &Signature) {
    let read = Signed::read(&forged.armored());
    assert_eq!(read.unwrap_err(), SignatureFault::Unreadable, "{forged:?}");
}

#[rstest]
#[case(Kind::Ed25519, Kind::SkEd25519)]
#[case(Kind::SkEd25519, Kind::Ed25519)]
#[case(Kind::Ecdsa, Kind::SkEcdsa)]
#[case(Kind::SkEcdsa, Kind::Ecdsa)]
#[case(Kind::Ed25519, Kind::Ecdsa)]
#[case(Kind::SkEd25519, Kind::SkEcdsa)]
fn a_signature_of_one_kind_under_a_key_of_another_is_none(#[case] signed: Kind, #[case] listed: Kind) {
    let (signed, listed) = (Authenticator::new(signed, "alice"), Authenticator::new(listed, "alice"));
    let signature = signed.signature(&intent());
    let key = Key::read(&listed.line()).unwrap();
    unreadable(&Signature { key: listed.blob(), ..signature.clone() });
    // Called what the key is, with the bytes as they are or as that kind has them.
    for trailer in [None, Some((PRESENT, 7)), signature.trailer] {
        let algorithm = listed.kind().name().to_owned();
        let forged = Signature { key: listed.blob(), algorithm, trailer, ..signature.clone() };
        assert!(check(&forged.armored(), &key, TEXT).is_err(), "{forged:?}");
    }
}

#[rstest]
#[case("webauthn-sk-ecdsa-sha2-nistp256@openssh.com")]
#[case("ssh-ed25519-cert-v01@openssh.com")]
#[case("rsa-sha2-512")]
#[case("ecdsa-sha2-nistp384")]
#[case("none")]
#[case("")]
fn a_signature_of_a_kind_that_no_key_here_makes_is_none(
    #[case] algorithm: &str,
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
) {
    let (pair, _) = pair(kind);
    unreadable(&Signature { algorithm: algorithm.into(), ..pair.signature(&intent()) });
}

#[rstest]
fn a_blob_that_openssh_would_not_read_is_none(
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
) {
    let (pair, _) = pair(kind);
    let right = pair.signature(&intent());
    unreadable(&Signature { version: 0, ..right.clone() });
    unreadable(&Signature { version: 2, ..right.clone() });
    unreadable(&Signature { namespace: String::new(), ..right.clone() });
    unreadable(&Signature { reserved: vec![0], ..right.clone() });
    unreadable(&Signature { hash: "sha1".into(), ..right.clone() });
    unreadable(&Signature { hash: String::new(), ..right.clone() });
    unreadable(&Signature { trailing: vec![0], ..right.clone() });
    unreadable(&Signature { inner_trailing: vec![0], ..right.clone() });
    unreadable(&Signature { signature: Vec::new(), ..right.clone() });
    unreadable(&Signature { signature: right.signature[1..].to_vec(), ..right.clone() });
    unreadable(&Signature { signature: [right.signature.clone(), vec![0]].concat(), ..right.clone() });
    unreadable(&Signature { key: Vec::new(), ..right.clone() });
    unreadable(&Signature { key: [right.key.clone(), vec![0]].concat(), ..right.clone() });
    let dropped = if kind.is_hardware() { None } else { Some((PRESENT, 7)) };
    unreadable(&Signature { trailer: dropped, ..right.clone() });
}

#[test]
fn reserved_bytes_that_are_signed_are_refused_all_the_same() {
    let (pair, _) = pair(Kind::Ed25519);
    unreadable(&pair.signature(&Intent { reserved: b"later".to_vec(), ..intent() }));
}

#[rstest]
fn a_blob_cut_short_anywhere_is_none_and_no_panic(
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
) {
    let (pair, _) = pair(kind);
    let blob = pair.signature(&intent()).blob();
    for length in 0..blob.len() {
        assert_eq!(Signed::read(&armor(&blob[..length])).unwrap_err(), SignatureFault::Unreadable, "{length}");
    }
}

/// The crate that reads blobs takes the lengths of their parts for a hint.
#[test]
fn lengths_that_are_not_true_are_refused() {
    let (pair, _) = pair(Kind::SkEcdsa);
    let blob = pair.signature(&intent()).blob();
    let key = string(pair.blob());
    let at = blob.windows(key.len()).position(|window| window == key).unwrap();
    for length in [u32::try_from(pair.blob().len()).unwrap() + 1, 0x000f_ffff] {
        let mut forged = blob.clone();
        forged[at..at + 4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(Signed::read(&armor(&forged)).unwrap_err(), SignatureFault::Unreadable, "{length}");
    }
}

#[rstest]
fn any_bit_of_a_signature_that_is_flipped_makes_it_worthless(
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
) {
    let (pair, key) = pair(kind);
    let blob = pair.signature(&intent()).blob();
    for at in 0..blob.len() {
        let mut forged = blob.clone();
        forged[at] ^= 1 << (at % 8);
        let counts =
            Signed::read(&armor(&forged)).is_ok_and(|read| read.is_by(&key) && read.verify(&key, TEXT).is_ok());
        assert!(!counts, "byte {at}");
    }
}

#[test]
fn armor_that_ssh_keygen_does_not_write_is_refused() {
    let (pair, key) = pair(Kind::SkEd25519);
    let right = pair.sign(SIGNATURE_NAMESPACE, TEXT);
    assert!(check(&right, &key, TEXT).is_ok());
    let body: String = right.lines().filter(|line| !line.starts_with('-')).collect();
    let wrapped = |width: usize, end: &str| {
        let lines: Vec<_> = body.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN SSH SIGNATURE-----{end}{}{end}-----END SSH SIGNATURE-----{end}", lines.join(end))
    };
    assert_eq!(wrapped(70, "\n"), right);
    for armored in [
        String::new(),
        body.clone(),
        wrapped(64, "\n"),
        wrapped(76, "\n"),
        wrapped(10_000, "\n"),
        wrapped(70, "\r\n"),
        wrapped(70, "\n\n"),
        wrapped(70, "\n "),
        format!("\n{right}"),
        format!(" {right}"),
        format!("{right}\n"),
        format!("{right} "),
        format!("{right}{right}"),
        format!("I, alice, approve everything.\n{right}"),
        right.replace("SIGNATURE-----\n", "SIGNATURE-----\nComment: x\n\n"),
        right.replace("SSH SIGNATURE", "SIGNED SSH SIGNATURE"),
        right.replace("SSH SIGNATURE", "PGP SIGNATURE"),
        right.replace("-----END", "----END"),
        right.replace('=', ""),
    ] {
        assert_eq!(Signed::read(&armored).unwrap_err(), SignatureFault::Unreadable, "{armored}");
    }
}

#[test]
fn base64_with_bits_that_mean_nothing_is_refused() {
    // One spare byte in the last group, so that there are bits to play with.
    let found = Kind::ALL.iter().find_map(|kind| {
        let armored = pair(*kind).0.sign(SIGNATURE_NAMESPACE, TEXT);
        armored.contains("==\n").then_some(armored)
    });
    let right = found.expect("one of four lengths leaves one byte over");
    let at = right.find("==\n").unwrap() - 1;
    let letter = right.as_bytes()[at];
    for other in (b'A'..=b'Z').chain(b'a'..=b'z').filter(|other| *other != letter) {
        let mut forged = right.clone().into_bytes();
        forged[at] = other;
        let forged = String::from_utf8(forged).unwrap();
        assert!(Signed::read(&forged).is_err() || bytes_of(&forged) != bytes_of(&right), "{forged}");
    }
}

#[test]
fn five_kilobytes_of_armor_are_refused_before_they_are_parsed() {
    let (pair, _) = pair(Kind::Ed25519);
    let long = pair.sign(&"n".repeat(5 * 1024), TEXT);
    assert_eq!(Signed::read(&long).unwrap_err(), SignatureFault::Unreadable);
    // One that is short enough is read so far as to tell what it is for.
    let short = pair.sign(&"n".repeat(2 * 1024), TEXT);
    assert_eq!(Signed::read(&short).unwrap_err(), SignatureFault::OtherUse);
}

proptest::proptest! {
    #[test]
    fn whatever_stands_there_is_read_or_refused_without_a_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        text in ".{0,200}",
    ) {
        let framed = armor(&[b"SSHSIG\0\0\0\x01".as_slice(), &bytes].concat());
        proptest::prop_assert!(Signed::read(&framed).is_err());
        proptest::prop_assert!(Signed::read(&text).is_err());
    }
}
