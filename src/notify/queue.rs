use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::budget::{Budget, INVENTED, Over, REAL};
use super::told::{Data, Kind, LANES, Lane, Notification, Unconfirmed};

/// What waits for one sink, and what it was told already.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lanes: [VecDeque<Item>; 3],
    /// What is being sent is in no lane.
    flying: [bool; 3],
    budgets: BTreeMap<Sort, Budget>,
    said: [HashMap<String, Said>; 3],
}

/// Of one sort there may be as many as anybody likes, and the others have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sort {
    kind: Kind,
    unconfirmed: Option<Unconfirmed>,
}

/// A notification on its way.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub notification: Notification,
    pub since: Instant,
    alert: String,
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
/// One request that passes is asked about by several entries, and again by clients that try again.
const ECHO: Duration = Duration::from_mins(1);

impl Waiting {
    /// Takes it in, or counts it. Says how many others had to go for it.
    pub fn take(&mut self, notification: Notification, now: Instant) -> usize {
        let (kind, key) = (notification.kind, notification.key());
        let lane = kind.lane();
        self.forget_counterpart(&notification);
        if let Some(said) = self.said[lane as usize].get_mut(&key) {
            if !kind.passes() || now.duration_since(said.at) >= ECHO {
                said.again += notification.data.count;
                said.latest = notification;
            }
            return 0;
        }
        // What is only counted, nobody was told.
        if !self.may_tell(&notification, now) {
            return 0;
        }
        let said = &mut self.said[lane as usize];
        if said.len() < REMEMBERED {
            said.insert(key, Said { at: now, again: 0, latest: notification.clone() });
        }
        self.push(notification, now)
    }

    /// After its end, a beginning is news, and after its beginning the end.
    fn forget_counterpart(&mut self, notification: &Notification) {
        let Some(counterpart) = notification.kind.counterpart() else { return };
        let alert = notification.alert();
        let is_it = |said: &Said| said.latest.kind == counterpart && said.latest.alert() == alert;
        self.said[counterpart.lane() as usize].retain(|_, said| !is_it(said));
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
                notification.again = Some(Timestamp::now());
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
            self.budgets.iter_mut().flat_map(|(sort, budget)| budget.settle(now).into_iter().map(|over| (*sort, over)));
        let digests: Vec<_> = over.map(|(sort, over)| digest(sort, over)).collect();
        lost += digests.into_iter().map(|digest| self.push(digest, now)).sum::<usize>();
        lost
    }

    fn may_tell(&mut self, notification: &Notification, now: Instant) -> bool {
        let Notification { kind, data, .. } = notification;
        if kind.lane() == Lane::Guard {
            return true;
        }
        let sort = Sort { kind: *kind, unconfirmed: data.unconfirmed };
        let limits = if sort.is_invented() { INVENTED } else { REAL };
        let budget = self.budgets.entry(sort).or_insert_with(|| Budget::of(limits));
        budget.takes(sort.about(data), data.count, now)
    }

    fn push(&mut self, notification: Notification, now: Instant) -> usize {
        let lane = notification.kind.lane();
        self.lanes[lane as usize].push_back(Item { alert: notification.alert(), notification, since: now });
        self.shorten(lane)
    }

    /// Behind the others: one that a receiver does not take keeps none of them. But for what came later of the same
    /// alert: nothing ends before it has begun.
    pub fn put_back(&mut self, item: Item) -> usize {
        let lane = item.notification.kind.lane();
        let queue = &mut self.lanes[lane as usize];
        let (later, others): (VecDeque<_>, VecDeque<_>) = queue.drain(..).partition(|one| one.alert == item.alert);
        *queue = others;
        queue.push_back(item);
        queue.extend(later);
        self.shorten(lane)
    }

    fn shorten(&mut self, lane: Lane) -> usize {
        let queue = &mut self.lanes[lane as usize];
        if queue.len() <= LONGEST {
            return 0;
        }
        // What anybody can cause goes first.
        let many = |item: &Item| item.notification.kind.is_many() || item.notification.data.unconfirmed.is_some();
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

impl Sort {
    /// Whether a forged review is enough to cause it.
    fn is_invented(self) -> bool {
        self.unconfirmed.is_some() || !self.kind.passes()
    }

    /// What has a share of the budget, as a digest names it. What is confirmed can be shown again and again under
    /// invented names: one object, one action and the people who spoke of it have one share.
    fn about(self, data: &Data) -> Data {
        if self.is_invented() {
            let rules = data.rules.iter().take(1).cloned().collect();
            return Data { requester: data.requester.clone(), rules, ..Data::default() };
        }
        Data {
            action: data.action,
            kind: data.kind.clone(),
            namespace: data.namespace.clone(),
            name: data.name.clone(),
            uid: data.uid.clone(),
            people: data.people.clone(),
            ..Data::default()
        }
    }
}

fn digest(sort: Sort, over: Over) -> Notification {
    let Sort { kind, unconfirmed } = sort;
    let what = match (kind, unconfirmed) {
        (Kind::Denied, _) => "more refusals",
        (Kind::WouldDeny, _) => "more requests that would be refused in mode Enforce",
        (Kind::Presented, _) => "more approvals written",
        (_, Some(Unconfirmed::NotFound)) => "more requests let pass, of objects that were not found,",
        (_, Some(Unconfirmed::Unknown)) => "more requests let pass, of objects that could not be looked for,",
        (_, None) => "more times the same was let pass, approved",
    };
    let (count, about) = (over.count, over.about.unwrap_or_default());
    let whose = Some(&about.requester).filter(|by| !by.is_empty()).cloned().unwrap_or_else(|| about.people.join(", "));
    let whose = if whose.is_empty() { "others".to_owned() } else { whose };
    let message = format!("{count} {what} by {whose}, not told one by one: the log has them");
    let data = Data { message, count, digest: true, unconfirmed, ..about };
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
            waiting.take(told(Kind::Denied, "to-1", "agent"), now);
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
            waiting.take(told(Kind::DriftRepaired, "", "").distinct_by("entry".to_owned()), now);
        }
        for user in ["ci", "agent"] {
            waiting.take(told(Kind::Unlocked, "", user).distinct_by(user.to_owned()), now);
        }
        let kinds: Vec<_> = drain(&mut waiting, Lane::Guard).iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Kind::DriftRepaired, Kind::Unlocked, Kind::Unlocked]);
        waiting.settle(REPEAT, now + SOON);
        assert_eq!(drain(&mut waiting, Lane::Guard)[0].data.count, 4999);
    }

    #[test]
    fn a_flood_of_forged_reviews_pushes_out_nothing_that_is_confirmed() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.take(told(Kind::BrokeGlass, "to-real", "carol"), now);
        waiting.take(told(Kind::Approved, "to-real", "alice"), now);
        waiting.take(told(Kind::Unlocked, "", "ci"), now);
        // With a new window again and again: as if it went on for hours.
        for at in 0..5_000_u32 {
            for kind in [Kind::Denied, Kind::BrokeGlass, Kind::Approved] {
                let mut forged = told(kind, &format!("to-{at}"), &format!("agent-{at}"));
                let why = if at % 2 == 0 { Unconfirmed::NotFound } else { Unconfirmed::Unknown };
                forged.data.unconfirmed = (kind != Kind::Denied).then_some(why);
                waiting.take(forged, now + WINDOW * (at / 100));
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
            waiting.take(told(Kind::Denied, &format!("to-{at}"), "agent-7"), now);
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
            waiting.take(told(Kind::Denied, request, "agent"), now);
        }
        let first = waiting.next(Lane::Rest).expect("one");
        assert_eq!(waiting.put_back(first), 0);
        assert_eq!(waiting.next(Lane::Rest).expect("another").notification.data.request, "to-2");
    }

    #[test]
    fn a_genuine_emergency_that_is_shown_again_under_thousands_of_names_is_told_a_few_times_and_pushes_out_no_other() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let broken = |uid: &str, requester: String| {
            let data = Data { uid: uid.to_owned(), people: vec!["carol".to_owned()], ..Data::default() };
            let data = Data { request: format!("to-{requester}"), requester, action: "Delete", ..data };
            Notification::new(Kind::BrokeGlass, Timestamp::UNIX_EPOCH, data)
        };
        waiting.take(broken("first", "carol".to_owned()), now);
        for number in 0..5000 {
            waiting.take(broken("replayed", format!("u{number}")), now);
        }
        waiting.take(broken("last", "carol".to_owned()), now);
        let told = drain(&mut waiting, Lane::Passed);
        assert_eq!(told.len(), EACH as usize + 2);
        assert_eq!((&*told[0].data.uid, &*told[told.len() - 1].data.uid), ("first", "last"));
        waiting.settle(REPEAT, now + WINDOW);
        let digest = &drain(&mut waiting, Lane::Passed)[0].data;
        assert_eq!((digest.digest, digest.count, &*digest.uid), (true, 4990, "replayed"));
    }

    #[test]
    fn many_different_emergencies_are_told_one_by_one() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for number in 0..200 {
            let mut one = told(Kind::BrokeGlass, &format!("to-{number}"), "carol");
            one.data.uid = number.to_string();
            waiting.take(one, now);
        }
        assert_eq!(drain(&mut waiting, Lane::Passed).len(), 200);
    }

    #[test]
    fn a_lock_is_not_told_before_the_unlocking_that_it_ends_and_others_do_not_wait() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.take(told(Kind::Unlocked, "", "ci"), now);
        let failed = waiting.next(Lane::Guard).expect("one");
        for (kind, requester) in [(Kind::Relocked, "ci"), (Kind::Unlocked, "agent")] {
            waiting.take(told(kind, "", requester), now);
        }
        waiting.put_back(failed);
        let order: Vec<_> =
            drain(&mut waiting, Lane::Guard).into_iter().map(|one| (one.kind, one.data.requester)).collect();
        let expected = [(Kind::Unlocked, "agent"), (Kind::Unlocked, "ci"), (Kind::Relocked, "ci")];
        assert_eq!(order, expected.map(|(kind, requester)| (kind, requester.to_owned())));
    }

    #[test]
    fn what_fails_again_after_it_was_reached_is_told_at_once_and_one_check_says_nothing_of_the_other() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let of = |kind, check| {
            let mut one = told(kind, "", "");
            one.data.check = check;
            one
        };
        let all = [
            of(Kind::CanaryFailed, "approval"),
            of(Kind::CanaryFailed, "deletion"),
            of(Kind::Reached, "approval"),
            of(Kind::CanaryFailed, "approval"),
            of(Kind::Reached, "approval"),
        ];
        for one in all.clone() {
            waiting.take(one, now);
        }
        assert_eq!(drain(&mut waiting, Lane::Guard), all);
        waiting.take(of(Kind::CanaryFailed, "deletion"), now);
        assert_eq!(waiting.len(), 0, "it was told already");
    }

    #[test]
    fn several_entries_that_ask_about_one_request_do_not_make_two_of_it() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for seconds in [0, 1, 20] {
            waiting.take(told(Kind::BrokeGlass, "to-1", "carol"), now + Duration::from_secs(seconds));
        }
        assert_eq!(drain(&mut waiting, Lane::Passed).len(), 1);
        waiting.settle(REPEAT, now + REPEAT);
        assert_eq!(waiting.len(), 0, "nothing happened again");
        waiting.take(told(Kind::BrokeGlass, "to-1", "carol"), now + REPEAT);
        waiting.take(told(Kind::BrokeGlass, "to-1", "carol"), now + REPEAT + ECHO);
        waiting.settle(REPEAT, now + REPEAT * 2);
        let told: Vec<_> = drain(&mut waiting, Lane::Passed);
        assert_eq!(told.iter().map(|one| one.again.is_some()).collect::<Vec<_>>(), [false, true]);
    }
}
