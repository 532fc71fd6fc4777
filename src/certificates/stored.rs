use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use rcgen::KeyPair;
use rustls::pki_types::UnixTime;

use super::authority::{Authority, MOST};
use super::leaf::{CA, CERTIFICATE, Fault, Good, KEY, Leaf, Names};
use super::lives::Lives;

/// What the Secret of our own holds, as far as it can be read.
///
/// An older Tagout reads it too, and knows one authority: it takes the first certificate of `ca.crt` for it, `ca.key`
/// for its key, and writes all of `ca.crt` into the entries. So the one that signs stands first, and the key of the next
/// one apart; an older Tagout that writes takes that away, and no more.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Stored {
    pub(super) authorities: Vec<Authority>,
    pub(super) key: Option<String>,
    pub(super) next_key: Option<String>,
    pub leaf: Option<Leaf>,
}

/// What is served now, and by which authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Served {
    pub leaf: Leaf,
    pub signer: Authority,
}

/// What a step depends on, beside what is found.
pub struct View<'a> {
    pub names: &'a Names,
    pub lives: Lives,
    pub now: UnixTime,
    /// What this replica last found good.
    pub known: Option<&'a Stored>,
    pub served: Option<&'a Served>,
    /// For how long every entry has carried all authorities that are found, by a clock that only ticks.
    pub stood: Duration,
    /// For how long the same authorities have been found.
    pub unchanged: Duration,
}

pub enum Step {
    Stand,
    Write(Box<Stored>, String),
}

const CA_KEY: &str = "ca.key";
const NEXT_KEY: &str = "next-ca.key";
const PARTS: [&str; 5] = [CA, CA_KEY, NEXT_KEY, CERTIFICATE, KEY];

type Data = BTreeMap<String, ByteString>;

impl Stored {
    pub fn read(data: &Data) -> Self {
        let text = |name: &str| {
            let bytes = data.get(name).filter(|bytes| !bytes.0.is_empty())?;
            String::from_utf8(bytes.0.clone()).ok()
        };
        let leaf = text(CERTIFICATE).zip(text(KEY)).map(|(certificate, key)| Leaf { certificate, key });
        let authorities = data.get(CA).map(|bytes| Authority::read(&bytes.0)).unwrap_or_default();
        Self { authorities, key: text(CA_KEY), next_key: text(NEXT_KEY), leaf }
    }

    pub fn data(&self) -> Data {
        let leaf = self.leaf.as_ref();
        let parts = [
            (CA, Some(Authority::pem(&self.authorities))),
            (CA_KEY, self.key.clone()),
            (NEXT_KEY, self.next_key.clone()),
            (CERTIFICATE, leaf.map(|leaf| leaf.certificate.clone())),
            (KEY, leaf.map(|leaf| leaf.key.clone())),
        ];
        parts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), ByteString(text?.into_bytes())))).collect()
    }

    /// Whether the Secret says this, and says it in this way. What others put beside it does not matter.
    pub(super) fn is_written(&self, data: &Data) -> bool {
        let own = self.data();
        PARTS.iter().all(|part| own.get(*part) == data.get(*part))
    }

    pub fn good(&self, names: &Names, now: UnixTime) -> Result<Good, Fault> {
        if self.authorities.is_empty() {
            return Err(Fault::Missing(CA));
        }
        self.leaf.as_ref().ok_or(Fault::Missing(CERTIFICATE))?.good(&self.authorities, names, now)
    }

    /// What follows on what is found. It reads no clock: those of replicas and API servers may jump.
    pub fn step(&self, data: &Data, view: &View) -> Result<Step, Fault> {
        let good = match self.good(view.names, view.now) {
            Ok(good) => good,
            Err(fault) => return Ok(write(self.repaired(view)?, &fault.to_string())),
        };
        let mut wanted = self.in_order(&good.signer, view);
        if let Some(lost) = view.replaces(&wanted.authorities, &good.signer) {
            wanted.add(lost);
            return Ok(write(wanted, "another authority was put there by hand; the one until now stays beside it"));
        }
        // Keys that were lost, a replica may still have.
        if let Some(known) = view.known.filter(|known| known.authorities.first() == Some(&good.signer)) {
            if wanted.signing_key().is_none() {
                wanted.key.clone_from(&known.key);
            }
            if wanted.next_key.is_none() {
                wanted.next_key.clone_from(&known.next_key);
                wanted = wanted.in_order(&good.signer, view);
            }
        }
        if !wanted.is_written(data) {
            return Ok(write(wanted, "it is put in order"));
        }
        let left = |ends: i64| view.left(ends);
        let key = wanted.signing_key();
        if let Some(key) = &key
            && left(good.ends) < view.lives.renew_certificate()
        {
            wanted.leaf = Some(Leaf::by(&good.signer, key, view.names, view.now, view.lives.certificate)?);
            return Ok(write(wanted, "the certificate is renewed before it runs out"));
        }
        if wanted.next_key.is_some() {
            let stood = view.stood >= view.lives.overlap;
            if stood || left(good.signer.ends()) < view.lives.hurry() {
                let why = "the next authority signs from now on";
                return Ok(wanted.promoted(view)?.map_or(Step::Stand, |promoted| write(promoted, why)));
            }
            return Ok(Step::Stand);
        }
        if wanted.authorities.len() > 1 {
            let follows = view.served.is_some_and(|served| served.signer == good.signer);
            if follows && view.unchanged >= view.lives.drop_authority() {
                wanted.authorities.truncate(1);
                return Ok(write(wanted, "nothing is served by the earlier authority any more: it goes"));
            }
            return Ok(Step::Stand);
        }
        if key.is_none() || left(good.signer.ends()) < view.lives.replace_authority() {
            let (next, key) = Authority::make(view.now, view.lives.authority)?;
            wanted.authorities.push(next);
            wanted.next_key = Some(key);
            return Ok(write(wanted, "the next authority is there, long before this one ends"));
        }
        Ok(Step::Stand)
    }

    /// The one that signs first, then the next one, then all others. Keys that belong to none of these go.
    fn in_order(&self, signer: &Authority, view: &View) -> Self {
        let next = self.next_key.as_ref().and_then(|text| Some((text, KeyPair::from_pem(text).ok()?)));
        let next = next.and_then(|(text, key)| {
            let of_key = |one: &&Authority| one.is_of(&key) && *one != signer && one.is_valid(view.now);
            Some((text.clone(), self.authorities.iter().find(of_key)?.clone()))
        });
        let (next_key, next) = next.unzip();
        let mut ordered = Self { authorities: vec![signer.clone()], next_key, ..self.clone() };
        next.into_iter().chain(self.authorities.iter().cloned()).for_each(|one| ordered.add(one));
        ordered
    }

    fn add(&mut self, authority: Authority) {
        if !self.authorities.contains(&authority) && self.authorities.len() < MOST {
            self.authorities.push(authority);
        }
    }

    /// The key of the authority that signs, if it is that.
    fn signing_key(&self) -> Option<KeyPair> {
        let key = KeyPair::from_pem(self.key.as_ref()?).ok()?;
        self.authorities.first()?.is_of(&key).then_some(key)
    }

    /// With the next authority in the place of the one that signs.
    fn promoted(self, view: &View) -> Result<Option<Self>, Fault> {
        let Some(text) = self.next_key.clone() else { return Ok(None) };
        self.signed_with(&text, view)
    }

    /// With a certificate by whichever authority this is the key of.
    fn signed_with(&self, text: &str, view: &View) -> Result<Option<Self>, Fault> {
        let Ok(key) = KeyPair::from_pem(text) else { return Ok(None) };
        let of_key = |one: &&Authority| one.is_of(&key) && one.is_valid(view.now);
        let Some(signer) = self.authorities.iter().find(of_key) else { return Ok(None) };
        let leaf = Leaf::by(signer, &key, view.names, view.now, view.lives.certificate)?;
        let signed = Self { key: Some(text.to_owned()), leaf: Some(leaf), ..self.clone() };
        Ok(Some(signed.in_order(signer, view)).filter(|signed| signed.good(view.names, view.now).is_ok()))
    }

    /// What was good until now, or what an authority that is known can sign, or all new. What was trusted until now, stays
    /// beside it: some replica may serve by it.
    fn repaired(&self, view: &View) -> Result<Self, Fault> {
        let mut repaired = match view.known.filter(|known| known.good(view.names, view.now).is_ok()) {
            Some(known) => known.clone(),
            None => self.signed_anew(view)?,
        };
        let known = view.known.iter().flat_map(|known| &known.authorities);
        let all = self.authorities.iter().chain(known).chain(view.served.map(|served| &served.signer));
        all.filter(|one| one.is_valid(view.now)).for_each(|one| repaired.add(one.clone()));
        Ok(repaired)
    }

    fn signed_anew(&self, view: &View) -> Result<Self, Fault> {
        for source in [Some(self), view.known].into_iter().flatten() {
            // The next authority, where the other is lost, has stood in the entries for a while.
            for key in [&source.key, &source.next_key].into_iter().flatten() {
                if let Some(signed) = source.signed_with(key, view)? {
                    return Ok(signed);
                }
            }
        }
        let (authority, key) = Authority::make(view.now, view.lives.authority)?;
        let new = Self { authorities: vec![authority], key: Some(key.clone()), ..Self::default() };
        new.signed_with(&key, view)?.ok_or_else(|| Fault::NotMade("what was made is not good".to_owned()))
    }
}

impl View<'_> {
    fn left(&self, ends: i64) -> Duration {
        let ends = u64::try_from(ends).unwrap_or_default();
        Duration::from_secs(ends.saturating_sub(self.now.as_secs()))
    }

    /// The authority that replicas still serve by, where it was taken away in favour of one that nobody knew.
    fn replaces(&self, authorities: &[Authority], signer: &Authority) -> Option<Authority> {
        let served = self.served?;
        let was_known = self.known.is_some_and(|known| known.authorities.contains(signer));
        let good = served.leaf.good(std::slice::from_ref(&served.signer), self.names, self.now).is_ok();
        (good && !was_known && !authorities.contains(&served.signer)).then(|| served.signer.clone())
    }
}

fn write(stored: Stored, why: &str) -> Step {
    Step::Write(Box::new(stored), why.to_owned())
}
