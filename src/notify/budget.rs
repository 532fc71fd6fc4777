use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How much may be told of what there may be any number of: the rest is counted and summed up.
#[derive(Debug, Default)]
pub(super) struct Budget {
    since: Option<Instant>,
    told: u32,
    by: HashMap<Whom, Share>,
    others: u64,
}

/// Whom it is about: a requester and a rule.
pub(super) type Whom = (String, String);

#[derive(Debug, Default)]
struct Share {
    told: u32,
    over: u64,
}

/// What was not told one by one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// Nobody in particular, where there were too many to name.
    pub whom: Option<Whom>,
    pub count: u64,
}

pub(super) const WINDOW: Duration = Duration::from_mins(10);
pub(super) const EACH: u32 = 10;
pub(super) const ALL: u32 = 60;
/// Who forges reviews invents requesters.
const KNOWN: usize = 256;
const DIGESTS: usize = 5;

impl Budget {
    /// Whether one more may be told; counts it where not.
    pub fn takes(&mut self, whom: Whom, count: u64, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let full = self.told >= ALL;
        if self.by.len() >= KNOWN && !self.by.contains_key(&whom) {
            self.others += count;
            return false;
        }
        let share = self.by.entry(whom).or_default();
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
        let ended = std::mem::take(self);
        let mut over: Vec<_> =
            ended.by.into_iter().filter(|(_, share)| share.over > 0).map(|(whom, share)| (share.over, whom)).collect();
        over.sort_by(|one, other| (other.0, &one.1).cmp(&(one.0, &other.1)));
        let rest: u64 = over.iter().skip(DIGESTS).map(|(count, _)| count).sum::<u64>() + ended.others;
        let named = over.into_iter().take(DIGESTS).map(|(count, whom)| Over { whom: Some(whom), count });
        named.chain((rest > 0).then_some(Over { whom: None, count: rest })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whom(requester: &str) -> Whom {
        (requester.to_owned(), "production".to_owned())
    }

    #[test]
    fn one_requester_is_told_of_a_few_times_and_then_summed_up() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let told = (0..322).filter(|_| budget.takes(whom("agent-7"), 1, now)).count();
        assert_eq!(told, EACH as usize);
        assert!(budget.takes(whom("bob"), 1, now), "others are told of");
        assert!(budget.settle(now).is_empty());
        assert_eq!(budget.settle(now + WINDOW), [Over { whom: Some(whom("agent-7")), count: 312 }]);
        assert!(budget.takes(whom("agent-7"), 1, now + WINDOW));
    }

    #[test]
    fn invented_requesters_take_no_more_memory_and_no_more_messages_than_one_sink_bears() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let told = (0..10_000).filter(|at| budget.takes(whom(&at.to_string()), 1, now)).count();
        assert_eq!(told, ALL as usize);
        assert!(budget.by.len() <= KNOWN);
        let over = budget.settle(now + WINDOW);
        assert_eq!(over.len(), DIGESTS + 1);
        assert_eq!(over.iter().map(|over| over.count).sum::<u64>(), 10_000 - u64::from(ALL));
    }
}
