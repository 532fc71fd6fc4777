//! What a ledger holds at most, and what times and lengths it bears.

use super::*;

/// A ledger with so many entries that people approved, and so many that nobody did.
fn filled(approved: usize, unapproved: usize) -> Book {
    let mut book = Book::new(Budgets { allowance: None, ceiling: Some(limit(usize::MAX, Per::Rule)) });
    book.grants(&of("first"), 0);
    let entry = book.ledger.entries.remove(0);
    let one = |number: usize| LedgerEntry { uid: number.to_string(), approved: number < approved, ..entry.clone() };
    book.ledger.entries = (0..approved + unapproved).map(one).collect();
    book
}

fn is_over(full: &Full) -> bool {
    *full == Full { reason: FullReason::Ledger, next: None }
}

#[test]
fn a_ledger_holds_a_thousand_entries_and_five_hundred_that_nobody_approved() {
    let little = of("more").way(Way::Tolerated);
    filled(0, 499).grants(&little, 1);
    assert!(is_over(&filled(0, 500).refuses(&little, 1)));
    assert!(is_over(&filled(100, 500).refuses(&little, 1)));
    filled(0, 500).grants(&of("more"), 1);
    filled(499, 500).grants(&of("more"), 1);
    assert!(is_over(&filled(500, 500).refuses(&of("more"), 1)));
    assert!(is_over(&filled(1000, 0).refuses(&of("more"), 1)));
    // What nobody approved is among the thousand.
    filled(999, 0).grants(&little, 1);
    assert!(is_over(&filled(1000, 0).refuses(&little, 1)));
    assert!(is_over(&filled(700, 300).refuses(&little, 1)));
    // What is in it stays in it.
    filled(500, 500).grants(&of("700").way(Way::Tolerated), 1);
    filled(500, 500).grants(&of("3"), 1);
}

#[test]
fn what_counts_no_more_makes_room() {
    let mut book = filled(1000, 0);
    for entry in &mut book.ledger.entries {
        entry.spent = true;
    }
    book.refuses(&of("more"), OVER - 1);
    book.grants(&of("more"), OVER);
    assert_eq!(book.ledger.entries.len(), 1);
    // What was never found out about counts no more than the rest, and is asked about for an hour longer.
    let mut book = filled(1, 0);
    book.grants(&of("more"), OVER + 3599);
    assert_eq!(book.ledger.entries.len(), 2);
    assert_eq!(book.used(OVER), [(None, 1)]);
    book.settle(Fate::Unknown, OVER + 3600);
    assert_eq!(book.ledger.entries.len(), 1);
}

#[test]
fn three_may_have_asked_for_an_object_and_a_fourth_passes_by_peoples_word_or_where_names_do_not_matter() {
    let mut book = Book::new(ceiling(9, Per::Rule));
    for requester in ["a", "b", "c", "d", "e"] {
        book.grants(&of("x").by(requester).way(Way::Tolerated), 0);
    }
    assert_eq!(book.ledger.entries[0].requesters, ["a", "b", "c"]);
    let mut book = Book::new(ceiling(9, Per::Requester));
    for requester in ["a", "b", "c", "b"] {
        book.grants(&of("x").by(requester), 0);
    }
    assert!(is_over(&book.refuses(&of("x").by("d").way(Way::Tolerated), 0)));
    book.grants(&of("x").by("d"), 0);
    book.grants(&of("x").by("d").way(Way::BrokenGlass), 0);
    assert!(book.ledger.entries[0].requesters.len() <= 3, "{:?}", book.ledger);
    // It takes nobody's place away.
    let used = book.used(0);
    for requester in ["a", "b", "c"] {
        assert!(used.contains(&(Some(requester.to_owned()), 1)), "{used:?}");
    }
}

#[test]
fn long_names_fill_no_ledger_and_stay_apart() {
    let mut book = Book::new(ceiling(1, Per::Requester));
    let (long, other) = ("é".repeat(5000), format!("{}x", "é".repeat(5000)));
    book.grants(&of("a").by(&long), 0);
    let kept = &book.ledger.entries[0].requesters[0];
    assert!(kept.len() <= 128 && kept.starts_with("éé"), "{kept}");
    book.grants(&of("a").by(&long), 1);
    assert_eq!(book.ledger.entries[0].requesters.len(), 1);
    book.refuses(&of("b").by(&long), 0);
    book.grants(&of("b").by(&other), 0);
    for length in [100, 101] {
        let mut book = Book::new(ceiling(1, Per::Requester));
        book.grants(&of("a").by(&"x".repeat(length)), 0);
        assert_eq!(book.ledger.entries[0].requesters[0] == "x".repeat(length), length == 100);
    }
}

#[test]
fn of_what_came_to_nothing_the_last_five_hundred_and_twelve_are_kept() {
    let mut book = filled(0, 500);
    book.ledger.lapsed = (0..100).map(|number| Lapse { uid: format!("old-{number}"), at: at(0) }).collect();
    book.settle(Fate::CameToNothing, 105);
    assert_eq!(book.ledger.lapsed.len(), 512);
    assert_eq!(book.ledger.lapsed[0].uid, "old-88");
    assert_eq!(book.ledger.lapsed[511], Lapse { uid: "499".into(), at: at(105) });
    book.settle(Fate::Unknown, 105 + OVER - 1);
    assert_eq!(book.ledger.lapsed.len(), 500);
    book.settle(Fate::Unknown, 105 + OVER);
    assert_eq!(book.ledger.lapsed, []);
}

#[test]
fn no_time_and_no_length_makes_it_panic() {
    let times = [Timestamp::MIN, Timestamp::UNIX_EPOCH, NOW, Timestamp::MAX];
    let windows = [SignedDuration::MIN, SignedDuration::ZERO, SignedDuration::from_hours(168), SignedDuration::MAX];
    let ways = [Way::Approved, Way::Tolerated, Way::Allowance, Way::BrokenGlass];
    for window in windows {
        for count in [0, 1, usize::MAX] {
            let limit = Limit { window, volumes: Some(u32::MAX), ..limit(count, Per::Requester) };
            let budgets = Budgets { allowance: Some(limit.clone()), ceiling: Some(limit) };
            for (written, now) in times.iter().flat_map(|one| times.iter().map(move |other| (*one, *other))) {
                let mut book = Book::new(budgets.clone());
                let _ = book.ask(&of("a").way(Way::Tolerated).volumes(u32::MAX), written);
                let _ = book.ask(&of("b").volumes(u32::MAX), written);
                book.ledger.lapsed.push(Lapse { uid: "a".into(), at: written });
                for way in ways {
                    let _ = book.ask(&of("a").way(way).volumes(u32::MAX), now);
                }
                let _ = book.budgets.usage(&book.ledger, now);
                let fates = overdue(&book.ledger, now).map(|(number, _)| (number, Fate::CameToNothing)).collect();
                let _ = book.budgets.settled(&book.ledger, &fates, now);
            }
        }
    }
}

#[test]
fn a_budget_is_read_as_it_is_written_or_told_by_its_field() {
    let budget =
        |window: &str| Budget { count: 3, volumes: Some(2), window: crate::api::Period::new(window), per: Per::Rule };
    let (ten, bad) = (budget("10m"), budget("soon"));
    let limit = Limit { volumes: Some(2), ..limit(3, Per::Rule) };
    let read = Budgets::read(Some(&ten), None);
    assert_eq!(read, Ok(Budgets { allowance: Some(limit.clone()), ceiling: None }));
    assert_eq!(Budgets::read(None, Some(&ten)), Ok(Budgets { allowance: None, ceiling: Some(limit) }));
    assert!(Budgets::read(Some(&bad), None).unwrap_err().starts_with("allowance.window: "));
    assert!(Budgets::read(Some(&ten), Some(&bad)).unwrap_err().starts_with("ceiling.window: "));
}
