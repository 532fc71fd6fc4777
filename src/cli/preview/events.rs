//! The events of audit logs: from files, compressed or not, as the API server writes them or wrapped by who carried them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One event, as far as it is asked about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    #[serde(rename = "auditID")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) level: String,
    #[serde(default)]
    pub(super) stage: String,
    #[serde(rename = "requestURI", default)]
    pub(super) uri: String,
    #[serde(default)]
    pub(super) verb: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    impersonated_user: Option<User>,
    #[serde(default)]
    pub(super) user_agent: String,
    #[serde(default)]
    pub(super) object_ref: Option<ObjectRef>,
    #[serde(default)]
    pub(super) response_status: Option<Status>,
    #[serde(default)]
    pub(super) request_object: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) response_object: Option<Box<RawValue>>,
    #[serde(rename = "stageTimestamp")]
    pub(super) at: Timestamp,
    #[serde(rename = "requestReceivedTimestamp", default)]
    received: Option<Timestamp>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct User {
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectRef {
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) api_group: String,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
}

impl Event {
    /// Who it was, as admission saw them.
    pub(super) fn user(&self) -> &User {
        self.impersonated_user.as_ref().unwrap_or(&self.user)
    }

    /// When it counts. Controllers fill a namespace before whoever made it is told that it is there.
    fn counts_from(&self) -> Timestamp {
        let namespace = |about: &ObjectRef| about.api_group.is_empty() && about.resource == "namespaces";
        let made = self.verb == "create" && self.code() == 201 && self.object_ref.as_ref().is_some_and(namespace);
        self.received.filter(|_| made).unwrap_or(self.at)
    }

    /// Who showed their credentials, whomever they spoke for.
    pub(super) fn authenticated(&self) -> &str {
        &self.user.username
    }

    pub(super) fn code(&self) -> u16 {
        self.response_status.as_ref().map_or(0, |status| status.code)
    }

    pub(super) fn message(&self) -> &str {
        self.response_status.as_ref().map_or("", |status| &status.message)
    }
}

/// What was read, and what could not be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) lines: u64,
    pub(super) unreadable: u64,
}

/// Longer lines are nobody's: the API server takes requests of 3 MiB.
const LONGEST: u64 = 64 << 20;
/// A document over several lines is read as a whole.
const DOCUMENT: u64 = 512 << 20;
/// So many events are looked at ahead, to put them in order: they are written as they end, by several hands.
const AHEAD: usize = 1024;
const AHEAD_BYTES: usize = 16 << 20;

/// Opens these files, and those in these folders; `-` is standard input.
pub(super) fn open(paths: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            sources.push(Source::of(Box::new(stdin())).context("cannot read standard input")?);
            continue;
        }
        let wrong = || format!("cannot read {}", path.display());
        if !fs::metadata(path).with_context(wrong)?.is_dir() {
            sources.push(file(path)?);
            continue;
        }
        let entries = fs::read_dir(path).with_context(wrong)?.map(|entry| entry.map(|entry| entry.path()));
        let mut files: Vec<PathBuf> = entries.collect::<Result<_, _>>().with_context(wrong)?;
        files.retain(|file| file.is_file());
        files.sort();
        if files.is_empty() {
            bail!("{} holds no file; name the API server's audit log", path.display());
        }
        for path in files {
            sources.push(file(&path)?);
        }
    }
    Ok(sources)
}

fn file(path: &Path) -> anyhow::Result<Source> {
    let wrong = || format!("cannot read {}", path.display());
    Source::of(Box::new(File::open(path).with_context(wrong)?)).with_context(wrong)
}

/// One file, event by event.
pub(super) struct Source {
    reader: Box<dyn BufRead>,
    waiting: VecDeque<(usize, Event)>,
    ahead: BinaryHeap<Reverse<Timed>>,
    bytes: usize,
    number: u64,
    first: bool,
    pub(super) read: Counted,
}

struct Timed(Timestamp, u64, usize, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl Source {
    pub(super) fn of(reader: Box<dyn Read>) -> std::io::Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 20, reader);
        let compressed = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead> = if compressed {
            Box::new(BufReader::with_capacity(1 << 20, MultiGzDecoder::new(reader)))
        } else {
            Box::new(reader)
        };
        let (waiting, ahead, read) = (VecDeque::new(), BinaryHeap::new(), Counted::default());
        Ok(Self { reader, waiting, ahead, bytes: 0, number: 0, first: true, read })
    }

    /// When the next event ended.
    fn at(&mut self) -> anyhow::Result<Option<Timestamp>> {
        while self.ahead.len() < AHEAD && self.bytes < AHEAD_BYTES {
            let Some((size, event)) = self.in_file()? else { break };
            self.number += 1;
            self.bytes += size;
            self.ahead.push(Reverse(Timed(event.counts_from(), self.number, size, event)));
        }
        Ok(self.ahead.peek().map(|Reverse(timed)| timed.0))
    }

    fn take(&mut self) -> Option<Event> {
        let Reverse(Timed(_, _, size, event)) = self.ahead.pop()?;
        self.bytes -= size;
        Some(event)
    }

    fn in_file(&mut self) -> anyhow::Result<Option<(usize, Event)>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            let mut line = Vec::new();
            let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut line).context("the log breaks off")?;
            if read == 0 {
                return Ok(None);
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if std::mem::take(&mut self.first) && is_cut(&line) {
                self.reader.by_ref().take(DOCUMENT).read_to_end(&mut line).context("the log breaks off")?;
                self.document(&line)?;
                continue;
            }
            self.read.lines += 1;
            match unwrapped(&line, 0) {
                Ok(events) => self.waiting.extend(events.into_iter().map(|event| (line.len(), event))),
                Err(Odd::NotSupported(what)) => bail!("{what}"),
                Err(Odd::Unreadable) => self.read.unreadable += 1,
            }
        }
    }

    /// What is written over several lines, one after the other.
    fn document(&mut self, text: &[u8]) -> anyhow::Result<()> {
        for one in serde_json::Deserializer::from_reader(Cursor::new(text)).into_iter::<Box<RawValue>>() {
            self.read.lines += 1;
            let found = one.map_err(|_| Odd::Unreadable).and_then(|one| unwrapped(one.get().as_bytes(), 0));
            match found {
                Ok(events) => self.waiting.extend(events.into_iter().map(|event| (0, event))),
                Err(Odd::NotSupported(what)) => bail!("{what}"),
                Err(Odd::Unreadable) => {
                    self.read.unreadable += 1;
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The next event of all files.
pub(super) fn next(sources: &mut [Source]) -> anyhow::Result<Option<Event>> {
    let mut first: Option<(Timestamp, usize)> = None;
    for (number, source) in sources.iter_mut().enumerate() {
        if let Some(at) = source.at()?
            && first.is_none_or(|(known, _)| at < known)
        {
            first = Some((at, number));
        }
    }
    Ok(first.and_then(|(_, number)| sources[number].take()))
}

#[derive(Debug)]
enum Odd {
    Unreadable,
    NotSupported(&'static str),
}

/// The beginning of something that goes on in the next line.
fn is_cut(line: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(line).is_err_and(|error| error.is_eof())
}

/// So deep an event may be wrapped.
const WRAPPINGS: u8 = 4;

fn unwrapped(text: &[u8], depth: u8) -> Result<Vec<Event>, Odd> {
    #[derive(Deserialize)]
    struct Outside<'a> {
        #[serde(rename = "auditID")]
        audit_id: Option<&'a RawValue>,
        #[serde(borrow, default)]
        items: Option<Vec<&'a RawValue>>,
        #[serde(rename = "logEvents", borrow, default)]
        log_events: Option<Vec<&'a RawValue>>,
        #[serde(borrow, default)]
        records: Option<Vec<&'a RawValue>>,
        #[serde(borrow, default)]
        message: Option<&'a RawValue>,
        #[serde(borrow, default)]
        properties: Option<&'a RawValue>,
        #[serde(borrow, default)]
        log: Option<&'a RawValue>,
        #[serde(rename = "protoPayload", default)]
        proto_payload: Option<serde::de::IgnoredAny>,
    }
    if depth > WRAPPINGS {
        return Err(Odd::Unreadable);
    }
    if text.trim_ascii_start().starts_with(b"[") {
        let list: Vec<&RawValue> = serde_json::from_slice(text).map_err(|_| Odd::Unreadable)?;
        return all(&list, depth);
    }
    let outside: Outside = serde_json::from_slice(text).map_err(|_| Odd::Unreadable)?;
    if outside.proto_payload.is_some() {
        return Err(Odd::NotSupported(
            "this is an export of Google Cloud's audit log (protoPayload), which names neither groups nor objects as the \
             API server saw them; it cannot be replayed",
        ));
    }
    if outside.audit_id.is_some() {
        return serde_json::from_slice(text).map(|event| vec![event]).map_err(|_| Odd::Unreadable);
    }
    if let Some(list) = outside.items.or(outside.log_events).or(outside.records) {
        return all(&list, depth);
    }
    let inside = outside.message.or(outside.log).or(outside.properties).ok_or(Odd::Unreadable)?;
    // A text that holds JSON, or JSON itself.
    match serde_json::from_str::<String>(inside.get()) {
        Ok(text) => unwrapped(text.as_bytes(), depth + 1),
        Err(_) => unwrapped(inside.get().as_bytes(), depth + 1),
    }
}

fn all(list: &[&RawValue], depth: u8) -> Result<Vec<Event>, Odd> {
    let mut events = Vec::new();
    for one in list {
        events.extend(unwrapped(one.get().as_bytes(), depth + 1)?);
    }
    Ok(events)
}

/// What an event says of an object, without what is secret in it.
pub(super) fn object(raw: Option<&RawValue>) -> Option<Value> {
    let value: Value = serde_json::from_str(raw?.get()).ok()?;
    (!value.is_null()).then_some(value)
}

#[cfg(test)]
mod tests {
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
}
