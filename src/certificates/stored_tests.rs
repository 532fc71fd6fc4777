use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use rcgen::KeyPair;
use rustls::pki_types::UnixTime;

use super::authority::{Authority, MOST};
use super::leaf::{Leaf, Names};
use super::lives::Lives;
use super::stored::{Served, Step, Stored, View};

const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);
const LIVES: Lives =
    Lives { certificate: DAY.saturating_mul(90), authority: DAY.saturating_mul(1095), overlap: MINUTE };

fn names() -> Names {
    Names::of_service("tagout", "tagout-system")
}

fn day(day: u64) -> UnixTime {
    UnixTime::since_unix_epoch(DAY * 20_000 + DAY * u32::try_from(day).unwrap())
}

/// A replica that looks again and again.
struct Replica {
    now: UnixTime,
    known: Option<Stored>,
    served: Option<Served>,
    stood: Duration,
    unchanged: Duration,
}

impl Replica {
    fn at(now: UnixTime) -> Self {
        Self { now, known: None, served: None, stood: Duration::ZERO, unchanged: Duration::ZERO }
    }

    /// One that knows and serves this.
    fn with(stored: &Stored, now: UnixTime) -> Self {
        let mut replica = Self::at(now);
        replica.takes(stored);
        replica
    }

    fn takes(&mut self, stored: &Stored) {
        let good = stored.good(&names(), self.now).expect("it is good");
        self.served = Some(Served { leaf: stored.leaf.clone().unwrap(), signer: good.signer });
        self.known = Some(stored.clone());
    }

    fn for_long(mut self) -> Self {
        (self.stood, self.unchanged) = (DAY, DAY);
        self
    }

    fn step(&self, found: &BTreeMap<String, ByteString>) -> Step {
        let names = names();
        let view = View {
            names: &names,
            lives: LIVES,
            now: self.now,
            known: self.known.as_ref(),
            served: self.served.as_ref(),
            stood: self.stood,
            unchanged: self.unchanged,
        };
        Stored::read(found).step(found, &view).unwrap()
    }

    /// What it writes over this.
    #[track_caller]
    fn writes(&self, found: &BTreeMap<String, ByteString>) -> Stored {
        match self.step(found) {
            Step::Write(stored, _) => *stored,
            Step::Stand => panic!("it leaves it as it is"),
        }
    }

    #[track_caller]
    fn leaves(&self, found: &Stored) {
        if let Step::Write(_, why) = self.step(&found.data()) {
            panic!("it writes: {why}");
        }
    }
}

fn made(now: UnixTime) -> Stored {
    Replica::at(now).writes(&BTreeMap::new())
}

/// In the middle of a rotation: the next authority stands beside the one that signs.
fn with_next(now: UnixTime) -> Stored {
    let mut stored = made(now);
    let (next, key) = Authority::make(now, LIVES.authority).unwrap();
    stored.authorities.push(next);
    stored.next_key = Some(key);
    stored
}

fn signer(stored: &Stored, now: UnixTime) -> Authority {
    stored.good(&names(), now).expect("it is good").signer
}

#[test]
fn an_authority_is_replaced_in_three_steps_and_each_waits_for_its_time() {
    let start = made(day(0));
    let later = day(740);
    let early = day(720);
    let young = renewable(&start, early);
    Replica::with(&young, early).for_long().leaves(&young);

    let start = renewable(&start, later);
    let mut replica = Replica::with(&start, later);
    let both = replica.writes(&start.data());
    assert!(both.authorities[0] == start.authorities[0] && both.authorities.len() == 2);
    assert!(both.leaf == start.leaf && both.key == start.key && both.next_key.is_some());

    replica.takes(&both);
    (replica.stood, replica.unchanged) = (Duration::from_secs(59), DAY);
    replica.leaves(&both);
    replica.stood = MINUTE;
    let promoted = replica.writes(&both.data());
    assert!(promoted.authorities == [both.authorities[1].clone(), both.authorities[0].clone()]);
    assert!(promoted.key == both.next_key && promoted.next_key.is_none());
    assert!(signer(&promoted, later) == both.authorities[1]);

    (replica.stood, replica.unchanged) = (DAY, DAY);
    replica.leaves(&promoted);
    replica.takes(&promoted);
    replica.unchanged = Duration::from_secs(119);
    replica.leaves(&promoted);
    replica.unchanged = MINUTE * 2;
    let alone = replica.writes(&promoted.data());
    assert!(alone.authorities == promoted.authorities[..1] && alone.leaf == promoted.leaf);
    replica.takes(&alone);
    replica.for_long().leaves(&alone);
}

/// The same with a certificate that was made at this time.
fn renewable(stored: &Stored, now: UnixTime) -> Stored {
    let key = KeyPair::from_pem(stored.key.as_ref().unwrap()).unwrap();
    let leaf = Leaf::by(&stored.authorities[0], &key, &names(), now, LIVES.certificate).unwrap();
    Stored { leaf: Some(leaf), ..stored.clone() }
}

#[test]
fn a_certificate_is_renewed_in_its_last_third_by_the_same_authority() {
    let start = made(day(0));
    Replica::with(&start, day(59)).for_long().leaves(&start);
    let renewed = Replica::with(&start, day(61)).writes(&start.data());
    assert!(renewed.authorities == start.authorities && renewed.leaf != start.leaf && renewed.key == start.key);
    Replica::with(&renewed, day(61)).for_long().leaves(&renewed);
}

#[test]
fn an_authority_that_nears_its_end_is_replaced_though_entries_do_not_have_the_next_one() {
    let both = renewable(&with_next(day(0)), day(1000));
    Replica::with(&both, day(1000)).leaves(&both);
    let both = renewable(&both, day(1010));
    assert!(Replica::with(&both, day(1010)).writes(&both.data()).authorities[0] == both.authorities[1]);
}

#[test]
fn whatever_part_is_damaged_the_authority_stays_where_a_replica_knows_it() {
    for whole in [made(day(0)), with_next(day(0)), promoted(day(0))] {
        let replica = Replica::with(&whole, day(1));
        let data = whole.data();
        for part in data.keys() {
            for junk in [None, Some(""), Some("junk"), Some("\u{0}\u{0}"), Some(foreign_key().as_str())] {
                let mut damaged = data.clone();
                match junk {
                    None => drop(damaged.remove(part)),
                    Some(junk) => drop(damaged.insert(part.clone(), ByteString(junk.into()))),
                }
                let repaired = replica.writes(&damaged);
                assert!(signer(&repaired, day(1)) == whole.authorities[0], "{part} {junk:?}");
                let (trusted, had) = (&repaired.authorities, &whole.authorities);
                assert!(had.iter().all(|one| trusted.contains(one)), "{part} {junk:?}");
                assert!(Stored::read(&repaired.data()) == repaired);
            }
        }
        assert!(replica.writes(&BTreeMap::new()) == whole);
    }
}

fn foreign_key() -> String {
    KeyPair::generate().unwrap().serialize_pem()
}

/// The next one signs, and the last one is trusted still.
fn promoted(now: UnixTime) -> Stored {
    let both = with_next(now);
    Replica::with(&both, now).for_long().writes(&both.data())
}

#[test]
fn a_replica_that_starts_repairs_what_an_authority_can_still_sign() {
    for whole in [made(day(0)), with_next(day(0)), promoted(day(0))] {
        for part in ["tls.crt", "tls.key"] {
            let mut data = whole.data();
            data.insert(part.to_owned(), ByteString("junk".into()));
            let repaired = Replica::at(day(1)).writes(&data);
            assert!(repaired.authorities == whole.authorities && repaired.next_key == whole.next_key, "{part}");
        }
    }
    // The key is lost, and nothing is served any more: the next authority has stood in the entries, a new one has not.
    let mut both = with_next(day(0));
    (both.key, both.leaf) = (Some("junk".into()), None);
    assert!(signer(&Replica::at(day(1)).writes(&both.data()), day(1)) == both.authorities[1]);
    both.next_key = None;
    let new = Replica::at(day(1)).writes(&both.data());
    assert!(!both.authorities.contains(&new.authorities[0]));
    assert!(both.authorities.iter().all(|one| new.authorities.contains(one)), "somebody may serve by these still");
}

#[test]
fn an_authority_without_its_key_is_replaced_at_once_in_the_same_steps() {
    let mut lost = made(day(0));
    lost.key = Some(foreign_key());
    let both = Replica::at(day(1)).writes(&lost.data());
    assert!(both.authorities[0] == lost.authorities[0] && both.authorities.len() == 2 && both.leaf == lost.leaf);
    let mut replica = Replica::with(&both, day(1));
    replica.leaves(&both);
    replica.stood = MINUTE;
    assert!(replica.writes(&both.data()).authorities[0] == both.authorities[1]);
}

#[test]
fn one_put_there_by_hand_signs_from_then_on_and_the_one_until_now_stays_for_a_while() {
    let (ours, foreign) = (made(day(0)), made(day(0)));
    let replica = Replica::with(&ours, day(1));
    let merged = replica.writes(&foreign.data());
    assert!(merged.authorities == [foreign.authorities[0].clone(), ours.authorities[0].clone()]);
    assert!(merged.leaf == foreign.leaf && merged.key == foreign.key);
    // Served by the old one still, then by the new one.
    replica.for_long().leaves(&merged);
    assert!(Replica::with(&merged, day(1)).for_long().writes(&merged.data()).authorities == foreign.authorities);
}

#[test]
fn an_older_tagout_that_renews_takes_the_next_key_away_and_the_rotation_begins_anew() {
    let both = with_next(day(0));
    let mut old = renewable(&both, day(740));
    old.next_key = None;
    let replica = Replica::with(&old, day(740)).for_long();
    let alone = replica.writes(&old.data());
    assert!(alone.authorities == old.authorities[..1]);
    let again = replica.writes(&alone.data());
    assert!(again.authorities.len() == 2 && again.authorities[0] == old.authorities[0]);
}

/// What an older Tagout reads: the first certificate of `ca.crt` and `ca.key`.
#[test]
fn an_older_tagout_finds_the_authority_that_signs_at_the_first_place_and_its_key() {
    for stored in [made(day(0)), with_next(day(0)), promoted(day(0))] {
        let data = stored.data();
        let first = Authority::read(&data["ca.crt"].0)[0].clone();
        let key = KeyPair::from_pem(std::str::from_utf8(&data["ca.key"].0).unwrap()).unwrap();
        assert!(first.is_of(&key) && signer(&stored, day(0)) == first);
    }
}

#[test]
fn the_order_in_the_secret_and_what_stands_between_does_not_matter_and_is_put_right() {
    let mut both = with_next(day(0));
    let order = both.authorities.clone();
    both.authorities.reverse();
    let mut data = both.data();
    data.get_mut("ca.crt").unwrap().0.extend(b"a note\n");
    assert!(Replica::at(day(1)).writes(&data).authorities == order);
    // What others put beside it, stays theirs.
    data = made(day(0)).data();
    data.insert("note".into(), ByteString("theirs".into()));
    assert!(matches!(Replica::at(day(1)).step(&data), Step::Stand));
}

#[test]
fn a_flood_of_authorities_goes_and_the_one_that_signs_stays() {
    let mut stored = made(day(0));
    for _ in 0..20 {
        stored.authorities.push(Authority::make(day(0), DAY).unwrap().0);
    }
    let replica = Replica::with(&stored, day(0));
    let fewer = replica.writes(&stored.data());
    assert_eq!(fewer.authorities.len(), MOST);
    assert!(Replica::with(&fewer, day(0)).for_long().writes(&fewer.data()).authorities == stored.authorities[..1]);
}

#[test]
fn a_clock_that_jumps_a_year_changes_no_authority_and_whoever_has_the_right_time_trusts_what_is_written() {
    for whole in [made(day(400)), with_next(day(400)), promoted(day(400))] {
        for there in [day(400 + 365), day(35)] {
            let mut replica = Replica::with(&whole, day(400));
            replica.now = there;
            let written = match replica.step(&whole.data()) {
                Step::Stand => whole.clone(),
                Step::Write(written, _) => *written,
            };
            assert!(signer(&written, there) == whole.authorities[0], "trusted where the clock has jumped");
            assert!(signer(&written, day(400)) == whole.authorities[0], "and where it has not");
            // Back again: nobody finds anything to put right.
            let mut back = Replica::with(&written, there);
            back.now = day(401);
            back.leaves(&written);
        }
    }
}

#[test]
fn when_a_clock_jumps_past_the_end_of_everything_what_was_trusted_is_trusted_when_it_is_back() {
    let whole = with_next(day(0));
    let mut replica = Replica::with(&whole, day(0));
    replica.now = day(5000);
    let new = replica.writes(&whole.data());
    assert!(signer(&new, day(5000)) == signer(&new, day(0)));
    // Another replica, whose clock was right all the time, keeps its own trusted beside it.
    let right = Replica::with(&whole, day(0));
    let merged = right.writes(&new.data());
    assert!(merged.authorities.contains(&whole.authorities[0]) && merged.leaf == new.leaf);
}

#[test]
fn nothing_is_dropped_or_promoted_by_the_clock_of_the_day() {
    for (whole, jump) in [(with_next(day(0)), 30), (promoted(day(0)), 30)] {
        let mut replica = Replica::with(&whole, day(0));
        replica.now = day(jump);
        replica.leaves(&whole);
    }
}
