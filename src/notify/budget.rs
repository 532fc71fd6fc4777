use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::told::Data;

/// How much may be told of what there may be any number of: the rest is counted and summed up.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    since: Option<Instant>,
    told: u32,
    by: HashMap<Data, Share>,
    others: u64,
}

/// How many in one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Are told in all.
    all: u32,
    /// Have a share of their own.
    known: usize,
}

#[derive(Debug, Default)]
struct Share {
    told: u32,
    over: u64,
}

/// What was not told one by one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// Nothing in particular, where there was too much to name.
    pub about: Option<Data>,
    pub count: u64,
}

pub(super) const WINDOW: Duration = Duration::from_mins(10);
pub(super) const EACH: u32 = 10;
pub(super) const ALL: u32 = 60;
/// Who forges reviews invents requesters.
pub(super) const INVENTED: Limits = Limits { all: ALL, known: 256 };
/// Nobody invents objects that are there, and people who spoke of them.
pub(super) const REAL: Limits = Limits { all: u32::MAX, known: 4096 };
const DIGESTS: usize = 5;

impl Budget {
    pub fn of(limits: Limits) -> Self {
        Self { limits, since: None, told: 0, by: HashMap::new(), others: 0 }
    }

    /// Whether one more may be told about this; counts it where not.
    pub fn takes(&mut self, about: Data, count: u64, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let full = self.told >= self.limits.all;
        if self.by.len() >= self.limits.known && !self.by.contains_key(&about) {
            self.others += count;
            return false;
        }
        let share = self.by.entry(about).or_default();
        if full || share.told >= EACH {
            share.over += count;
            return false;
        }
        share.told += 1;
        self.told += 1;
        true
    }

    /// What to sum up, once a window is over.
    pub fn settle(&mut self, now: Instant) -> Vec<Over> {
        if self.since.is_none_or(|since| now.duration_since(since) < WINDOW) {
            return Vec::new();
        }
        let ended = std::mem::replace(self, Self::of(self.limits));
        let mut over: Vec<_> = ended
            .by
            .into_iter()
            .filter(|(_, share)| share.over > 0)
            .map(|(about, share)| (share.over, about))
            .collect();
        over.sort_by(|one, other| other.cmp(one));
        let rest: u64 = over.iter().skip(DIGESTS).map(|(count, _)| count).sum::<u64>() + ended.others;
        let named = over.into_iter().take(DIGESTS).map(|(count, about)| Over { about: Some(about), count });
        named.chain((rest > 0).then_some(Over { about: None, count: rest })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whom(requester: &str) -> Data {
        Data { requester: requester.to_owned(), rules: vec!["production".to_owned()], ..Data::default() }
    }

    #[test]
    fn one_requester_is_told_of_a_few_times_and_then_summed_up() {
        let (mut budget, now) = (Budget::of(INVENTED), Instant::now());
        let told = (0..322).filter(|_| budget.takes(whom("agent-7"), 1, now)).count();
        assert_eq!(told, EACH as usize);
        assert!(budget.takes(whom("bob"), 1, now), "others are told of");
        assert!(budget.settle(now).is_empty());
        assert_eq!(budget.settle(now + WINDOW), [Over { about: Some(whom("agent-7")), count: 312 }]);
        assert!(budget.takes(whom("agent-7"), 1, now + WINDOW));
    }

    #[test]
    fn invented_requesters_take_no_more_memory_and_no_more_messages_than_one_sink_bears() {
        let (mut budget, now) = (Budget::of(INVENTED), Instant::now());
        let told = (0..10_000).filter(|at| budget.takes(whom(&at.to_string()), 1, now)).count();
        assert_eq!(told, ALL as usize);
        assert!(budget.by.len() <= INVENTED.known);
        let over = budget.settle(now + WINDOW);
        assert_eq!(over.len(), DIGESTS + 1);
        assert_eq!(over.iter().map(|over| over.count).sum::<u64>(), 10_000 - u64::from(ALL));
    }
}
