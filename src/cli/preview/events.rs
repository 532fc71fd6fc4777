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

    /// Whether an API server may have written it. Times at the ends of all time cannot be reckoned with.
    fn is_of_this_time(&self) -> bool {
        let years = |at: &Timestamp| (FIRST..LAST).contains(&at.as_second());
        years(&self.at) && self.received.as_ref().is_none_or(years)
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

/// What was read, and what could not be: lines, or what several of them or a list hold.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub records: u64,
    pub unreadable: u64,
}

/// 1970 and 2200.
const FIRST: i64 = 0;
const LAST: i64 = 7_258_118_400;

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
    shape: Shape,
    waiting: VecDeque<(usize, Event)>,
    ahead: BinaryHeap<Reverse<Timed>>,
    bytes: usize,
    number: u64,
    pub(super) read: Counted,
}

/// How a file is written, as its first line shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Unknown,
    Lines,
    /// Each document over several lines.
    Documents,
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
        Ok(Self { reader, waiting, ahead, bytes: 0, number: 0, shape: Shape::Unknown, read })
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
            if self.shape == Shape::Documents {
                if !self.document()? {
                    return Ok(None);
                }
                continue;
            }
            let mut line = Vec::new();
            let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut line).context("the log breaks off")?;
            if read == 0 {
                return Ok(None);
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if self.shape == Shape::Unknown && is_cut(&line) {
                self.shape = Shape::Documents;
                self.give_back(line);
                continue;
            }
            self.shape = Shape::Lines;
            if read as u64 == LONGEST && !line.ends_with(b"\n") {
                self.read.records += 1;
                self.read.unreadable += 1;
                self.reader.skip_until(b'\n').context("the log breaks off")?;
                continue;
            }
            self.found(&line)?;
        }
    }

    fn found(&mut self, text: &[u8]) -> anyhow::Result<()> {
        let found = unwrapped(text, 0);
        // Of a log that somebody else wrote there is nothing else. One record of theirs among others is passed over.
        if let Some(what) = found.not_supported.filter(|_| found.events.is_empty() && self.read == Counted::default()) {
            bail!("{what}");
        }
        self.read.records += found.events.len() as u64 + found.unreadable;
        self.read.unreadable += found.unreadable;
        // One text may hold many.
        let size = text.len() / found.events.len().max(1);
        self.waiting.extend(found.events.into_iter().map(|event| (size, event)));
        Ok(())
    }

    fn give_back(&mut self, text: Vec<u8>) {
        let rest = std::mem::replace(&mut self.reader, Box::new(std::io::empty()));
        self.reader = Box::new(Cursor::new(text).chain(rest));
    }

    /// The next of what is written over several lines each; nothing at the end. What is none ends with its first line: it was
    /// cut off there, and those that follow stand for themselves.
    fn document(&mut self) -> anyhow::Result<bool> {
        let mut kept = Kept { reader: self.reader.by_ref().take(DOCUMENT), seen: Vec::new() };
        let next = serde_json::Deserializer::from_reader(&mut kept).into_iter::<Box<RawValue>>().next();
        let mut seen = std::mem::take(&mut kept.seen);
        match next {
            None => return Ok(false),
            Some(Ok(one)) => self.found(one.get().as_bytes())?,
            Some(Err(error)) if error.is_io() => return Err(error).context("the log breaks off"),
            Some(Err(_)) => {
                self.read.records += 1;
                self.read.unreadable += 1;
                self.shape = Shape::Lines;
                let begin = seen.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
                match seen[begin..].iter().position(|byte| *byte == b'\n') {
                    Some(end) => self.give_back(seen.split_off(begin + end + 1)),
                    None => drop(self.reader.skip_until(b'\n').context("the log breaks off")?),
                }
            }
        }
        Ok(true)
    }
}

/// Keeps what was read.
struct Kept<R> {
    reader: R,
    seen: Vec<u8>,
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..read]);
        Ok(read)
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

/// What a text holds.
#[derive(Default)]
struct Found {
    events: Vec<Event>,
    unreadable: u64,
    not_supported: Option<&'static str>,
}

impl Found {
    fn unreadable() -> Self {
        Self { unreadable: 1, ..Self::default() }
    }
}

/// The beginning of something that goes on in the next line.
fn is_cut(line: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(line).is_err_and(|error| error.is_eof())
}

/// So deep an event may be wrapped.
const WRAPPINGS: u8 = 4;

fn unwrapped(text: &[u8], depth: u8) -> Found {
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
        return Found::unreadable();
    }
    if text.trim_ascii_start().starts_with(b"[") {
        let list = serde_json::from_slice::<Vec<&RawValue>>(text);
        return list.map_or_else(|_| Found::unreadable(), |list| all(&list, depth));
    }
    let Ok(outside) = serde_json::from_slice::<Outside>(text) else { return Found::unreadable() };
    if outside.proto_payload.is_some() {
        return Found {
            not_supported: Some(
                "this is an export of Google Cloud's audit log (protoPayload), which names neither groups nor objects as \
                 the API server saw them; it cannot be replayed",
            ),
            ..Found::unreadable()
        };
    }
    if outside.audit_id.is_some() {
        let event = serde_json::from_slice::<Event>(text).ok().filter(Event::is_of_this_time);
        return event.map_or_else(Found::unreadable, |event| Found { events: vec![event], ..Found::default() });
    }
    if let Some(list) = outside.items.or(outside.log_events).or(outside.records) {
        return all(&list, depth);
    }
    let Some(inside) = outside.message.or(outside.log).or(outside.properties) else { return Found::unreadable() };
    // A text that holds JSON, or JSON itself.
    match serde_json::from_str::<String>(inside.get()) {
        Ok(text) => unwrapped(text.as_bytes(), depth + 1),
        Err(_) => unwrapped(inside.get().as_bytes(), depth + 1),
    }
}

/// What one of them is does not take the others along.
fn all(list: &[&RawValue], depth: u8) -> Found {
    let mut found = Found::default();
    for one in list.iter().map(|one| unwrapped(one.get().as_bytes(), depth + 1)) {
        found.events.extend(one.events);
        found.unreadable += one.unreadable;
        found.not_supported = found.not_supported.or(one.not_supported);
    }
    found
}

/// What an event says of an object, without what is secret in it.
pub(super) fn object(raw: Option<&RawValue>) -> Option<Value> {
    let value: Value = serde_json::from_str(raw?.get()).ok()?;
    (!value.is_null()).then_some(value)
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
