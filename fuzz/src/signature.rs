//! A signature in armor, or the line of a public key.

use base64ct::{Base64, Encoding};
use tagout::guard::{Key, Signed};

use super::sshsig;
use super::world::keys;

/// What every signature here would have to be over.
pub const TEXT: &str = "Tagout approval, version 1\naction: Delete\n";

pub fn signature(data: &[u8]) -> &'static str {
    let Ok(text) = str::from_utf8(data) else { return "nothing" };
    if let Ok(key) = Key::read(text) {
        check(&key, text);
        return "key";
    }
    let Ok(signed) = Signed::read(text) else { return "nothing" };
    drop(signed.key());
    let mut outcome = "unverified";
    for pair in keys() {
        let key = Key::read(&pair.line()).expect("it is a key");
        let Ok(gesture) = signed.verify(&key, TEXT) else { continue };
        assert!(signed.is_by(&key), "a signature counts for another key than its own");
        let flags = sshsig::verify(text, &pair, TEXT).expect("nobody else accepts it");
        let expected = if pair.kind().is_hardware() { (flags & 1 != 0, flags & 4 != 0) } else { (false, false) };
        assert_eq!((gesture.present, gesture.verified), expected);
        outcome = "verified";
    }
    outcome
}

fn check(key: &Key, line: &str) {
    let again = Key::read(&key.to_line()).expect("what it writes it reads");
    assert_eq!((again.point(), again.fingerprint()), (key.point(), key.fingerprint()));
    // The type is said twice, in words and within.
    let mut words = line.split_ascii_whitespace();
    let (kind, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let blob = Base64::decode_vec(blob).expect("base64");
    let own = authenticator::string(kind);
    assert!(blob.starts_with(&own), "its types differ");
    assert!([32, 65].contains(&key.point().len()));
    assert_eq!(key.is_hardware(), kind.starts_with("sk-"));
}
