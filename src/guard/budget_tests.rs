//! What a ledger lets pass, without a cluster.

use super::*;

#[path = "budget_bounds_tests.rs"]
mod bounds;
#[path = "budget_lapse_tests.rs"]
mod lapses;
#[path = "budget_properties.rs"]
mod properties;

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);
const WINDOW: i64 = 600;
/// Until what was let pass at no time counts no more.
const OVER: i64 = WINDOW + 30;

fn at(seconds: i64) -> Timestamp {
    NOW + SignedDuration::from_secs(seconds)
}

fn limit(count: usize, per: Per) -> Limit {
    Limit { count, volumes: None, window: SignedDuration::from_secs(WINDOW), per }
}

fn ceiling(count: usize, per: Per) -> Budgets {
    Budgets { allowance: None, ceiling: Some(limit(count, per)) }
}

fn allowance(count: usize, per: Per) -> Budgets {
    Budgets { allowance: Some(limit(count, per)), ceiling: None }
}

/// What is asked for: an approved deletion by an agent in namespace n, where nothing else is said.
#[derive(Debug, Clone)]
struct Ask {
    action: Action,
    uid: String,
    namespace: &'static str,
    requester: String,
    volumes: u32,
    way: Way,
}

fn of(uid: &str) -> Ask {
    Ask {
        action: Action::Delete,
        uid: uid.into(),
        namespace: "n",
        requester: "agent".into(),
        volumes: 0,
        way: Way::Approved,
    }
}

impl Ask {
    fn by(self, requester: &str) -> Self {
        Self { requester: requester.into(), ..self }
    }

    fn way(self, way: Way) -> Self {
        Self { way, ..self }
    }

    fn to(self, action: Action) -> Self {
        Self { action, ..self }
    }

    fn volumes(self, volumes: u32) -> Self {
        Self { volumes, ..self }
    }

    fn of(&self, budgets: &Budgets, ledger: &LedgerSpec, now: Timestamp) -> Claimed {
        let subject = Subject {
            group: "apps".into(),
            resource: "deployments".into(),
            namespace: self.namespace.into(),
            name: self.uid.as_str().into(),
            uid: self.uid.as_str().into(),
            ..Subject::default()
        };
        let (requester, volumes) = (self.requester.as_str(), self.volumes);
        let claim =
            Claim { action: self.action, subject: &subject, api_version: "apps/v1", requester, volumes, way: self.way };
        budgets.claim(ledger, &claim, now)
    }
}

/// A ledger that is written whenever there is something to write.
#[derive(Debug, Clone)]
struct Book {
    budgets: Budgets,
    ledger: LedgerSpec,
}

impl Book {
    fn new(budgets: Budgets) -> Self {
        Self { budgets, ledger: LedgerSpec::default() }
    }

    fn ask(&mut self, ask: &Ask, now: Timestamp) -> Result<(), Full> {
        match ask.of(&self.budgets, &self.ledger, now) {
            Claimed::Granted(next) => {
                self.ledger = next.unwrap_or_else(|| self.ledger.clone());
                Ok(())
            }
            Claimed::Full(full) => Err(full),
        }
    }

    #[track_caller]
    fn grants(&mut self, ask: &Ask, seconds: i64) {
        let asked = self.ask(ask, at(seconds));
        assert_eq!(asked, Ok(()), "{:?}", self.ledger);
    }

    #[track_caller]
    fn refuses(&mut self, ask: &Ask, seconds: i64) -> Full {
        self.ask(ask, at(seconds)).expect_err("there is a place")
    }

    /// Tells what became of everything that it is time to ask about.
    fn settle(&mut self, fate: Fate, seconds: i64) {
        let fates = overdue(&self.ledger, at(seconds)).map(|(number, _)| (number, fate)).collect();
        self.tell(&fates, seconds);
    }

    fn tell(&mut self, fates: &BTreeMap<usize, Fate>, seconds: i64) {
        if let Some(settled) = self.budgets.settled(&self.ledger, fates, at(seconds)) {
            self.ledger = settled;
        }
    }

    fn is_due(&self, seconds: i64) -> bool {
        overdue(&self.ledger, at(seconds)).next().is_some()
    }

    /// Whose, and how much of it is used.
    fn used(&self, seconds: i64) -> Vec<(Option<String>, usize)> {
        self.budgets.usage(&self.ledger, at(seconds)).into_iter().map(|usage| (usage.of, usage.used)).collect()
    }
}

#[test]
fn a_place_is_for_an_action_on_an_object_and_however_often_it_is_asked_for_it_is_one() {
    let mut book = Book::new(ceiling(2, Per::Rule));
    for seconds in [0, 0, 1, 20, 70] {
        book.grants(&of("a"), seconds);
    }
    assert_eq!(book.ledger.entries.len(), 1);
    book.grants(&of("b"), 71);
    assert_eq!(book.refuses(&of("c"), 72).reason, FullReason::Ceiling(limit(2, Per::Rule)));
    book.grants(&of("a"), 75);
    let entry = &book.ledger.entries[0];
    assert_eq!((entry.first, entry.last), (at(0), at(75)));
    assert_eq!((&*entry.resource, &*entry.name, &*entry.api_version), ("deployments.apps", "a", "apps/v1"));
}

#[test]
fn another_action_on_the_same_object_takes_a_place_of_its_own() {
    let mut book = Book::new(allowance(2, Per::Rule));
    let ask = of("a").way(Way::Allowance);
    book.grants(&ask, 0);
    book.grants(&ask.clone().to(Action::Evict), 0);
    assert_eq!(book.refuses(&ask.to(Action::Recreate), 0).reason, FullReason::Allowance(limit(2, Per::Rule)));
}

#[test]
fn the_same_review_in_parallel_changes_nothing_and_later_it_prolongs_the_place() {
    let mut book = Book::new(ceiling(1, Per::Rule));
    book.grants(&of("a"), 10);
    for seconds in [5, 10, 14] {
        assert_eq!(of("a").of(&book.budgets, &book.ledger, at(seconds)), Claimed::Granted(None), "{seconds}");
    }
    let Claimed::Granted(Some(next)) = of("a").of(&book.budgets, &book.ledger, at(15)) else { panic!("not written") };
    assert_eq!((next.entries[0].last, next.changed), (at(15), Some(at(15))));
}

#[test]
fn a_replica_whose_clock_is_behind_takes_nothing_back() {
    let mut book = Book::new(ceiling(1, Per::Rule));
    book.grants(&of("a"), 10);
    book.grants(&of("a").by("other"), -5);
    assert_eq!(book.ledger.entries[0].last, at(10));
}

#[test]
fn another_requester_of_an_object_takes_no_second_place_and_counts_in_a_budget_of_his_own() {
    let mut book = Book::new(ceiling(2, Per::Rule));
    book.grants(&of("a"), 0);
    book.grants(&of("a").by("bob"), 1);
    assert_eq!(book.used(1), [(None, 1)]);
    assert_eq!(book.ledger.entries[0].requesters, ["agent", "bob"]);

    let mut book = Book::new(ceiling(1, Per::Requester));
    book.grants(&of("a"), 0);
    book.grants(&of("a").by("bob"), 1);
    book.refuses(&of("b"), 2);
    book.refuses(&of("b").by("bob"), 2);
    book.grants(&of("b").by("carol"), 2);
    // Nor may he join where he has none left.
    book.refuses(&of("b").by("bob"), 3);
    let used: Vec<_> = ["agent", "bob", "carol"].map(|name| (Some(name.to_owned()), 1)).into();
    assert_eq!(book.used(3), used);
}

#[test]
fn each_requester_namespace_or_rule_has_a_budget_of_its_own() {
    let elsewhere = Ask { namespace: "m", ..of("b") };
    for (per, by_another, in_another) in
        [(Per::Requester, true, false), (Per::Namespace, false, true), (Per::Rule, false, false)]
    {
        let mut book = Book::new(ceiling(1, per));
        book.grants(&of("a"), 0);
        book.refuses(&of("b"), 0);
        assert_eq!(book.clone().ask(&of("b").by("bob"), NOW).is_ok(), by_another, "{per:?}");
        assert_eq!(book.clone().ask(&elsewhere, NOW).is_ok(), in_another, "{per:?}");

        let mut book = Book::new(allowance(1, per));
        let allowed = |ask: Ask| ask.way(Way::Allowance);
        book.grants(&allowed(of("a")), 0);
        book.refuses(&allowed(of("b")), 0);
        assert_eq!(book.clone().ask(&allowed(of("b").by("bob")), NOW).is_ok(), by_another, "{per:?}");
        assert_eq!(book.clone().ask(&allowed(elsewhere.clone()), NOW).is_ok(), in_another, "{per:?}");
    }
}

#[test]
fn what_was_done_counts_for_the_window_and_half_a_minute_and_no_longer() {
    let mut book = Book::new(ceiling(1, Per::Rule));
    book.grants(&of("a"), 0);
    book.settle(Fate::Done, 105);
    assert!(book.ledger.entries[0].spent);
    book.settle(Fate::CameToNothing, 500);
    let full = book.refuses(&of("b"), OVER - 1);
    assert_eq!(full.next, Some(at(OVER)));
    book.grants(&of("b"), OVER);
    assert_eq!(book.ledger.entries.len(), 1, "{:?}", book.ledger);
}

#[test]
fn a_window_slides() {
    let mut book = Book::new(ceiling(2, Per::Rule));
    book.grants(&of("a"), 0);
    book.grants(&of("b"), 300);
    assert_eq!(book.refuses(&of("c"), 301).next, Some(at(OVER)));
    book.grants(&of("c"), OVER);
    assert_eq!(book.refuses(&of("d"), OVER).next, Some(at(300 + OVER)));
    book.grants(&of("d"), 300 + OVER);
}

#[test]
fn however_short_a_window_is_a_place_is_held_while_its_request_may_be_carried_out() {
    let mut short = limit(1, Per::Rule);
    short.window = SignedDuration::from_secs(10);
    let mut book = Book::new(Budgets { allowance: None, ceiling: Some(short) });
    book.grants(&of("a"), 0);
    assert_eq!(book.refuses(&of("b"), 104).next, Some(at(105)));
    // What is known to have gone counts for the window.
    book.tell(&[(0, Fate::Done)].into(), 20);
    assert_eq!(book.refuses(&of("b"), 39).next, Some(at(40)));
    book.grants(&of("b"), 40);
}

#[test]
fn what_came_of_it_is_asked_when_the_api_server_has_given_up_and_clocks_may_be_apart() {
    let mut book = Book::new(ceiling(1, Per::Rule));
    book.grants(&of("a"), 0);
    assert!(!book.is_due(104) && book.is_due(105));
    book.grants(&of("a"), 100);
    assert!(!book.is_due(204) && book.is_due(205));
    book.settle(Fate::Unknown, 205);
    assert!(book.is_due(206));
    book.settle(Fate::Done, 206);
    assert!(!book.is_due(10_000));
}

#[test]
fn a_held_place_is_given_back_only_when_it_is_told_that_it_came_to_nothing() {
    let mut book = Book::new(ceiling(1, Per::Rule));
    book.grants(&of("a"), 0);
    book.settle(Fate::Unknown, 200);
    book.refuses(&of("b"), 200);
    assert_eq!(book.budgets.settled(&book.ledger, &BTreeMap::new(), at(200)), None);
    book.settle(Fate::CameToNothing, 201);
    assert_eq!((book.ledger.entries.len(), book.ledger.lapsed.len()), (0, 1));
    book.grants(&of("b"), 201);
}

#[test]
fn fates_are_those_of_the_entries_they_were_found_for() {
    let mut book = Book::new(ceiling(9, Per::Rule));
    for (number, uid) in ["a", "b", "c", "d"].iter().enumerate() {
        book.grants(&of(uid).way(if number % 2 == 0 { Way::Tolerated } else { Way::Approved }), 0);
    }
    let fates = [Fate::CameToNothing, Fate::CameToNothing, Fate::Unknown, Fate::Done];
    book.tell(&fates.into_iter().enumerate().collect(), 105);
    let left: Vec<_> = book.ledger.entries.iter().map(|entry| (&*entry.uid, entry.spent)).collect();
    assert_eq!(left, [("c", false), ("d", true)]);
    assert_eq!(book.ledger.lapsed, ["a", "b"].map(|uid| Lapse { uid: uid.into(), at: at(105) }));
}

#[test]
fn volumes_are_counted_by_themselves() {
    let most = |volumes| Limit { volumes: Some(volumes), ..limit(9, Per::Rule) };
    let mut book = Book::new(Budgets { allowance: None, ceiling: Some(most(3)) });
    book.grants(&of("a").volumes(2), 0);
    let full = book.refuses(&of("b").volumes(2), 0);
    assert_eq!(full, Full { reason: FullReason::CeilingVolumes(most(3)), next: None });
    book.grants(&of("b").volumes(1), 0);
    // What loses no data passes, and what has its place does too.
    book.grants(&of("c"), 0);
    book.grants(&of("a").volumes(2), 1);
    book.refuses(&of("a").volumes(3), 1);
    book.clone().grants(&of("d").volumes(2), OVER + 1);
    // What lost more than there is keeps nothing that loses none.
    book.grants(&of("e").volumes(9).way(Way::BrokenGlass), 1);
    book.grants(&of("f"), 1);
    book.refuses(&of("f").volumes(1), 1);
    // Where more has come to be lost, more counts.
    let mut book = Book::new(Budgets { allowance: None, ceiling: Some(most(3)) });
    book.grants(&of("a").volumes(1), 0);
    book.grants(&of("a").volumes(3), 1);
    book.grants(&of("a"), 2);
    book.refuses(&of("b").volumes(1), 2);

    let mut book = Book::new(Budgets { allowance: Some(most(1)), ceiling: Some(most(3)) });
    let ask = |uid| of(uid).volumes(1).way(Way::Allowance);
    book.grants(&ask("a"), 0);
    assert_eq!(book.refuses(&ask("b"), 0).reason, FullReason::AllowanceVolumes(most(1)));
    book.grants(&ask("b").way(Way::Approved), 0);

    let mut none = Book::new(Budgets { allowance: None, ceiling: Some(most(0)) });
    none.refuses(&of("a").volumes(1), 0);
    none.grants(&of("a"), 0);
    let mut any = Book::new(ceiling(2, Per::Rule));
    any.grants(&of("a").volumes(u32::MAX), 0);
    any.grants(&of("b").volumes(u32::MAX), 0);
}

#[test]
fn an_allowance_counts_what_nobody_approved_and_a_ceiling_counts_deletions_alone() {
    let both = Budgets { allowance: Some(limit(2, Per::Rule)), ceiling: Some(limit(4, Per::Rule)) };
    let mut book = Book::new(both.clone());
    for ask in [of("a"), of("b").way(Way::Allowance), of("c").to(Action::Recreate).way(Way::Allowance), of("d")] {
        book.grants(&ask, 0);
    }
    assert_eq!(book.refuses(&of("e").way(Way::Allowance), 0).reason, FullReason::Allowance(limit(2, Per::Rule)));
    book.grants(&of("e"), 0);
    assert_eq!(book.refuses(&of("f"), 0).reason, FullReason::Ceiling(limit(4, Per::Rule)));
    book.settle(Fate::Done, 105);
    assert_eq!(
        book.budgets.usage(&book.ledger, at(105)).into_iter().map(|one| (one.budget, one.used)).collect::<Vec<_>>(),
        [("ceiling", 4), ("allowance", 2)]
    );

    // What was approved and is asked for without that takes from the allowance as well.
    let mut book = Book::new(both.clone());
    for ask in [of("a"), of("a").way(Way::Allowance), of("b").way(Way::Allowance)] {
        book.grants(&ask, 0);
    }
    book.refuses(&of("c").way(Way::Allowance), 0);

    let counts = |budgets: &Budgets, action| {
        [Way::Approved, Way::Tolerated, Way::Allowance, Way::BrokenGlass].map(|way| budgets.count(action, way))
    };
    for action in [Action::Delete, Action::Recreate, Action::Evict, Action::Loosen, Action::DiscardData] {
        let under = action == Action::Delete;
        assert_eq!(counts(&ceiling(1, Per::Rule), action), [under; 4], "{action:?}");
        assert_eq!(counts(&allowance(1, Per::Rule), action), [false, false, true, false], "{action:?}");
        assert_eq!(counts(&both, action), [under, under, true, under], "{action:?}");
        assert_eq!(counts(&Budgets::default(), action), [false; 4], "{action:?}");
    }
}

#[test]
fn an_emergency_is_never_refused_and_counts() {
    let tight = Limit { volumes: Some(0), ..limit(1, Per::Rule) };
    let mut book = Book::new(Budgets { allowance: None, ceiling: Some(tight.clone()) });
    let glass = |uid| of(uid).volumes(5).way(Way::BrokenGlass);
    for uid in ["a", "b", "c"] {
        book.grants(&glass(uid), 0);
    }
    assert_eq!(book.used(0), [(None, 3)]);
    assert!(book.ledger.entries.iter().all(|entry| entry.approved && !entry.allowance));
    let full = book.refuses(&of("d"), 0);
    assert_eq!(full, Full { reason: FullReason::Ceiling(tight), next: Some(at(OVER)) });
}

#[test]
fn the_next_place_is_free_when_enough_of_those_that_are_taken_are() {
    let mut book = Book::new(ceiling(2, Per::Rule));
    for (number, uid) in ["a", "b", "c", "d"].iter().enumerate() {
        book.grants(&of(uid).way(Way::BrokenGlass), 10 * i64::try_from(number).unwrap());
    }
    assert_eq!(book.refuses(&of("e"), 40).next, Some(at(20 + OVER)));
    book.refuses(&of("e"), 19 + OVER);
    book.grants(&of("e"), 20 + OVER);
    let usage = |count| ceiling(count, Per::Rule).usage(&book.ledger, at(20 + OVER)).remove(0);
    assert_eq!((usage(2).used, usage(2).next), (2, Some(at(30 + OVER))));
    assert_eq!((usage(3).used, usage(3).next), (2, None));
}

#[test]
fn what_is_used_is_told_for_everybody_who_used_it_the_most_first() {
    let mut book = Book::new(ceiling(9, Per::Requester));
    assert_eq!(book.used(0), []);
    book.grants(&of("a").by("bob"), 0);
    book.grants(&of("b").by("alice"), 0);
    book.grants(&of("b").by("carol"), 0);
    book.grants(&of("c").by("carol"), 0);
    let told = |name: &str, used| (Some(name.to_owned()), used);
    assert_eq!(book.used(0), [told("carol", 2), told("alice", 1), told("bob", 1)]);
    // A rule as a whole has its budget before anything is used.
    assert_eq!(Book::new(ceiling(9, Per::Rule)).used(0), [(None, 0)]);
    book.budgets = ceiling(9, Per::Namespace);
    assert_eq!(book.used(0), [told("n", 3)]);
}
