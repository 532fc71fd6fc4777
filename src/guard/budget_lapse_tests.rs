//! What nobody approved holds little, and what did not go twice is let pass by people alone.

use rstest::rstest;

use super::*;

#[rstest]
#[case::of_one(1, 1)]
#[case::of_four(4, 2)]
#[case::of_five(5, 3)]
fn what_nobody_approved_and_has_not_gone_yet_holds_half_of_a_ceiling_rounded_up(
    #[case] count: usize,
    #[case] half: usize,
) {
    let mut book = Book::new(ceiling(count, Per::Rule));
    let little = |number: usize| of(&format!("little-{number}")).way(Way::Tolerated);
    for number in 0..half {
        book.grants(&little(number), 0);
    }
    if half < count {
        let full = book.refuses(&little(half), 0);
        assert_eq!(full, Full { reason: FullReason::UnderWay, next: None });
        // Asked for again it has its place.
        book.grants(&little(0), 1);
    }
    // Whoever forges reviews cannot keep out what people approved, nor an emergency.
    for number in half..count {
        book.clone().grants(&of("glass").way(Way::BrokenGlass), 1);
        book.grants(&of(&format!("great-{number}")), 1);
    }
    assert_eq!(book.refuses(&of("more"), 1).reason, FullReason::Ceiling(limit(count, Per::Rule)));
}

#[test]
fn what_is_gone_or_approved_after_all_is_under_way_no_more() {
    let mut book = Book::new(ceiling(6, Per::Rule));
    let little = |uid| of(uid).way(Way::Tolerated);
    for uid in ["a", "b", "c"] {
        book.grants(&little(uid), 0);
    }
    book.refuses(&little("d"), 0);
    book.tell(&[(0, Fate::Done)].into(), 1);
    book.grants(&little("d"), 1);
    book.refuses(&little("e"), 1);
    book.grants(&of("b"), 2);
    book.grants(&little("e"), 2);
}

#[test]
fn half_of_a_ceiling_is_held_in_each_budget_by_itself() {
    let mut book = Book::new(ceiling(2, Per::Namespace));
    let little = |uid, namespace| Ask { namespace, ..of(uid).way(Way::Allowance) };
    book.grants(&little("a", "n"), 0);
    assert_eq!(book.refuses(&little("b", "n"), 0).reason, FullReason::UnderWay);
    book.grants(&little("c", "m"), 0);
}

#[test]
fn what_was_let_pass_twice_without_approval_and_did_not_go_is_let_pass_by_people_alone() {
    for way in [Way::Tolerated, Way::Allowance] {
        let both = Budgets { allowance: Some(limit(9, Per::Rule)), ceiling: Some(limit(9, Per::Rule)) };
        let mut book = Book::new(both);
        let ask = of("a").way(way);
        for seconds in [0, 200] {
            book.grants(&ask, seconds);
            book.settle(Fate::CameToNothing, seconds + 105);
        }
        let full = book.refuses(&ask, 310);
        assert_eq!(full, Full { reason: FullReason::CameToNothing, next: Some(at(105 + OVER)) });
        // Whoever asks, and for nothing else.
        book.refuses(&ask.clone().by("bob"), 310);
        book.clone().grants(&of("b").way(way), 310);
        book.clone().grants(&of("a"), 310);
        book.clone().grants(&of("a").way(Way::BrokenGlass), 310);
        book.refuses(&ask, 105 + OVER - 1);
        book.grants(&ask, 105 + OVER);
    }
}

#[test]
fn however_short_a_window_is_what_came_to_nothing_is_known_as_long_as_a_place_is_held() {
    let short = Limit { window: SignedDuration::from_secs(10), ..limit(9, Per::Rule) };
    let mut book = Book::new(Budgets { allowance: None, ceiling: Some(short) });
    let ask = of("a").way(Way::Tolerated);
    book.grants(&ask, 0);
    book.settle(Fate::CameToNothing, 105);
    book.settle(Fate::Unknown, 209);
    assert_eq!(book.ledger.lapsed.len(), 1);
    book.settle(Fate::Unknown, 210);
    assert_eq!(book.ledger.lapsed, []);
}

#[test]
fn an_object_that_is_asked_for_again_and_again_and_does_not_go_lapses_without_being_looked_at() {
    let mut book = Book::new(ceiling(9, Per::Rule));
    let ask = of("a").way(Way::Tolerated);
    book.grants(&ask, 0);
    book.grants(&ask, 75);
    assert_eq!((book.ledger.lapsed.len(), book.ledger.entries[0].first), (0, at(0)));
    book.grants(&ask, 76);
    assert_eq!((book.ledger.lapsed.len(), book.ledger.entries[0].first), (1, at(76)));
    book.grants(&ask, 140);
    assert_eq!(book.refuses(&ask, 152).reason, FullReason::CameToNothing);
    // With people's word it passes all the same, and is counted.
    book.grants(&of("a"), 152);
    book.grants(&of("a"), 400);
    assert_eq!(book.ledger.lapsed.len(), 3);
}

#[test]
fn what_is_known_to_have_been_done_came_to_something() {
    let mut book = Book::new(allowance(9, Per::Rule));
    let ask = of("a").to(Action::Recreate).way(Way::Allowance);
    for seconds in [0, 200, 400, 600] {
        book.grants(&ask, seconds);
        book.settle(Fate::Done, seconds + 105);
    }
    assert_eq!(book.ledger.lapsed, []);
}

#[test]
fn an_eviction_that_a_disruption_budget_keeps_may_be_asked_for_for_ever() {
    let mut book = Book::new(allowance(1, Per::Rule));
    let ask = of("pod").to(Action::Evict).way(Way::Allowance);
    for round in 0..20 {
        book.grants(&ask, round * 80);
        if round % 3 == 2 {
            book.settle(Fate::CameToNothing, round * 80 + 105);
            assert!(book.ledger.entries.is_empty());
        }
    }
    assert_eq!(book.ledger.lapsed, []);
}
