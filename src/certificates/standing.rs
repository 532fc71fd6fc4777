use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::authority::Authority;

/// What entries say of authorities, as PEM, each once. Nothing: it is not known.
pub type Bundles = BTreeSet<Vec<u8>>;

/// What this replica has seen, and for how long, by a clock that only ticks: that of the day may jump.
#[derive(Default)]
pub(super) struct Memory {
    in_every_entry: HashMap<Authority, Instant>,
    found: Option<(Vec<Authority>, Instant)>,
}

impl Memory {
    pub(super) fn hear(&mut self, bundles: &Bundles, now: Instant) {
        let mut each = bundles.iter().map(|bundle| Authority::read(bundle));
        let first = each.next().unwrap_or_default();
        let common = each.fold(first, |mut common, bundle| {
            common.retain(|one| bundle.contains(one));
            common
        });
        self.in_every_entry.retain(|one, _| common.contains(one));
        for one in common {
            self.in_every_entry.entry(one).or_insert(now);
        }
    }

    /// For how long every entry has carried all of these.
    pub(super) fn stood(&self, authorities: &[Authority], now: Instant) -> Option<Duration> {
        let each = authorities.iter().map(|one| Some(now.saturating_duration_since(*self.in_every_entry.get(one)?)));
        each.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// For how long the same have been found.
    pub(super) fn unchanged(&mut self, found: &[Authority], now: Instant) -> Duration {
        let since = match &self.found {
            Some((before, since)) if before == found => *since,
            _ => self.found.insert((found.to_vec(), now)).1,
        };
        now.saturating_duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn made() -> Authority {
        Authority::make(UnixTime::now(), SECOND * 3600).unwrap().0
    }

    fn bundle(authorities: &[&Authority]) -> Vec<u8> {
        Authority::pem(&authorities.iter().map(|one| (*one).clone()).collect::<Vec<_>>()).into_bytes()
    }

    #[test]
    fn an_authority_stands_from_when_the_last_entry_carries_it_until_one_does_not() {
        let (old, new) = (made(), made());
        let both = [old.clone(), new.clone()];
        let (mut memory, start) = (Memory::default(), Instant::now());
        assert_eq!(memory.stood(&both, start), None);
        memory.hear(&[bundle(&[&old])].into(), start);
        memory.hear(&[bundle(&[&old]), bundle(&[&old, &new])].into(), start + SECOND);
        assert_eq!(memory.stood(&both, start + SECOND * 2), None);
        assert_eq!(memory.stood(&both[..1], start + SECOND * 2), Some(SECOND * 2));
        memory.hear(&[bundle(&[&new, &old]), bundle(&[&old, &new])].into(), start + SECOND * 3);
        assert_eq!(memory.stood(&both, start + SECOND * 5), Some(SECOND * 2));
        memory.hear(&[bundle(&[&new]), bundle(&[&old, &new])].into(), start + SECOND * 6);
        assert_eq!(memory.stood(&both, start + SECOND * 7), None);
        memory.hear(&Bundles::new(), start + SECOND * 8);
        assert_eq!(memory.stood(&both[1..], start + SECOND * 9), None);
    }

    #[test]
    fn time_begins_anew_when_something_else_is_found() {
        let (old, new) = (made(), made());
        let (mut memory, start) = (Memory::default(), Instant::now());
        let (before, after) = ([old.clone(), new.clone()], [new, old]);
        assert_eq!(memory.unchanged(&before, start), Duration::ZERO);
        assert_eq!(memory.unchanged(&before, start + SECOND), SECOND);
        assert_eq!(memory.unchanged(&after, start + SECOND * 2), Duration::ZERO);
        assert_eq!(memory.unchanged(&after, start), Duration::ZERO);
    }
}
