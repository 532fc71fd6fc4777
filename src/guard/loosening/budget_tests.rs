//! What a rule that is no weaker lets pass, the one before let pass too.

use jiff::SignedDuration;

use super::*;
use crate::api::{Action, LedgerEntry, LedgerSpec};
use crate::guard::{Budgets, Claim, Claimed, Freezes, Way};

fn budgets() -> impl Strategy<Value = Value> {
    let per = prop_oneof![Just("Requester"), Just("Namespace"), Just("Rule")];
    let limited = (1_u32..4, option::of(0_u32..4), 1_u32..6, per)
        .prop_map(|(count, volumes, window, per)| budget(count, volumes, &format!("{window}m"), per));
    option::weighted(0.8, limited).prop_map(Option::unwrap_or_default)
}

fn spec(allowance: &Value, ceiling: &Value, freeze: &Value) -> ProtectionRuleSpec {
    let spec = json!({"resources": [{"apiGroups": [""], "resources": ["x"]}], "approval": {"require": [entry(&["sre"], 1)]},
        "allowance": allowance, "ceiling": ceiling, "freeze": freeze});
    serde_json::from_value(spec).unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    NOW - SignedDuration::from_secs(seconds)
}

fn entries() -> impl Strategy<Value = Vec<LedgerEntry>> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let one =
        (0_i64..400, "[nm]", "[ab]", 0_u32..3, flags).prop_map(|(since, namespace, requester, volumes, flags)| {
            LedgerEntry {
                action: if flags.0 { Action::Delete } else { Action::Recreate },
                api_version: "v1".into(),
                resource: "x".into(),
                namespace,
                name: String::new(),
                uid: String::new(),
                requesters: vec![requester],
                approved: !flags.1,
                allowance: flags.1,
                volumes,
                first: ago(since),
                last: ago(since),
                spent: flags.2,
            }
        });
    collection::vec(one, 0..6).prop_map(|mut all| {
        for (number, entry) in all.iter_mut().enumerate() {
            entry.uid = number.to_string();
        }
        all
    })
}

fn freezes() -> impl Strategy<Value = Value> {
    let day = || (1_u32..29, 0_u32..24).prop_map(|(day, hour)| format!("{day:02}T{hour:02}:00"));
    let single =
        (day(), day()).prop_filter_map("ends first", |(from, until)| (from < until).then(|| once(&from, &until)));
    let again = (prop_oneof![Just("0 18 * * 5"), Just("30 2 * * *")], 1_u32..90)
        .prop_map(|(schedule, hours)| with(&often(&format!("{hours}h")), "schedule", schedule));
    let zone = prop_oneof![4 => Just("Etc/UTC"), 1 => Just("America/New_York")];
    let one = (prop_oneof![single, again], zone).prop_map(|(freeze, zone)| with(&freeze, "timeZone", zone));
    collection::vec(one, 0..3).prop_map(Value::from)
}

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_budgets_that_are_no_weaker_let_pass_those_before_let_pass_too(
        old in (budgets(), budgets()),
        new in (budgets(), budgets(), 0..3),
        entries in entries(),
        claim in ("[nm]", "[ab]", 0_u32..3, any::<bool>()),
    ) {
        let new = match new.2 {
            0 => (new.0, old.1.clone()),
            1 => (old.0.clone(), new.1),
            _ => (new.0, new.1),
        };
        let (old, new) = (spec(&old.0, &old.1, &json!([])), spec(&new.0, &new.1, &json!([])));
        // Without an allowance nothing passes by one.
        let way = if claim.3 && old.allowance.is_some() && new.allowance.is_some() { Way::Allowance } else { Way::Approved };
        if loosened_rule(&old, &new, NOW).is_empty() {
            let ledger = LedgerSpec { entries, ..LedgerSpec::default() };
            let subject = Subject { namespace: claim.0.into(), uid: "u".into(), ..Subject::default() };
            let granted = |spec: &ProtectionRuleSpec| {
                let budgets = Budgets::read(spec.allowance.as_ref(), spec.ceiling.as_ref()).unwrap();
                let (action, requester, volumes) = (Action::Delete, claim.1.as_str(), claim.2);
                let claim = Claim { action, subject: &subject, api_version: "v1", requester, volumes, way };
                !matches!(budgets.claim(&ledger, &claim, NOW), Claimed::Full(_))
            };
            prop_assert!(granted(&old) || !granted(&new));
        }
    }

    #[test]
    fn what_freezes_kept_those_that_are_no_weaker_keep_too(old in freezes(), new in freezes(), hours in 0_i64..720) {
        let none = json!(null);
        let (old, mut new) = (spec(&none, &none, &old), spec(&none, &none, &new));
        // Most pairs have nothing in common.
        if hours % 2 == 0 {
            new.freeze.extend(old.freeze.iter().rev().skip(usize::from(hours % 4 == 0)).cloned());
        }
        // What is over by then keeps nothing any more.
        let now = ago(20 * 86400);
        if loosened_rule(&old, &new, now).is_empty() {
            let time = now + SignedDuration::from_hours(hours);
            let frozen = |spec: &ProtectionRuleSpec| Freezes::read(&spec.freeze).unwrap().at(time).is_some();
            prop_assert!(frozen(&new) || !frozen(&old));
        }
    }
}
