use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::budget::{Budget, Over};
use super::told::{Data, Kind, LANES, Lane, Notification};

/// What waits for one sink, and what it was told already.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lanes: [VecDeque<Item>; 3],
    /// What is being sent is in no lane.
    flying: [bool; 3],
    /// Of one kind there may be as many as anybody likes, and the others have their own.
    budgets: BTreeMap<Kind, Budget>,
    said: [HashMap<String, Said>; 3],
}

/// A notification on its way.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub notification: Notification,
    pub since: Instant,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    /// How often it happened since.
    again: u64,
    latest: Notification,
}

/// How many of each wait at most.
const LONGEST: usize = 1000;
/// Of how many it is remembered that they were told.
const REMEMBERED: usize = 4096;
/// What Tagout knows of itself is told again sooner.
const SOON: Duration = Duration::from_mins(10);

impl Waiting {
    /// Takes it in, or counts it. Says how many others had to go for it.
    pub fn take(&mut self, mut notification: Notification, repeat: Duration, now: Instant) -> usize {
        let lane = notification.kind.lane();
        let (key, said) = (notification.key(), &mut self.said[lane as usize]);
        if let Some(said) = said.get_mut(&key) {
            if now.duration_since(said.at) < pause(lane, repeat) {
                said.again += notification.data.count;
                said.latest = notification;
                return 0;
            }
            notification.data.count += said.again;
            said.again = 0;
        }
        // What is only counted, nobody was told.
        if !self.may_tell(&notification, now) {
            return 0;
        }
        let said = &mut self.said[lane as usize];
        if said.len() < REMEMBERED || said.contains_key(&key) {
            said.insert(key, Said { at: now, again: 0, latest: notification.clone() });
        }
        self.push(notification, now)
    }

    /// What is due again, and the sums of what was not told one by one.
    pub fn settle(&mut self, repeat: Duration, now: Instant) -> usize {
        let mut lost = 0;
        for lane in LANES {
            let is_due = |said: &Said| now.duration_since(said.at) >= pause(lane, repeat);
            let mut again = Vec::new();
            for said in self.said[lane as usize].values_mut().filter(|said| is_due(said) && said.again > 0) {
                let mut notification = said.latest.clone();
                notification.data.count = said.again;
                (said.at, said.again) = (now, 0);
                again.push(notification);
            }
            self.said[lane as usize].retain(|_, said| !is_due(said));
            for notification in again {
                if self.may_tell(&notification, now) {
                    lost += self.push(notification, now);
                }
            }
        }
        let over =
            self.budgets.iter_mut().flat_map(|(kind, budget)| budget.settle(now).into_iter().map(|over| (*kind, over)));
        let digests: Vec<_> = over.map(|(kind, over)| digest(kind, over)).collect();
        lost += digests.into_iter().map(|digest| self.push(digest, now)).sum::<usize>();
        lost
    }

    fn may_tell(&mut self, notification: &Notification, now: Instant) -> bool {
        let data = &notification.data;
        if !notification.kind.is_many() && !data.unconfirmed {
            return true;
        }
        let whom = (data.requester.clone(), data.rules.first().cloned().unwrap_or_default());
        self.budgets.entry(notification.kind).or_default().takes(whom, data.count, now)
    }

    fn push(&mut self, notification: Notification, now: Instant) -> usize {
        self.put_back(Item { notification, since: now })
    }

    /// Behind the others: one that a receiver does not take keeps none of them.
    pub fn put_back(&mut self, item: Item) -> usize {
        let queue = &mut self.lanes[item.notification.kind.lane() as usize];
        queue.push_back(item);
        if queue.len() <= LONGEST {
            return 0;
        }
        // What anybody can cause goes first.
        let many = |item: &Item| item.notification.kind.is_many() || item.notification.data.unconfirmed;
        let oldest = queue.iter().position(many).unwrap_or(0);
        queue.remove(oldest);
        1
    }

    pub fn next(&mut self, lane: Lane) -> Option<Item> {
        let next = self.lanes[lane as usize].pop_front();
        self.flying[lane as usize] = next.is_some();
        next
    }

    pub fn landed(&mut self, lane: Lane) {
        self.flying[lane as usize] = false;
    }

    pub fn len(&self) -> usize {
        let flying = self.flying.iter().filter(|flying| **flying).count();
        self.lanes.iter().map(VecDeque::len).sum::<usize>() + flying
    }

    /// Whether what must be heard was.
    pub fn is_urgent_empty(&self) -> bool {
        let is_empty = |lane: &Lane| self.lanes[*lane as usize].is_empty() && !self.flying[*lane as usize];
        [Lane::Guard, Lane::Passed].iter().all(is_empty)
    }
}

fn pause(lane: Lane, repeat: Duration) -> Duration {
    if lane == Lane::Guard { repeat.min(SOON) } else { repeat }
}

fn digest(kind: Kind, over: Over) -> Notification {
    let what = match kind {
        Kind::Denied => "more refusals",
        Kind::WouldDeny => "more requests that would be refused in mode Enforce",
        Kind::Presented => "more approvals written",
        _ => "more requests let pass, of objects that were not found,",
    };
    let (by, rules) = match over.whom {
        Some((requester, rule)) if rule.is_empty() => (requester, Vec::new()),
        Some((requester, rule)) => (requester, vec![rule]),
        None => (String::new(), Vec::new()),
    };
    let count = over.count;
    let whose = if by.is_empty() { "others".to_owned() } else { by.clone() };
    let data = Data {
        message: format!("{count} {what} by {whose}, not told one by one: the log has them"),
        requester: by,
        rules,
        count,
        digest: true,
        unconfirmed: !kind.is_many(),
        ..Data::default()
    };
    let at = Timestamp::now();
    Notification::new(kind, at, data).distinct_by(format!("digest {at} {whose}"))
}

#[cfg(test)]
mod tests {
    use super::super::budget::{EACH, WINDOW};
    use super::*;

    const REPEAT: Duration = Duration::from_hours(4);

    fn told(kind: Kind, request: &str, requester: &str) -> Notification {
        let data = Data { request: request.to_owned(), requester: requester.to_owned(), ..Data::default() };
        Notification::new(kind, Timestamp::UNIX_EPOCH, data)
    }

    fn drain(waiting: &mut Waiting, lane: Lane) -> Vec<Notification> {
        std::iter::from_fn(|| waiting.next(lane)).map(|item| item.notification).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_repeats_are_counted_and_told_when_it_is_time() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for _ in 0..12 {
            waiting.take(told(Kind::Denied, "to-1", "agent"), REPEAT, now);
        }
        assert_eq!(drain(&mut waiting, Lane::Rest).len(), 1);
        waiting.settle(REPEAT, now + REPEAT / 2);
        assert_eq!(waiting.len(), 0);
        waiting.settle(REPEAT, now + REPEAT);
        let again = drain(&mut waiting, Lane::Rest);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].data.count, 11);
        waiting.settle(REPEAT, now + REPEAT * 3);
        assert_eq!(waiting.len(), 0);
        assert!(waiting.said.iter().all(HashMap::is_empty), "what is over is forgotten");
    }

    #[test]
    fn what_is_unlocked_for_another_is_told_and_a_fight_over_the_guard_is_not_told_each_time() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for _ in 0..5000 {
            waiting.take(told(Kind::DriftRepaired, "", "").distinct_by("entry".to_owned()), REPEAT, now);
        }
        for user in ["ci", "agent"] {
            waiting.take(told(Kind::Unlocked, "", user).distinct_by(user.to_owned()), REPEAT, now);
        }
        let kinds: Vec<_> = drain(&mut waiting, Lane::Guard).iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Kind::DriftRepaired, Kind::Unlocked, Kind::Unlocked]);
        waiting.settle(REPEAT, now + SOON);
        assert_eq!(drain(&mut waiting, Lane::Guard)[0].data.count, 4999);
    }

    #[test]
    fn a_flood_of_forged_reviews_pushes_out_nothing_that_is_confirmed() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.take(told(Kind::BrokeGlass, "to-real", "carol"), REPEAT, now);
        waiting.take(told(Kind::Approved, "to-real", "alice"), REPEAT, now);
        waiting.take(told(Kind::Unlocked, "", "ci"), REPEAT, now);
        // With a new window again and again: as if it went on for hours.
        for at in 0..5_000_u32 {
            for kind in [Kind::Denied, Kind::BrokeGlass, Kind::Approved] {
                let mut forged = told(kind, &format!("to-{at}"), &format!("agent-{at}"));
                forged.data.unconfirmed = kind != Kind::Denied;
                waiting.take(forged, REPEAT, now + WINDOW * (at / 100));
            }
            waiting.settle(REPEAT, now + WINDOW * (at / 100));
        }
        assert!(waiting.len() <= 3 * LONGEST);
        assert_eq!(drain(&mut waiting, Lane::Guard).len(), 1);
        let first = |waiting: &mut Waiting, lane| drain(waiting, lane)[0].data.request.clone();
        assert_eq!(first(&mut waiting, Lane::Passed), "to-real");
        assert_eq!(first(&mut waiting, Lane::Rest), "to-real");
    }

    #[test]
    fn more_than_a_few_by_one_requester_are_summed_up() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for at in 0..322 {
            waiting.take(told(Kind::Denied, &format!("to-{at}"), "agent-7"), REPEAT, now);
        }
        assert_eq!(drain(&mut waiting, Lane::Rest).len(), EACH as usize);
        waiting.settle(REPEAT, now + WINDOW);
        let digest = &drain(&mut waiting, Lane::Rest)[0].data;
        assert!(digest.digest && digest.count == 312, "{digest:?}");
        assert!(digest.message.starts_with("312 more refusals"), "{digest:?}");
    }

    #[test]
    fn what_comes_back_waits_behind_the_others() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for request in ["to-1", "to-2"] {
            waiting.take(told(Kind::Denied, request, "agent"), REPEAT, now);
        }
        let first = waiting.next(Lane::Rest).expect("one");
        assert_eq!(waiting.put_back(first), 0);
        assert_eq!(waiting.next(Lane::Rest).expect("another").notification.data.request, "to-2");
    }
}
