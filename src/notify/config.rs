use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::told::{Kind, Notification};
use crate::api::{Period, printable};

/// The file of `--notifications`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The cluster's name, as receivers are to know it: a word, like `prod-eu`.
    #[schemars(length(min = 1, max = 63))]
    pub cluster_name: String,
    /// Who is told.
    pub sinks: Vec<SinkConfig>,
}

/// Somebody who is told.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkConfig {
    /// The label of its metrics: small letters, digits and dashes.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where it listens, where that is no secret. One of `url` and `urlFile`.
    pub url: Option<String>,
    /// A file with that, as the key of a mounted Secret is.
    pub url_file: Option<PathBuf>,
    /// Headers that are no secret.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Headers by name, with the file of the value.
    #[serde(default)]
    pub headers_file: BTreeMap<String, PathBuf>,
    /// With `PagerDuty`, a file with the integration's key.
    pub routing_key_file: Option<PathBuf>,
    #[serde(default)]
    pub format: Format,
    /// What it is told; nothing here: everything.
    #[serde(default)]
    pub types: BTreeSet<Kind>,
    /// Only of these rules. `*` at the end stands for anything. What is about no rule is told all the same.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Only of objects in these namespaces, likewise.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Only of what these users asked for, likewise.
    #[serde(default)]
    pub requesters: Vec<String>,
    /// After how long the same is told again, with how often it happened: `4h`.
    pub repeat: Option<Period>,
    /// Authorities to trust beside the usual ones, as PEM.
    pub ca_file: Option<PathBuf>,
    /// An HTTP proxy, `http://host:port`. That of the environment is not asked.
    pub proxy: Option<String>,
    /// Whether `http://` will do.
    #[serde(default)]
    pub insecure_http: bool,
}

/// What a receiver reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Format {
    /// CloudEvents 1.0, structured, as JSON.
    #[default]
    CloudEvents,
    /// Slack's incoming webhooks, and what takes the same.
    Slack,
    /// PagerDuty Events v2.
    PagerDuty,
    /// Alertmanager's API v2.
    Alertmanager,
}

/// A sink with all that its files say. What is secret in it is not printed.
#[derive(Clone, PartialEq)]
pub(super) struct Settings {
    pub name: String,
    pub cluster: String,
    pub url: Uri,
    pub headers: HeaderMap,
    pub routing_key: String,
    pub format: Format,
    pub repeat: Duration,
    pub authorities: Vec<CertificateDer<'static>>,
    pub proxy: Option<Uri>,
    types: BTreeSet<Kind>,
    rules: Vec<String>,
    namespaces: Vec<String>,
    requesters: Vec<String>,
}

const REPEAT: Duration = Duration::from_hours(4);
/// A file may be anything.
const LARGEST: u64 = 1 << 20;
/// Where the process's own credentials are, and all that it is.
const FOREIGN: [&str; 4] = ["/var/run/secrets", "/run/secrets", "/proc", "/sys"];
const MOST_SINKS: usize = 20;

/// Reads the file and those that it names. An error says what to do, and nothing of what they hold.
pub(super) fn read(file: &Path) -> Result<Vec<Settings>, String> {
    let text = contents(file)?;
    let options = serde_saphyr::options! { with_snippet: false };
    let config: Config = serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error| format!("{} is not as it should be: {}", file.display(), unquoted(&error.to_string())))?;
    config.settings(file.parent().unwrap_or(Path::new("")))
}

impl Config {
    fn settings(self, folder: &Path) -> Result<Vec<Settings>, String> {
        is_word(&self.cluster_name).map_err(|error| format!("clusterName {error}"))?;
        if self.sinks.len() > MOST_SINKS {
            return Err(format!("there are {} sinks; {MOST_SINKS} are enough", self.sinks.len()));
        }
        let mut names = BTreeSet::new();
        let settings = self.sinks.into_iter().map(|sink| {
            let name = sink.name.clone();
            is_word(&name).map_err(|error| format!("a sink's name {error}"))?;
            if !names.insert(name.clone()) {
                return Err(format!("two sinks are called {name}; give each its own name"));
            }
            sink.settings(&self.cluster_name, folder).map_err(|error| format!("sink {name}: {error}"))
        });
        settings.collect()
    }
}

impl SinkConfig {
    fn settings(self, cluster: &str, folder: &Path) -> Result<Settings, String> {
        let secret = |file: &PathBuf| Ok::<_, String>(contents(&folder.join(file))?.trim().to_owned());
        let url = match (&self.url, &self.url_file) {
            (Some(url), None) => url.clone(),
            (None, Some(file)) => secret(file)?,
            _ => return Err("give one of url and urlFile".to_owned()),
        };
        let mut headers = HeaderMap::new();
        let files = self.headers_file.iter().map(|(name, file)| Ok((name, secret(file)?)));
        let given = self.headers.iter().map(|(name, value)| Ok((name, value.clone())));
        for header in given.chain(files) {
            let (name, value) = header.map_err(|error: String| error)?;
            let fault = || format!("the header {:?} is none; look at its name and value", printable(name));
            let key = HeaderName::try_from(name.as_str()).map_err(|_| fault())?;
            if [http::header::HOST, http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING].contains(&key) {
                return Err(format!("the header {key} is not yours to set; leave it out"));
            }
            let mut value = HeaderValue::try_from(value).map_err(|_| fault())?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let routing_key = self.routing_key_file.as_ref().map(secret).transpose()?.unwrap_or_default();
        if (self.format == Format::PagerDuty) == routing_key.is_empty() {
            return Err("routingKeyFile goes with format PagerDuty, and PagerDuty with it".to_owned());
        }
        let repeat = match &self.repeat {
            Some(period) => period.length().ok().and_then(|length| Duration::try_from(length).ok()),
            None => Some(REPEAT),
        };
        let repeat = repeat.ok_or("repeat is no duration longer than 0s, like 4h")?;
        let authorities = match &self.ca_file {
            Some(file) => authorities(&contents(&folder.join(file))?)?,
            None => Vec::new(),
        };
        let proxy = self.proxy.as_deref().map(proxy).transpose()?;
        let url = target(&url, self.insecure_http)?;
        // A proxy would be asked for the port of https.
        if proxy.is_some() && url.scheme_str() == Some("http") && url.port().is_none() {
            return Err("the URL is http and goes by a proxy; write its port, as in http://host:80/path".to_owned());
        }
        Ok(Settings {
            name: self.name,
            cluster: cluster.to_owned(),
            url,
            headers,
            routing_key,
            format: self.format,
            repeat,
            authorities,
            proxy,
            types: self.types,
            rules: self.rules,
            namespaces: self.namespaces,
            requesters: self.requesters,
        })
    }
}

impl Settings {
    /// Whether whoever hears the one hears the other.
    pub fn is_heard_where(&self, other: &Self) -> bool {
        let place = |of: &Self| (of.url.clone(), of.headers.clone(), of.routing_key.clone(), of.proxy.clone());
        place(self) == place(other)
    }

    pub fn wants_kind(&self, kind: Kind) -> bool {
        self.types.is_empty() || self.types.contains(&kind) || matches!(kind, Kind::NotificationsChanged | Kind::Test)
    }

    pub fn wants(&self, notification: &Notification) -> bool {
        let data = &notification.data;
        let any = |patterns: &[String], values: &[String]| {
            let there = || values.iter().filter(|value| !value.is_empty());
            patterns.is_empty() || there().next().is_none() || there().any(|value| matches(patterns, value))
        };
        let keeps_alerts = matches!(self.format, Format::PagerDuty | Format::Alertmanager);
        self.wants_kind(notification.kind)
            && (keeps_alerts || !notification.quiet)
            && any(&self.rules, &data.rules)
            && any(&self.namespaces, std::slice::from_ref(&data.namespace))
            && any(&self.requesters, std::slice::from_ref(&data.requester))
    }
}

fn matches(patterns: &[String], value: &str) -> bool {
    let is = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => value.starts_with(beginning),
        None => pattern == value,
    };
    patterns.iter().any(is)
}

fn contents(file: &Path) -> Result<String, String> {
    let fault = |what: &str| format!("{} {what}", file.display());
    let unreadable = |error: std::io::Error| fault(&format!("cannot be read: {}", error.kind()));
    let real = file.canonicalize().map_err(unreadable)?;
    // Who may say where notifications go shall not have it sent what this process is by.
    if FOREIGN.iter().any(|folder| real.starts_with(folder)) {
        return Err(fault("is none of yours; name a file of notifications.secretName"));
    }
    // Before it is opened: a pipe would wait for whoever writes into it.
    if !fs::metadata(&real).map_err(unreadable)?.is_file() {
        return Err(fault("is no file; name one"));
    }
    let mut text = String::new();
    fs::File::open(&real).map_err(unreadable)?.take(LARGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST {
        return Err(fault("is larger than 1 MiB; name another file"));
    }
    Ok(text)
}

/// Never quoted: many a URL is itself the password.
fn target(url: &str, insecure: bool) -> Result<Uri, String> {
    let uri = Uri::try_from(url).map_err(|_| "the URL is none; write it like https://example.com/path")?;
    let authority = uri.authority().ok_or("the URL has no host; write it like https://example.com/path")?;
    if authority.as_str().contains('@') {
        return Err("the URL has a password in it; send it as a header, by headersFile".to_owned());
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if insecure => Ok(uri),
        Some("http") => Err("the URL is http; write https, or insecureHttp: true".to_owned()),
        _ => Err("the URL is not https; write it like https://example.com/path".to_owned()),
    }
}

fn proxy(url: &str) -> Result<Uri, String> {
    let uri = Uri::try_from(url).ok().filter(|uri| uri.scheme_str() == Some("http"));
    let plain = |uri: &Uri| uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    uri.filter(plain).ok_or_else(|| "proxy is not like http://host:3128, without a password".to_owned())
}

fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() && super::client::usable(&found) => Ok(found),
        _ => Err("caFile holds no authorities' certificates as PEM".to_owned()),
    }
}

fn is_word(text: &str) -> Result<(), String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    if (1..=63).contains(&text.len()) && text.chars().all(plain) {
        return Ok(());
    }
    Err("has to be of 1 to 63 letters, digits, dots, dashes and underscores".to_owned())
}

/// Without the value that a parser quotes: somebody may have written a secret in its place. Names of fields stay.
fn unquoted(text: &str) -> String {
    let line: String = printable(text.lines().next().unwrap_or_default()).chars().take(400).collect();
    for mark in ["invalid type:", "invalid value:", "unknown variant"] {
        if let Some((before, rest)) = line.split_once(mark)
            && let Some((_, expected)) = rest.rsplit_once("expected")
        {
            return format!("{before}a value is not what is expected:{expected}");
        }
    }
    // A name, too, may be what was meant for its place.
    for (mark, end) in [("unknown field `", "`, expected"), ("duplicate mapping key: ", ", set DuplicateKeyPolicy")] {
        if let Some((before, rest)) = line.split_once(mark) {
            let Some((name, after)) = rest.rsplit_once(end) else { break };
            let is_plain = name.len() <= 32 && name.chars().all(|character| character.is_ascii_alphabetic());
            return format!("{before}{mark}{}{end}{after}", if is_plain { name } else { "(not shown)" });
        }
    }
    let known = ["unknown field", "missing field", "duplicate", "line "].iter().any(|mark| line.contains(mark));
    if known { line } else { "it is no such YAML".to_owned() }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
