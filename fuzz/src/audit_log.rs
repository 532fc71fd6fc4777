//! An audit log, read and replayed with nothing known but what stands in it.

use std::io::Cursor;

use serde_json::Value;
use tagout::cli::preview::replayed_alone;

pub fn audit_log(data: &[u8]) -> &'static str {
    let log = Box::new(Cursor::new(data.to_vec()));
    // With it ends what clients have left running.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let replayed = runtime.block_on(replayed_alone(log));
    let Ok((report, counted)) = replayed else { return "unreadable" };
    assert!(counted.unreadable <= counted.records);
    if let Some((records, unreadable)) = lines(data) {
        assert_eq!((counted.records, counted.unreadable), (records, unreadable), "lines and what is none");
    }
    let requests = &report.requests;
    assert!(requests.decided + requests.untold <= requests.seen, "{requests:?}");
    serde_json::to_value(&report).expect("a report can be written");
    drop(report.text());
    match (counted.records, requests.seen) {
        (0, _) => "nothing",
        (_, 0) => "unseen",
        _ if requests.untold > 0 => "untold",
        _ => "decided",
    }
}

/// How many lines are events or not, of a log in which each line is a JSON object that is wrapped in nothing.
fn lines(data: &[u8]) -> Option<(u64, u64)> {
    let (mut records, mut unreadable) = (0, 0);
    for line in data.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let event: Value = serde_json::from_slice(line).ok()?;
        serde_json::from_slice::<super::twin::Once>(line).ok()?;
        let event = event.as_object()?;
        let wraps = ["items", "logEvents", "records", "message", "properties", "log", "protoPayload"];
        if wraps.iter().any(|key| event.contains_key(*key)) {
            return None;
        }
        records += 1;
        // More is asked of an event than is told here; what lacks these is none.
        let whole = ["auditID", "stageTimestamp"].iter().all(|key| event.get(*key).is_some_and(Value::is_string));
        if !whole {
            unreadable += 1;
        } else if event.len() > 2 {
            return None;
        }
    }
    Some((records, unreadable))
}
