//! What a request's address says beside what it is about.

/// The first parameter of this name.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value))
}

/// What comes after the question mark.
pub(super) fn query(uri: &str) -> &str {
    uri.split_once('?').map_or("", |(_, query)| query)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digits =
                    [ahead.next(), ahead.next()].map(|digit| digit.and_then(|one| char::from(one).to_digit(16)));
                if let [Some(high), Some(low)] = digits {
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    rest = ahead;
                } else {
                    bytes.push(byte);
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_read_as_it_was_meant() {
        let uri = "/api/v1/pods?labelSelector=app%3Dapi%2Ctier+in+%28a%29&dryRun=All&broken=%zz%4";
        let of = |name| parameter(query(uri), name);
        assert_eq!(of("labelSelector").as_deref(), Some("app=api,tier in (a)"));
        assert_eq!(of("dryRun").as_deref(), Some("All"));
        assert_eq!(of("broken").as_deref(), Some("%zz%4"));
        assert_eq!(of("limit"), None);
        assert_eq!(parameter(query("/api/v1/pods"), "dryRun"), None);
    }
}
