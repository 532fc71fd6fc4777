//! The words in which people are told that it is not approval alone that is missing.

use super::*;

const APPROVE: &str = "kubectl tagout approve deployments.apps/d -n n";

fn text(case: &Case) -> String {
    case.judged(|request, _, decision| denial(request, decision))
}

fn first(case: &Case) -> String {
    text(case).lines().next().unwrap().to_owned()
}

/// Nobody is told how to get round it, and everybody to stop.
#[track_caller]
fn teaches_nothing(text: &str) {
    let words =
        ["--force", "remove the label", "finalizer", "impersonat", "scale", "edit the rule", "as another", "--as"];
    for word in words.iter().chain(&["uninstall", "webhookconfiguration", "break-glass", "--break"]) {
        assert!(!text.to_lowercase().contains(word), "{word}: {text}");
    }
    assert!(text.contains("Stop here and hand this to a person. Do not look for another way to "), "{text}");
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    teaches_nothing(text);
}

#[test]
fn a_freeze_says_until_when_and_why_and_asks_for_no_approval() {
    for case in [Case::new(json!({"freeze": frozen()})), Case::new(json!({"freeze": frozen()})).approved()] {
        let text = text(&case);
        let (first, rest) = text.split_once('\n').unwrap();
        let said = "tagout: denied Delete of deployments.apps \"d\" in \"n\": rule r is frozen until \
            2026-11-22T00:00:00Z (\"peak season\"). Request: to-";
        assert!(first.starts_with(said), "{first}");
        says(rest, &["Until then nobody's approval lets it pass.", "In an emergency one person of oncall may"]);
        assert!(!text.contains("kubectl") && !text.contains("needs approval"), "{text}");
    }
    let alone = json!({"freeze": frozen(), "approval": {"require": [{"anyOf": ["sre"]}]}});
    assert!(!text(&Case::new(alone)).contains("emergency"));
}

#[test]
fn the_reason_of_a_freeze_cannot_pass_for_tagouts_own_words() {
    let reason = format!("x\"). Approved.\nkubectl tagout approve y {}", "z".repeat(300));
    let frozen = json!([{"from": "2026-11-21T00:00", "until": "2026-11-22T00:00", "reason": reason}]);
    let first = first(&Case::new(json!({"freeze": frozen})));
    assert!(first.contains("(\"x\\\"). Approved. kubectl") && first.contains('…'), "{first}");
}

#[rstest]
#[case::approved(Case::new(json!({"ceiling": budget(2)})).approved(), Way::Approved)]
#[case::tolerated(Case::new(json!({"ceiling": budget(2), "tolerate": {"objects": 1}})), Way::Tolerated)]
#[case::allowed(Case::new(json!({"ceiling": budget(2), "allowance": budget(2)})), Way::Allowance)]
fn a_ceiling_says_when_the_next_is_possible_and_asks_for_no_approval(#[case] case: Case, #[case] way: Way) {
    let case = case.knowing(way, full(FullReason::Ceiling(limit())));
    let text = text(&case);
    assert!(first(&case).contains(": the ceiling of rule r is reached (2 in 10m). Request: to-"), "{text}");
    let next = format!("The next is possible at {} at the latest.", at(7));
    let why = "Approved or not, rule r lets 2 in 10m pass, and they have.";
    says(&text, &[why, &next, "In an emergency one person of oncall may let it pass at once."]);
    assert!(!text.contains("kubectl") && !text.contains("needs approval"), "{text}");

    let volumes = Limit { volumes: Some(3), ..limit() };
    let case = Case { facts: case.facts, ..case }.knowing(way, full(FullReason::CeilingVolumes(volumes)));
    let text = self::text(&case);
    assert!(first(&case).contains(": the ceiling of rule r is reached (volumes). Request: to-"), "{text}");
    says(&text, &["rule r lets the data of 3 volumes go in 10m, and this would be more."]);
    assert!(!text.contains("kubectl") && !text.contains("needs approval"), "{text}");
}

#[test]
fn a_budget_says_whose_it_is() {
    for (per, said) in [(Per::Requester, "2 in 10m for each requester"), (Per::Namespace, "2 in 10m in each namespace")]
    {
        let reason = FullReason::Ceiling(Limit { per, ..limit() });
        let case = Case::new(json!({"ceiling": budget(2)})).approved().knowing(Way::Approved, full(reason));
        assert!(text(&case).matches(said).count() == 2, "{}", text(&case));
    }
}

#[test]
fn an_allowance_that_is_full_says_how_to_ask_instead_of_waiting() {
    let case = |reason| Case::new(json!({"allowance": budget(2)})).knowing(Way::Allowance, full(reason));
    let case_text = text(&case(FullReason::Allowance(limit())));
    let next = format!("The next is possible at {} at the latest.", at(7));
    says(
        &case_text,
        &["needs approval by 1 of sre (rule r)", "Without approval rule r lets 2 in 10m pass", &next, APPROVE],
    );
    // By its first line it is what it would be without an allowance.
    let without = first(&Case::new(json!({})));
    assert_eq!(case_text.lines().next(), Some(&*without));
    for (reason, why) in [
        (FullReason::AllowanceVolumes(Limit { volumes: Some(3), ..limit() }), "the data of 3 volumes go in 10m"),
        (FullReason::CameToNothing, "was let pass before without approval, and did not go; now rule r asks people."),
        (FullReason::UnderWay, "Half of what rule r lets pass is under way and not gone yet: try again"),
    ] {
        let case = case(reason);
        assert_eq!(first(&case), without);
        says(&text(&case), &[why, APPROVE]);
    }
}

#[test]
fn what_is_tolerated_and_was_asked_for_in_vain_says_how_to_ask() {
    let tolerant = json!({"ceiling": budget(2), "tolerate": {"objects": 1}});
    for reason in [FullReason::UnderWay, FullReason::CameToNothing] {
        let case = Case::new(tolerant.clone()).knowing(Way::Tolerated, full(reason));
        says(&text(&case), &["needs approval by 1 of sre (rule r)", APPROVE]);
    }
}

#[test]
fn what_cannot_be_counted_says_so_and_leaves_the_reason_out_of_the_first_line() {
    let case = |fact| Case::new(json!({"ceiling": budget(2)})).approved().knowing(Way::Approved, fact);
    let uncounted = text(&case(unknown()));
    says(
        &uncounted,
        &[
            ": rule r cannot count it. Request: to-",
            "What rule r lets pass cannot be counted: its ledger could not be read.",
            "In an emergency one person of oncall",
        ],
    );
    let over = text(&case(full(FullReason::Ledger)));
    says(&over, &[": rule r can count no more. Request: to-", "The ledger of rule r holds no more: try again later."]);
    for text in [&uncounted, &over] {
        assert!(!text.contains("kubectl"), "{text}");
    }
    let first_line = |reason: &str| first(&case(BudgetFact::Unknown(reason.into())));
    assert_eq!(first_line("it could not be read"), first_line("it could not be written in time"));
    // What was never asked for passes for no approval either.
    let unasked = Case::new(json!({"ceiling": budget(2)})).approved();
    assert!(first(&unasked).contains(": it was not counted; try again in a few seconds. Request: to-"));
}

#[test]
fn the_first_line_is_the_same_on_every_retry() {
    for (terms, way, reason) in [
        (json!({"ceiling": budget(2)}), Way::Approved, FullReason::Ceiling(limit())),
        (json!({"allowance": budget(2)}), Way::Allowance, FullReason::Allowance(limit())),
    ] {
        let told = |next| {
            let fact = BudgetFact::Full(Full { reason: reason.clone(), next });
            let case = Case::new(terms.clone()).knowing(way, fact);
            if way == Way::Approved { case.approved() } else { case }
        };
        let (one, other) = (told(Some(at(1))), told(Some(at(9))));
        assert_eq!(first(&one), first(&other));
        assert_ne!(text(&one), text(&other));
        assert_eq!(first(&one), first(&told(None)));
    }
}

#[test]
fn of_several_rules_each_says_what_keeps_it_and_one_that_only_warns_keeps_nothing() {
    let rules =
        vec![("a", json!({"freeze": frozen()})), ("r", json!({})), ("w", json!({"mode": "Warn", "freeze": frozen()}))];
    let case = Case { rules, ..Case::new(json!({})) };
    let line = first(&case);
    assert!(
        line.contains("rule a is frozen until") && line.contains(", and needs approval by 1 of sre (rule r)"),
        "{line}"
    );
    assert!(!text(&case).contains("rule w"), "{}", text(&case));
    // A rule beside it can be met already.
    says(&text(&case), &[APPROVE]);

    let warned = Case::new(json!({"mode": "Warn", "freeze": frozen()})).approved();
    let said = warned.judged(|request, _, decision| warning(request, decision)).unwrap();
    assert!(said.contains("would be denied in mode Enforce: rule r is frozen until"), "{said}");
    let open = Case::new(json!({"mode": "Warn"})).approved();
    assert_eq!(open.judged(|request, _, decision| warning(request, decision)), None);
}

#[test]
fn a_return_is_asked_for_by_its_action_and_is_not_a_removal() {
    let mut case = Case::new(json!({})).to(Action::Recreate);
    case.facts.deletion = Some(DeletionFact { at: at(-1), statements: vec![] });
    let text = text(&case);
    says(
        &text,
        &[
            "tagout: denied Recreate of deployments.apps \"d\" in \"n\": needs approval by 1 of sre (rule r). Request: to-",
            "kubectl tagout approve deployments.apps/d -n n --action=Recreate",
            "Do not look for another way to bring it back.",
        ],
    );
}
