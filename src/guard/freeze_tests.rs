use rstest::rstest;

use super::*;

fn often(schedule: &str, duration: &str, zone: &str) -> Freezes {
    read(&serde_json::json!({"schedule": schedule, "duration": duration, "timeZone": zone, "reason": "r"})).unwrap()
}

fn read(freeze: &serde_json::Value) -> Result<Freezes, String> {
    Freezes::read(&[serde_json::from_value(freeze.clone()).unwrap()])
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[track_caller]
fn frozen(freezes: &Freezes, now: &str, until: Option<&str>) {
    assert_eq!(freezes.at(at(now)).map(|frozen| frozen.until), until.map(at), "at {now}");
}

#[test]
fn a_freeze_lasts_from_its_first_moment_until_just_before_its_last() {
    let freezes = read(&serde_json::json!({
        "from": "2026-12-23T18:00", "until": "2027-01-04T08:00", "timeZone": "Europe/Berlin", "reason": "holidays"
    }))
    .unwrap();
    let end = Some("2027-01-04T07:00:00Z");
    for (now, until) in [
        ("2026-12-23T16:59:59Z", None),
        ("2026-12-23T17:00:00Z", end),
        ("2027-01-04T06:59:59Z", end),
        ("2027-01-04T07:00:00Z", None),
    ] {
        frozen(&freezes, now, until);
    }
    assert_eq!(freezes.after(at("2026-12-01T00:00:00Z")).unwrap().from, at("2026-12-23T17:00:00Z"));
    assert_eq!(freezes.after(at("2026-12-24T00:00:00Z")), None);
}

#[test]
fn a_weekend_begins_when_clocks_show_friday_evening_in_summer_and_in_winter() {
    let freezes = often("0 18 * * 5", "62h", "Europe/Berlin");
    // Winter: 18:00 is 17:00 in UTC.
    frozen(&freezes, "2026-11-20T16:59:59Z", None);
    frozen(&freezes, "2026-11-20T17:00:00Z", Some("2026-11-23T07:00:00Z"));
    frozen(&freezes, "2026-11-23T07:00:00Z", None);
    // Summer: it is 16:00.
    frozen(&freezes, "2026-07-24T16:00:00Z", Some("2026-07-27T06:00:00Z"));
}

#[test]
fn a_beginning_that_clocks_skip_in_spring_is_not_lost() {
    // At 02:00 on 2027-03-28 clocks in Berlin are put forward to 03:00: 02:30 is never shown.
    let freezes = often("30 2 * * *", "2h", "Europe/Berlin");
    frozen(&freezes, "2027-03-28T01:29:59Z", None);
    frozen(&freezes, "2027-03-28T01:30:00Z", Some("2027-03-28T03:30:00Z"));
}

#[test]
fn a_beginning_that_clocks_show_twice_in_autumn_is_the_first() {
    // At 03:00 on 2026-10-25 clocks in Berlin are put back to 02:00.
    let freezes = often("30 2 * * *", "30m", "Europe/Berlin");
    frozen(&freezes, "2026-10-25T00:30:00Z", Some("2026-10-25T01:00:00Z"));
    frozen(&freezes, "2026-10-25T01:30:00Z", None);
}

#[test]
fn a_day_that_was_never_shown_anywhere_stops_nothing() {
    // Samoa went from 2011-12-29 to 2011-12-31.
    let freezes = often("0 12 * * *", "1h", "Pacific/Apia");
    frozen(&freezes, "2011-12-30T22:00:00Z", Some("2011-12-30T23:00:00Z"));
}

#[test]
fn freezes_that_overlap_are_one() {
    let freezes = often("0 0 * * *", "24h", "Etc/UTC");
    let until = freezes.at(at("2026-11-22T10:00:00Z")).unwrap().until;
    assert!(until > at("2027-01-01T00:00:00Z"), "{until}");
    assert!(often("* * * * *", "744h", "Etc/UTC").at(at("2026-11-22T10:00:00Z")).is_some());
}

#[test]
fn of_several_freezes_the_one_that_ends_last_is_said() {
    let freeze = |until: &str, reason: &str| {
        serde_json::from_value(serde_json::json!({"from": "2026-01-01T00:00", "until": until, "reason": reason}))
            .unwrap()
    };
    let freezes = Freezes::read(&[freeze("2026-03-01T00:00", "long"), freeze("2026-02-01T00:00", "short")]).unwrap();
    let expected = Frozen { until: at("2026-03-01T00:00:00Z"), reason: "long".into() };
    assert_eq!(freezes.at(at("2026-01-15T00:00:00Z")), Some(expected));
}

#[rstest]
#[case::no_such_place(serde_json::json!({"from": "2026-01-01T00:00", "until": "2026-01-02T00:00", "timeZone": "Europe/Atlantis", "reason": "r"}))]
#[case::backwards(serde_json::json!({"from": "2026-01-02T00:00", "until": "2026-01-01T00:00", "reason": "r"}))]
#[case::no_such_day(serde_json::json!({"from": "2026-02-30T00:00", "until": "2026-03-01T00:00", "reason": "r"}))]
#[case::never(serde_json::json!({"schedule": "0 0 30 2 *", "duration": "1h", "reason": "r"}))]
#[case::a_place_of_its_own(serde_json::json!({"schedule": "0 0 * * * Europe/Berlin", "duration": "1h", "reason": "r"}))]
#[case::not_cron(serde_json::json!({"schedule": "every day at noon !", "duration": "1h", "reason": "r"}))]
#[case::no_length(serde_json::json!({"schedule": "0 0 * * *", "duration": "0s", "reason": "r"}))]
#[case::neither(serde_json::json!({"schedule": "0 0 * * *", "reason": "r"}))]
fn a_freeze_that_says_nothing_sensible_is_an_error(#[case] freeze: serde_json::Value) {
    let error = read(&freeze).unwrap_err();
    assert!(error.starts_with("freeze[0]: "), "{error}");
}
