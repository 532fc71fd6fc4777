use std::fs;
use std::process::{Command, Stdio};

use authenticator::{Authenticator, Kind, key_blob, key_line, string};
use rstest::rstest;

use super::*;

fn line(kind: Kind, point: &[u8]) -> String {
    key_line(kind.name(), &key_blob(kind, point, "ssh:"))
}

#[rstest]
fn every_kind_of_key_that_may_sign_is_read(
    #[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
) {
    let pair = Authenticator::new(kind, "alice");
    let key = Key::read(&pair.line()).unwrap();
    assert_eq!(key.is_hardware(), kind.is_hardware());
    assert_eq!(key.kind() == "hardware key", kind.is_hardware());
    assert_eq!(key.point(), pair.point());
    assert_eq!(Key::read(&key.to_line()), Ok(key.clone()));
    assert!(pair.line().starts_with(key.to_line().trim_end()));
    assert_eq!(key.to_string(), key.fingerprint());
}

/// Made by `ssh-keygen`, and the fingerprint that `ssh-keygen -l` prints of it.
fn made(kind: &str, bits: &str) -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "a comment", "-f"])
        .arg(&path)
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let line = fs::read_to_string(path.with_extension("pub")).unwrap();
    let print = printed(&line);
    (directory, line, print)
}

fn printed(line: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pub");
    fs::write(&path, line).unwrap();
    let output = Command::new("ssh-keygen").arg("-l").arg("-f").arg(&path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_fingerprint_is_what_ssh_keygen_prints() {
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256")] {
        let (_directory, line, print) = made(kind, bits);
        assert_eq!(Key::read(&line).unwrap().fingerprint(), print);
    }
    for kind in Kind::ALL {
        let line = Authenticator::new(kind, "alice").line();
        assert_eq!(Key::read(&line).unwrap().fingerprint(), printed(&line), "{kind:?}");
    }
}

#[rstest]
#[case("ed25519", "256")]
#[case("ecdsa", "256")]
#[case("rsa", "2048")]
fn a_private_key_in_the_wrong_place_is_refused_and_never_quoted(#[case] kind: &str, #[case] bits: &str) {
    let (directory, _, _) = made(kind, bits);
    let secret = fs::read_to_string(directory.path().join("key")).unwrap();
    // As it is, and as somebody squeezes it into a line.
    for text in [secret.clone(), secret.replace('\n', " "), format!("ssh-ed25519 {}", secret.replace('\n', " "))] {
        let fault = Key::read(&text).unwrap_err();
        assert_eq!(fault, KeyFault::Private);
        let said = format!("{fault} {fault:?}");
        assert!(!secret.lines().any(|line| said.contains(line)), "{said}");
    }
    // Without its first and last line it is no key, and is not quoted either.
    let body: String = secret.lines().filter(|line| !line.starts_with("-----")).collect();
    let fault = Key::read(&body).unwrap_err();
    assert!(!format!("{fault} {fault:?}").contains(&body[..16]));
}

#[rstest]
#[case("rsa", "2048")]
#[case("ecdsa", "384")]
#[case("ecdsa", "521")]
fn a_key_of_a_type_that_cannot_sign_approvals_is_told_so(#[case] kind: &str, #[case] bits: &str) {
    assert_eq!(Key::read(&made(kind, bits).1), Err(KeyFault::Type));
}

#[test]
fn a_certificate_is_no_key() {
    let (authority, _, _) = made("ed25519", "256");
    let (directory, _, _) = made("ed25519", "256");
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-I", "alice", "-n", "alice", "-s"])
        .arg(authority.path().join("key"))
        .arg(directory.path().join("key.pub"))
        .stderr(Stdio::null())
        .status();
    assert!(signed.unwrap().success());
    let certificate = fs::read_to_string(directory.path().join("key-cert.pub")).unwrap();
    assert_eq!(Key::read(&certificate), Err(KeyFault::Certificate));
    // Nor where it is called a key.
    let disguised = certificate.replacen("-cert-v01@openssh.com", "", 1);
    assert_eq!(Key::read(&disguised), Err(KeyFault::Unreadable));
}

#[rstest]
#[case("no-touch-required ")]
#[case("cert-authority ")]
#[case("command=\"x\",no-pty ")]
#[case("alice@example.com ")]
#[case("@revoked * ")]
fn options_as_in_authorized_keys_are_refused(#[case] options: &str) {
    let line = Authenticator::new(Kind::SkEd25519, "alice").line();
    assert_eq!(Key::read(&format!("{options}{line}")), Err(KeyFault::Options));
}

#[rstest]
#[case::nothing("")]
#[case::blanks(" \t ")]
#[case::a_word("alice")]
#[case::a_type("ssh-ed25519")]
#[case::no_base64("ssh-ed25519 !!!!")]
#[case::an_empty_blob("ssh-ed25519 AAAA")]
#[case::no_such_type("ssh-made-up AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ")]
#[case::short("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIe")]
fn what_is_no_public_key_is_refused(#[case] line: &str) {
    assert_eq!(Key::read(line), Err(KeyFault::Unreadable));
}

#[test]
fn a_line_is_one_line() {
    let (one, other) = (Authenticator::new(Kind::Ed25519, "alice").line(), Authenticator::new(Kind::Ed25519, "bob"));
    for end in ["\n", "\r", "\r\n"] {
        assert_eq!(Key::read(&format!("{one}{end}{}", other.line())), Err(KeyFault::Unreadable));
        assert!(Key::read(&format!("{one}{end}")).is_ok());
    }
}

#[test]
fn the_comment_makes_no_other_key() {
    let pair = Authenticator::new(Kind::Ed25519, "alice");
    let bare = pair.line().trim_end_matches(" test").to_owned();
    for comment in ["", " x", " a comment of ssh-rsa words", " \u{202e}x"] {
        assert_eq!(Key::read(&format!("{bare}{comment}")), Key::read(&pair.line()));
    }
}

#[test]
fn a_type_that_is_not_what_the_key_says_is_refused() {
    for (named, real) in
        [(Kind::SkEd25519, Kind::Ed25519), (Kind::Ed25519, Kind::SkEd25519), (Kind::Ecdsa, Kind::SkEcdsa)]
    {
        let blob = Authenticator::new(real, "alice").blob();
        assert_eq!(Key::read(&key_line(named.name(), &blob)), Err(KeyFault::Unreadable));
    }
}

#[rstest]
fn bytes_after_the_key_are_refused(#[values(Kind::Ed25519, Kind::Ecdsa, Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind) {
    let blob = [Authenticator::new(kind, "alice").blob(), vec![0]].concat();
    assert_eq!(Key::read(&key_line(kind.name(), &blob)), Err(KeyFault::Unreadable));
}

/// Points of small order: anybody finds a signature that such a key accepts for one text in eight, or for all.
const SMALL_ORDER: [[u8; 32]; 8] = [
    [0; 32],
    edge(1, 0, 0),
    edge(0xec, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    edge(1, 0, 0x80),
    edge(0xed, 0xff, 0x7f),
    edge(0xee, 0xff, 0x7f),
];

/// A number with this first byte, this last byte and these between.
const fn edge(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

#[test]
fn a_point_with_which_anybody_could_sign_is_refused() {
    for point in SMALL_ORDER {
        for kind in [Kind::Ed25519, Kind::SkEd25519] {
            assert_eq!(Key::read(&line(kind, &point)), Err(KeyFault::Weak), "{point:02x?}");
        }
    }
}

#[test]
fn a_second_spelling_of_a_point_is_refused() {
    // y and y + p are one point; of those below 19 some are good points, which the crate reads in both spellings.
    let mut tried = 0;
    for small in 0..19 {
        let spelled = edge(0xed + small, 0xff, 0x7f);
        let good = ed25519_dalek::VerifyingKey::from_bytes(&spelled).is_ok_and(|key| !key.is_weak());
        tried += u32::from(good);
        assert_eq!(Key::read(&line(Kind::Ed25519, &spelled)), Err(KeyFault::Weak), "{small}");
        if good {
            assert!(Key::read(&line(Kind::Ed25519, &edge(small, 0, 0))).is_ok(), "{small}");
        }
    }
    assert!(tried > 0, "no such point was tried");
}

#[test]
fn the_bound_of_the_field_is_exact() {
    assert!(is_reduced(&edge(0xec, 0xff, 0x7f)) && is_reduced(&edge(0xec, 0xff, 0xff)));
    assert!(!is_reduced(&edge(0xed, 0xff, 0x7f)) && !is_reduced(&edge(0xed, 0xff, 0xff)));
    for at in 1..31 {
        let mut below = edge(0xff, 0xff, 0x7f);
        below[at] = 0xfe;
        assert!(is_reduced(&below), "{at}");
    }
    assert!(is_reduced(&edge(0xff, 0xff, 0x7e)));
}

#[rstest]
fn a_point_of_p256_is_written_out_and_on_the_curve(#[values(Kind::Ecdsa, Kind::SkEcdsa)] kind: Kind) {
    let right = Authenticator::new(kind, "alice").point();
    assert!(Key::read(&line(kind, &right)).is_ok());
    let compressed = [&[2 + (right[64] & 1)], &right[1..33]].concat();
    let hybrid = [&[6 + (right[64] & 1)], &right[1..]].concat();
    let mut off_curve = right.clone();
    off_curve[64] ^= 1;
    for point in [compressed, hybrid, off_curve, vec![0], Vec::new(), vec![4; 65], right[..64].to_vec()] {
        assert_eq!(Key::read(&line(kind, &point)), Err(KeyFault::Unreadable), "{point:02x?}");
    }
}

#[test]
fn a_curve_that_is_not_what_the_type_says_is_refused() {
    let point = Authenticator::new(Kind::Ecdsa, "alice").point();
    let blob = [string(Kind::Ecdsa.name()), string("nistp384"), string(point)].concat();
    assert_eq!(Key::read(&key_line(Kind::Ecdsa.name(), &blob)), Err(KeyFault::Unreadable));
}

#[rstest]
#[case("ssh:", true)]
#[case("ssh:tagout", true)]
#[case("https://accounts.example.com", false)]
#[case("", false)]
#[case("SSH:", false)]
#[case(" ssh:", false)]
fn a_hardware_key_of_another_application_is_refused(
    #[case] application: &str,
    #[case] good: bool,
    #[values(Kind::SkEd25519, Kind::SkEcdsa)] kind: Kind,
) {
    let pair = Authenticator::new(kind, "alice").for_application(application);
    let read = Key::read(&pair.line()).map(drop);
    assert_eq!(read, if good { Ok(()) } else { Err(KeyFault::Application) });
}

#[test]
fn one_point_is_one_key_however_it_is_listed() {
    for (file, hardware) in [(Kind::Ed25519, Kind::SkEd25519), (Kind::Ecdsa, Kind::SkEcdsa)] {
        let read = |pair: Authenticator| Key::read(&pair.line()).unwrap();
        let one = read(Authenticator::new(file, "alice"));
        for same in [
            read(Authenticator::new(hardware, "alice")),
            read(Authenticator::new(hardware, "alice").for_application("ssh:x")),
        ] {
            assert_eq!(one.point(), same.point());
            assert_ne!(one.fingerprint(), same.fingerprint());
        }
        assert_ne!(one.point(), read(Authenticator::new(hardware, "bob")).point());
    }
}
