//! Certificates that somebody else makes, like cert-manager. Their Secret is only read; which authorities are trusted
//! meanwhile stands in one of our own, or replicas that restart would not know of an authority that others serve by.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;

use super::authority::{Authority, MOST};
use super::leaf::{CA, CERTIFICATE, Fault, KEY, Leaf};

/// The Secret that says which authorities are trusted.
pub(super) const TRUSTED: &str = "tagout-authorities";

type Data = BTreeMap<String, ByteString>;

/// A certificate, and the authorities by one of which it has to be.
pub fn read(data: &Data) -> Result<(Leaf, Vec<Authority>), Fault> {
    let bytes = |name| data.get(name).filter(|bytes| !bytes.0.is_empty()).ok_or(Fault::Missing(name));
    let text = |name| String::from_utf8(bytes(name)?.0.clone()).map_err(|_| Fault::Unreadable(name));
    let leaf = Leaf { certificate: text(CERTIFICATE)?, key: text(KEY)? };
    let authorities = Authority::read(&bytes(CA)?.0);
    if authorities.is_empty() { Err(Fault::Unreadable(CA)) } else { Ok((leaf, authorities)) }
}

pub fn trusted(data: &Data) -> Vec<Authority> {
    data.get(CA).map(|bytes| Authority::read(&bytes.0)).unwrap_or_default()
}

pub fn data(trusted: &[Authority]) -> Data {
    Data::from([(CA.to_owned(), ByteString(Authority::pem(trusted).into_bytes()))])
}

/// What is to be trusted from now on: what is provided, and what was trusted before as long as something may be served
/// by it.
pub fn wanted(
    trusted: &[Authority],
    provided: &[Authority],
    served: Option<&Authority>,
    unchanged: Duration,
    drop_after: Duration,
) -> Vec<Authority> {
    let follows = served.is_some_and(|served| provided.contains(served));
    let known = provided.iter().all(|one| trusted.contains(one));
    let mut wanted = provided.to_vec();
    if follows && known && unchanged >= drop_after {
        return wanted;
    }
    // Where all is known and this is not, another replica has seen that it is over.
    let lost = served.filter(|_| !known);
    for one in trusted.iter().chain(lost) {
        if !wanted.contains(one) && wanted.len() < MOST {
            wanted.push(one.clone());
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use rustls::pki_types::UnixTime;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn made() -> Authority {
        Authority::make(UnixTime::now(), HOUR).unwrap().0
    }

    #[test]
    fn an_authority_that_was_replaced_at_once_is_trusted_until_nothing_is_served_by_it() {
        let (old, new) = (made(), made());
        let (before, after) = ([old.clone()], [new.clone()]);
        let both = [new.clone(), old.clone()];
        let ask = |trusted: &[Authority], served: Option<&Authority>, hours: u32| {
            wanted(trusted, &after, served, HOUR * hours, HOUR)
        };
        assert!(wanted(&before, &before, Some(&old), HOUR, HOUR) == before);
        assert!(ask(&before, Some(&old), 9) == both, "it joins, whatever time has passed");
        assert!(ask(&both, Some(&old), 9) == both, "the old one is served here");
        assert!(ask(&both, Some(&new), 0) == both, "another replica may serve it");
        assert!(ask(&both, None, 9) == both);
        assert!(ask(&both, Some(&new), 1) == after);
        assert!(ask(&after, Some(&old), 0) == after, "another replica has seen that it is over");
    }

    #[test]
    fn what_is_trusted_is_written_anew_when_it_is_lost_and_what_is_served_stays_in_it() {
        let (old, new) = (made(), made());
        assert!(wanted(&[], from_ref(&new), Some(&old), HOUR, HOUR) == [new.clone(), old]);
        assert!(wanted(&[], from_ref(&new), None, HOUR, HOUR) == [new]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let part = |name: &str, text: &str| (name.to_owned(), ByteString(text.into()));
        let all = [part(CERTIFICATE, "one"), part(KEY, "two"), part(CA, "three")];
        assert_eq!(read(&Data::from(all.clone())).err(), Some(Fault::Unreadable(CA)));
        for name in [CERTIFICATE, KEY, CA] {
            let mut data = Data::from(all.clone());
            data.insert(name.to_owned(), ByteString(Vec::new()));
            assert_eq!(read(&data).err(), Some(Fault::Missing(name)));
            data.remove(name);
            assert_eq!(read(&data).err(), Some(Fault::Missing(name)));
        }
    }
}
