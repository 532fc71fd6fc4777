//! Whatever comes in whatever order, no budget lets more pass than it says.

use std::collections::BTreeSet;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::{collection, option, prop_assert, prop_assert_eq};

use super::*;

fn limits() -> impl Strategy<Value = Limit> {
    let per = prop_oneof![Just(Per::Requester), Just(Per::Namespace), Just(Per::Rule)];
    (1_usize..4, option::of(0_u32..5), prop_oneof![20_i64..200, 200_i64..900], per).prop_map(
        |(count, volumes, window, per)| Limit { count, volumes, window: SignedDuration::from_secs(window), per },
    )
}

fn budgets() -> impl Strategy<Value = Budgets> {
    (option::of(limits()), option::of(limits())).prop_map(|(allowance, ceiling)| Budgets { allowance, ceiling })
}

/// What happens next, and how long after what was before.
#[derive(Debug, Clone)]
enum Step {
    Ask(Ask),
    /// What became of what is overdue, one after the other.
    Settle(Vec<Fate>),
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let action = prop_oneof![4 => Just(Action::Delete), 1 => Just(Action::Recreate), 1 => Just(Action::Evict)];
    let way = prop_oneof![
        4 => Just(Way::Approved), 3 => Just(Way::Tolerated), 5 => Just(Way::Allowance), 1 => Just(Way::BrokenGlass)];
    let requester = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d"), Just("e")];
    let ask = (action, 0_u32..7, requester, way, any::<bool>()).prop_map(|(action, number, requester, way, again)| {
        // The same object is always in the same place, and takes as much along.
        let namespace = if number % 2 == 0 { "n" } else { "m" };
        let uid = if again { number / 3 } else { number }.to_string();
        let volumes = uid.parse::<u32>().unwrap() % 3;
        let namespace = if again { "n" } else { namespace };
        Ask { action, uid: format!("{namespace}-{uid}"), namespace, requester: requester.into(), volumes, way }
    });
    let fate = prop_oneof![2 => Just(Fate::Done), 2 => Just(Fate::CameToNothing), 1 => Just(Fate::Unknown)];
    let step = prop_oneof![
        5 => ask.prop_map(Step::Ask),
        1 => collection::vec(fate, 12).prop_map(Step::Settle)];
    let pause = prop_oneof![3 => Just(0), 4 => 0_i64..7, 3 => 0_i64..60, 1 => 0_i64..700];
    collection::vec((pause, step), 1..60)
}

/// What was let pass, as whoever only watches would count it.
struct Passed {
    at: Timestamp,
    ask: Ask,
}

/// How much the one budget let pass in the window that ends now, beside emergencies, and how many volumes.
fn in_window(passed: &[Passed], limit: &Limit, ask: &Ask, allowance: bool, now: Timestamp) -> (usize, u32) {
    let same = |one: &Ask| match limit.per {
        Per::Requester => one.requester == ask.requester,
        Per::Namespace => one.namespace == ask.namespace,
        Per::Rule => true,
    };
    let counted = |one: &Ask| {
        let counts = if allowance { one.way == Way::Allowance } else { one.action == Action::Delete };
        counts && one.way != Way::BrokenGlass && same(one)
    };
    let lately = passed.iter().filter(|one| now.duration_since(one.at) < limit.window && counted(&one.ask));
    let objects: BTreeSet<_> = lately.map(|one| (one.ask.action, one.ask.uid.clone(), one.ask.volumes)).collect();
    (objects.len(), objects.iter().map(|(_, _, volumes)| volumes).sum())
}

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_window_ever_lets_more_pass_than_its_budget(budgets in budgets(), steps in steps()) {
        let mut book = Book::new(budgets.clone());
        let mut passed: Vec<Passed> = Vec::new();
        let mut seconds = 0;
        for (pause, step) in steps {
            seconds += pause;
            let now = at(seconds);
            match step {
                Step::Ask(ask) => {
                    if !budgets.count(ask.action, ask.way) || book.ask(&ask, now).is_err() {
                        continue;
                    }
                    // Again it changes nothing.
                    let again = ask.of(&budgets, &book.ledger, now);
                    prop_assert_eq!(again, Claimed::Granted(None));
                    // Of one object three requesters are remembered. What people approved passes for a fourth all the same: or
                    // whoever forges three could keep it out.
                    let mut own = book.ledger.entries.iter().filter(|one| (one.action, &one.uid) == (ask.action, &ask.uid));
                    if own.any(|one| one.requesters.len() == 3 && !one.requesters.contains(&ask.requester)) {
                        continue;
                    }
                    passed.push(Passed { at: now, ask: ask.clone() });
                    if ask.way == Way::BrokenGlass {
                        continue;
                    }
                    for (limit, allowance) in [(&budgets.allowance, true), (&budgets.ceiling, false)] {
                        let Some(limit) = limit else { continue };
                        let (count, volumes) = in_window(&passed, limit, &ask, allowance, now);
                        prop_assert!(count <= limit.count, "{count} of {limit:?}");
                        let bound = ask.volumes > 0 && (ask.way == Way::Allowance || !allowance);
                        prop_assert!(!bound || limit.volumes.is_none_or(|most| volumes <= most), "{volumes} of {limit:?}");
                    }
                }
                Step::Settle(fates) => {
                    let due: Vec<_> = overdue(&book.ledger, now).map(|(number, entry)| (number, entry.clone())).collect();
                    let fates: BTreeMap<_, _> = due.iter().map(|(number, _)| *number).zip(fates).collect();
                    for (number, entry) in due {
                        if fates.get(&number) == Some(&Fate::CameToNothing) {
                            passed.retain(|one| (one.ask.action, &one.ask.uid) != (entry.action, &entry.uid));
                        }
                    }
                    book.tell(&fates, seconds);
                }
            }
            let per_object: BTreeSet<_> = book.ledger.entries.iter().map(|entry| (entry.action, &entry.uid)).collect();
            prop_assert_eq!(per_object.len(), book.ledger.entries.len());
            prop_assert!(book.ledger.entries.iter().all(|entry| (1..=3).contains(&entry.requesters.len())));
        }
    }

    #[test]
    fn when_the_next_is_said_to_be_possible_it_is_not_kept_for_the_same_reason(budgets in budgets(), steps in steps()) {
        let mut book = Book::new(budgets.clone());
        let mut seconds = 0;
        for (pause, step) in steps {
            seconds += pause;
            match step {
                Step::Settle(fates) => {
                    let due = overdue(&book.ledger, at(seconds)).map(|(number, _)| number);
                    let fates = due.zip(fates).collect();
                    book.tell(&fates, seconds);
                }
                Step::Ask(ask) if budgets.count(ask.action, ask.way) => {
                    let Err(Full { reason, next: Some(next) }) = book.ask(&ask, at(seconds)) else { continue };
                    prop_assert!(next > at(seconds));
                    // By then it is known what became of those that were under way.
                    let fates = (0..book.ledger.entries.len()).map(|number| (number, Fate::Done)).collect();
                    let later = budgets.settled(&book.ledger, &fates, next).unwrap_or_else(|| book.ledger.clone());
                    if let Claimed::Full(full) = ask.of(&budgets, &later, next) {
                        prop_assert!(full.reason != reason, "{reason:?} at {next}");
                    }
                }
                Step::Ask(_) => {}
            }
        }
    }
}
