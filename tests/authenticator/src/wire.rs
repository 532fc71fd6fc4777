//! The few encodings of SSH that keys and signatures are made of.

use base64ct::{Base64, Encoding};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// Bytes, after their length (RFC 4251).
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u32::try_from(bytes.len()).expect("tests make nothing that long");
    [&length.to_be_bytes(), bytes].concat()
}

/// A positive number, without leading zeros and not looking negative (RFC 4251).
pub fn mpint(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let mut bytes = number[zeros..].to_vec();
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    string(bytes)
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Text around a signature, in lines of 70 letters, as ssh-keygen writes it.
pub fn armor(blob: &[u8]) -> String {
    let mut text = format!("{BEGIN}\n");
    let mut rest = base64(blob);
    while !rest.is_empty() {
        let after = rest.split_off(rest.len().min(70));
        text.push_str(&rest);
        text.push('\n');
        rest = after;
    }
    text + END + "\n"
}

/// The signature in binary that stands in such text.
///
/// # Panics
///
/// Where it is no such text.
pub fn bytes_of(armored: &str) -> Vec<u8> {
    let body: String = armored.lines().filter(|line| !line.starts_with("-----")).collect();
    Base64::decode_vec(&body).expect("what ssh-keygen writes is base64")
}
