use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;
use serde_json::json;

use super::*;

fn event(id: &str, second: u32) -> Value {
    json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": id, "stage": "ResponseComplete", "verb": "delete",
        "requestURI": "/x", "user": {"username": "u"}, "requestReceivedTimestamp": "2026-11-22T09:00:00.000000Z", "stageTimestamp": format!("2026-11-22T10:00:{second:02}.000000Z")})
}

fn ids(mut sources: Vec<Source>) -> (String, u64) {
    let mut found = String::new();
    while let Some(event) = next(&mut sources).unwrap() {
        found += &event.id;
    }
    (found, sources.iter().map(|source| source.read.unreadable).sum())
}

fn source(bytes: Vec<u8>) -> Source {
    Source::of(Box::new(Cursor::new(bytes))).unwrap()
}

#[rstest]
#[case::as_it_is(event("a", 1).to_string())]
#[case::over_lines(serde_json::to_string_pretty(&event("a", 1)).unwrap())]
#[case::a_list(serde_json::to_string_pretty(&json!({"kind": "EventList", "items": [event("a", 1)]})).unwrap())]
#[case::a_bare_list(json!([event("a", 1)]).to_string())]
#[case::cloud_watch(json!({"logEvents": [{"id": "1", "message": event("a", 1).to_string()}]}).to_string())]
#[case::a_message(json!({"timestamp": 1, "message": event("a", 1).to_string()}).to_string())]
#[case::azure(json!({"category": "kube-audit", "properties": {"log": event("a", 1).to_string(), "pod": "p"}}).to_string())]
fn an_event_is_found_however_it_is_wrapped(#[case] text: String) {
    assert_eq!(ids(vec![source(text.clone().into_bytes())]), ("a".to_owned(), 0));
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    assert_eq!(ids(vec![source(packed.finish().unwrap())]), ("a".to_owned(), 0));
}

#[test]
fn files_are_merged_by_time_and_what_is_no_event_is_counted() {
    let one = format!("{}\n{}\nnonsense\n\n{}\n", event("a", 1), event("d", 4), event("c", 3));
    let other = format!("{}\n{{\"x\":1}}\n{}\n", event("b", 2), event("e", 5));
    assert_eq!(ids(vec![source(one.into_bytes()), source(other.into_bytes())]), ("abcde".to_owned(), 2));
}

#[test]
fn one_foreign_record_in_a_batch_takes_no_other_along() {
    let foreign = [json!({"message": "somebody else's"}), json!({"protoPayload": {}}), json!(1)];
    for foreign in foreign {
        let batch = json!({"logEvents": [{"message": event("a", 1).to_string()}, foreign, {"message": event("b", 2).to_string()}]});
        assert_eq!(ids(vec![source(batch.to_string().into_bytes())]), ("ab".to_owned(), 1));
    }
    let mut sources = vec![source(json!({"items": [event("a", 1), 1, 2, 3]}).to_string().into_bytes())];
    next(&mut sources).unwrap();
    assert_eq!(sources[0].read, Counted { records: 4, unreadable: 3 });
}

#[test]
fn a_line_that_was_cut_off_takes_none_of_the_next_along() {
    let whole = event("x", 9).to_string();
    let rest = format!("{}\n{}\n", event("a", 1), event("b", 2));
    for cut in 1..whole.len() {
        let text = format!("{}\n{rest}", &whole[..cut]);
        assert_eq!(ids(vec![source(text.into_bytes())]), ("ab".to_owned(), 1), "{}", &whole[..cut]);
    }
    let pretty = |id: &str, second| serde_json::to_string_pretty(&event(id, second)).unwrap();
    let several = format!("{}\n{}\n{}", pretty("a", 1), pretty("b", 2), pretty("c", 3));
    assert_eq!(ids(vec![source(several.into_bytes())]), ("abc".to_owned(), 0));
}

#[test]
fn an_event_at_the_end_of_all_time_is_none() {
    let mut forged = event("x", 1);
    forged["stageTimestamp"] = json!("9999-12-30T22:00:00Z");
    assert_eq!(ids(vec![source(forged.to_string().into_bytes())]), (String::new(), 1));
}

#[test]
fn a_namespace_is_there_before_whoever_made_it_is_told() {
    let mut made = event("n", 2);
    made["verb"] = json!("create");
    made["objectRef"] = json!({"resource": "namespaces", "name": "n"});
    made["responseStatus"] = json!({"code": 201});
    let text = format!("{}\n{made}\n", event("inside", 1));
    assert_eq!(ids(vec![source(text.into_bytes())]).0, "ninside");
}

#[test]
fn what_cannot_be_replayed_is_said_and_not_counted() {
    let text = json!({"protoPayload": {"methodName": "x"}}).to_string();
    let error = next(&mut [source(text.into_bytes())]).unwrap_err();
    assert!(error.to_string().contains("protoPayload"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        drop(next(&mut [source(bytes)]));
    }
}
