//! What receivers read: a body for each format.

use jiff::{SignedDuration, Timestamp};
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Value, json};

use super::config::{Format, Settings};
use super::told::{Data, Kind, Lane, Notification, Unconfirmed};

/// The type of a body, and the body.
pub(super) fn body(settings: &Settings, notification: &Notification) -> (&'static str, Vec<u8>) {
    let mut notification = notification.clone();
    notification.data.cluster.clone_from(&settings.cluster);
    let (content, body) = match settings.format {
        Format::CloudEvents => ("application/cloudevents+json", json!(CloudEvent::of(&notification))),
        Format::Slack => ("application/json", slack(&notification)),
        Format::PagerDuty => ("application/json", pager_duty(&notification, &settings.routing_key)),
        Format::Alertmanager => ("application/json", alertmanager(&notification)),
    };
    (content, body.to_string().into_bytes())
}

/// A CloudEvent, structured.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    time: Timestamp,
    datacontenttype: &'static str,
    dataschema: &'static str,
    data: &'a Data,
}

/// Where the schema of `data` is said to be; it is in the repository.
const SCHEMA: &str = "https://tagout.dev/schemas/notification.v1.json";

impl<'a> CloudEvent<'a> {
    fn of(notification: &'a Notification) -> Self {
        Self {
            specversion: "1.0",
            id: notification.id(),
            source: source(notification),
            r#type: format!("dev.tagout.{}.v1", notification.kind.as_str()),
            subject: notification.subject(),
            time: notification.at,
            datacontenttype: "application/json",
            dataschema: SCHEMA,
            data: &notification.data,
        }
    }
}

/// The schema of `data`, as JSON.
pub fn schema() -> String {
    // As it is written: what is left out when it is empty is not required.
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Data>();
    schema.insert("$id".to_owned(), json!(SCHEMA));
    serde_json::to_string_pretty(&schema).expect("a schema can be written") + "\n"
}

fn source(notification: &Notification) -> String {
    format!("//{}/tagout", notification.data.cluster)
}

/// What is to be read besides the sentence: a name, and what it is.
fn fields(data: &Data) -> Vec<(&'static str, String)> {
    let object = [&data.kind, &data.namespace, &data.name];
    let object: Vec<&str> = object.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let until = data.until.map(|until| until.to_string()).unwrap_or_default();
    let all = [
        ("Object", object.join("/")),
        ("Request", data.request.clone()),
        ("Asked for by", data.requester.clone()),
        ("Rules", data.rules.join(", ")),
        ("Missing", data.missing.join("; ")),
        ("People", data.people.join(", ")),
        ("Until", until),
        ("To look at it and approve", data.approve.clone()),
        ("Times", if data.count > 1 { data.count.to_string() } else { String::new() }),
        (
            "Careful",
            match data.unconfirmed {
                Some(Unconfirmed::NotFound) => "no such object was found: it may be forged",
                Some(Unconfirmed::Unknown) => "the object could not be looked for: it may be forged",
                None => "",
            }
            .to_owned(),
        ),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

const LONGEST: usize = 2000;
const LONGEST_FIELD: usize = 600;

/// Plain text throughout: names in it were written by anyone, and must call nobody and link nowhere.
fn slack(notification: &Notification) -> Value {
    let data = &notification.data;
    let plain = |text: &str, longest| json!({"type": "plain_text", "text": harmless(text, longest), "emoji": false});
    let title = notification.kind.title();
    let mut blocks = vec![
        json!({"type": "header", "text": plain(&format!("{title} ({})", data.cluster), 140)}),
        json!({"type": "section", "text": plain(&data.message, LONGEST)}),
    ];
    let fields: Vec<Value> = fields(data)
        .iter()
        // Slack takes ten.
        .take(10)
        .map(|(name, value)| plain(&format!("{name}: {value}"), LONGEST_FIELD))
        .collect();
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    json!({
        "text": harmless(&format!("{title} ({}): {}", data.cluster, data.message), LONGEST),
        "blocks": blocks,
        "mrkdwn": false,
        "parse": "none",
        "link_names": 0,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// Without what Slack would make something of. What is not shown was taken out before.
fn harmless(text: &str, longest: usize) -> String {
    let mut written = String::new();
    // What takes the same as Slack may read Markdown all the same.
    for character in text.replace("://", "\u{ff1a}//").chars() {
        match character {
            '&' => written.push_str("&amp;"),
            '<' => written.push_str("&lt;"),
            '>' => written.push_str("&gt;"),
            // A fullwidth one, which calls nobody.
            '@' => written.push('\u{ff20}'),
            '[' => written.push('\u{ff3b}'),
            ']' => written.push('\u{ff3d}'),
            '`' => written.push('\''),
            character if character.is_control() => written.push(' '),
            character => written.push(character),
        }
        if written.len() >= longest {
            written.push('…');
            break;
        }
    }
    written
}

fn severity(notification: &Notification) -> &'static str {
    let data = &notification.data;
    match (notification.kind, notification.kind.lane()) {
        (Kind::CanaryFailed | Kind::EpochEnded, _) => "critical",
        // Where it could not be looked for, nobody knows better.
        (Kind::BrokeGlass, _) if data.unconfirmed != Some(Unconfirmed::NotFound) => "critical",
        (Kind::Unlocked, _) if data.broke_glass => "critical",
        (Kind::Reached | Kind::Relocked | Kind::Test, _) | (_, Lane::Rest) => "info",
        _ => "warning",
    }
}

fn pager_duty(notification: &Notification, routing_key: &str) -> Value {
    let data = &notification.data;
    let summary: String = format!("{}: {}", notification.kind.title(), data.message).chars().take(1000).collect();
    json!({
        "routing_key": routing_key,
        "event_action": if notification.kind.ends() { "resolve" } else { "trigger" },
        "dedup_key": format!("{}/{}", data.cluster, notification.alert()),
        "client": "tagout",
        "payload": {
            "summary": summary,
            "source": data.cluster,
            "severity": severity(notification),
            "timestamp": notification.at,
            "component": "tagout",
            "class": notification.kind.as_str(),
            "custom_details": data,
        },
    })
}

fn alertmanager(notification: &Notification) -> Value {
    let data = &notification.data;
    // To be the same alert its labels have to be those with which it began.
    let as_began = Notification { kind: notification.kind.begun(), ..notification.clone() };
    let name: String = as_began.kind.as_str().split('_').map(capitalised).collect();
    let mut labels = json!({
        "alertname": format!("TagoutNotified{name}"),
        "severity": severity(&as_began),
        "cluster": data.cluster,
        "namespace": data.namespace,
        "requester": data.requester,
        "request": data.request,
        "rule": data.rules.first().map_or("", String::as_str),
        "kind": data.kind,
        "name": data.name,
        "check": data.check,
    });
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|_, value| value != "");
    }
    let mut details: serde_json::Map<String, Value> = fields(data)
        .into_iter()
        .map(|(name, value)| (name.to_lowercase().replace(' ', "_"), Value::from(value)))
        .collect();
    details.insert("summary".to_owned(), notification.kind.title().into());
    details.insert("description".to_owned(), data.message.clone().into());
    let mut alert = json!({"labels": labels, "annotations": details});
    if notification.kind.ends() {
        alert["endsAt"] = json!(notification.at);
        return json!([alert]);
    }
    alert["startsAt"] = json!(notification.at);
    // Without an end Alertmanager ends it itself, after its `resolve_timeout`.
    if let Some(end) = lasts_until(notification) {
        alert["endsAt"] = json!(end);
    }
    json!([alert])
}

/// A canary that fails is told again, and longer than until then it need not last.
fn lasts_until(notification: &Notification) -> Option<Timestamp> {
    match notification.kind {
        Kind::CanaryFailed => notification.at.checked_add(SignedDuration::from_mins(15)).ok(),
        _ => notification.data.until,
    }
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn told(kind: Kind, change: impl FnOnce(&mut Data)) -> Notification {
        let mut data = Data { cluster: "prod".to_owned(), request: "to-1".to_owned(), ..Data::default() };
        change(&mut data);
        Notification::new(kind, Timestamp::constant(1_795_255_200, 0), data)
    }

    #[test]
    fn the_schema_on_the_page_is_that_of_the_code() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas/notification.v1.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&page, schema()).unwrap();
        }
        assert!(
            std::fs::read_to_string(page).unwrap_or_default() == schema(),
            "run `UPDATE=1 cargo test --lib the_schema_on_the_page` and commit what changes"
        );
    }

    #[test]
    fn a_cloud_event_says_what_the_standard_asks_for() {
        let event = json!(CloudEvent::of(&told(Kind::Denied, |data| {
            data.kind = "deployments.apps".to_owned();
            data.namespace = "payments".to_owned();
            data.name = "api".to_owned();
        })));
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], "dev.tagout.denied.v1");
        assert_eq!(event["source"], "//prod/tagout");
        assert_eq!(event["subject"], "deployments.apps/payments/api");
        assert_eq!(event["time"], "2026-11-21T10:00:00Z");
        assert_eq!(event["id"].as_str().map(str::len), Some(32));
        assert_eq!(event["data"]["count"], 1);
        assert!(event["data"].get("unconfirmed").is_none());
    }

    #[test]
    fn nothing_that_anyone_wrote_calls_or_links_or_formats_in_slack() {
        let evil =
            "<!channel> @here <https://evil.example|look> [look](https://evil.example) `rm` & \u{202e}txt\n*bold*";
        let message = slack(&told(Kind::BrokeGlass, |data| {
            data.message = evil.to_owned();
            data.requester = evil.to_owned();
            data.people = vec![evil.to_owned()];
            data.approve = evil.to_owned();
        }))
        .to_string();
        for mark in ["<", ">", "@", "`", "\\n", "\u{202e}", "://", "[look", "look]"] {
            assert!(!message.contains(mark), "{mark:?} is in {message}");
        }
        assert!(!message.contains("\"mrkdwn\":true") && !message.contains("\"type\":\"mrkdwn\""));
    }

    #[test]
    fn a_message_to_slack_is_as_long_as_slack_takes() {
        let message = slack(&told(Kind::Denied, |data| {
            data.message = "&".repeat(10_000);
            data.missing = vec!["<".repeat(250); 20];
        }));
        assert!(message["text"].as_str().unwrap().len() < 3000);
        for field in message["blocks"][2]["fields"].as_array().unwrap() {
            assert!(field["text"].as_str().unwrap().len() < 2000);
        }
        assert!(message["blocks"][1]["text"]["text"].as_str().unwrap().len() < 3000);
    }

    #[test]
    fn what_ends_an_alert_names_the_one_that_it_ends_and_no_other() {
        let about = |kind, check, requester: &str| {
            told(kind, |data| (data.check, data.requester, data.broke_glass) = (check, requester.to_owned(), true))
        };
        for (begins, ends, name) in [
            (
                about(Kind::CanaryFailed, "approval", ""),
                about(Kind::Reached, "approval", ""),
                "TagoutNotifiedCanaryFailed",
            ),
            (about(Kind::Unlocked, "", "ci"), about(Kind::Relocked, "", "ci"), "TagoutNotifiedUnlocked"),
        ] {
            let (one, other) = (pager_duty(&begins, "key"), pager_duty(&ends, "key"));
            assert_eq!(one["dedup_key"], other["dedup_key"]);
            assert_eq!((&one["event_action"], &other["event_action"]), (&json!("trigger"), &json!("resolve")));
            let (one, other) = (alertmanager(&begins), alertmanager(&ends));
            assert_eq!(one[0]["labels"], other[0]["labels"]);
            assert_eq!(one[0]["labels"]["alertname"], name);
            assert!(other[0].get("startsAt").is_none() && other[0]["endsAt"] == json!(ends.at));
        }
        let all = [
            about(Kind::CanaryFailed, "approval", ""),
            about(Kind::CanaryFailed, "deletion", ""),
            about(Kind::Unlocked, "", "ci"),
            about(Kind::Unlocked, "", "agent"),
        ];
        are_different_alerts(&all);
    }

    fn are_different_alerts(all: &[Notification]) {
        let keys: BTreeSet<_> = all.iter().map(|one| pager_duty(one, "key")["dedup_key"].to_string()).collect();
        assert_eq!(keys.len(), all.len(), "{keys:?}");
        let labels: BTreeSet<_> = all.iter().map(|one| alertmanager(one)[0]["labels"].to_string()).collect();
        assert_eq!(labels.len(), all.len(), "{labels:?}");
    }

    #[test]
    fn rules_that_are_rejected_and_what_was_changed_are_alerts_of_their_own() {
        let rejected = |rule: &str| {
            let one = told(Kind::RuleRejected, |data| (data.name, data.uid) = (rule.to_owned(), format!("u-{rule}")));
            one.distinct_by("1".to_owned())
        };
        let repaired = |name: &str| {
            told(Kind::DriftRepaired, |data| data.name = name.to_owned()).distinct_by(format!("{name} was deleted"))
        };
        are_different_alerts(&[rejected("one"), rejected("other"), repaired("one"), repaired("other")]);
    }

    #[test]
    fn an_unlocking_lasts_as_long_as_it_is_granted_and_by_one_person_alone_it_is_critical() {
        let until = Timestamp::constant(1_795_258_800, 0);
        let unlocked = told(Kind::Unlocked, |data| data.until = Some(until));
        assert_eq!(alertmanager(&unlocked)[0]["endsAt"], json!(until));
        assert_eq!(severity(&unlocked), "warning");
        assert_eq!(severity(&told(Kind::Unlocked, |data| data.broke_glass = true)), "critical");
    }

    #[test]
    fn an_emergency_is_less_grave_only_where_it_is_known_that_there_is_no_such_object() {
        let told = |why| severity(&told(Kind::BrokeGlass, |data| data.unconfirmed = why));
        assert_eq!(told(None), "critical");
        assert_eq!(told(Some(Unconfirmed::Unknown)), "critical");
        assert_eq!(told(Some(Unconfirmed::NotFound)), "warning");
    }

    /// Of what the schema says: what is needed, what there is, and of which type.
    fn is_valid(data: &Value) {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        for needed in schema["required"].as_array().unwrap() {
            assert!(data.get(needed.as_str().unwrap()).is_some(), "{needed} is missing in {data}");
        }
        for (name, value) in data.as_object().unwrap() {
            let property = &schema["properties"][name];
            let is = match value {
                Value::String(_) => "string",
                Value::Number(_) => "integer",
                Value::Bool(_) => "boolean",
                _ => "array",
            };
            assert_eq!(property["type"], is, "{name} of {data}");
            for item in value.as_array().into_iter().flatten() {
                assert!(item.is_string() && property["items"]["type"] == "string", "{name} of {data}");
            }
        }
    }

    #[test]
    fn what_is_sent_and_the_example_on_the_page_are_as_the_schema_says() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        assert_eq!(schema["required"], json!(["cluster", "message", "count"]));
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/notifications.md");
        let page = std::fs::read_to_string(page).unwrap();
        let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        is_valid(&serde_json::from_str::<Value>(example).unwrap()["data"]);
        for sent in [
            told(Kind::Relocked, |_| {}),
            told(Kind::Unlocked, |data| (data.until, data.broke_glass) = (Some(Timestamp::UNIX_EPOCH), true)),
            told(Kind::BrokeGlass, |data| data.people.push("carol".to_owned())),
            told(Kind::BrokeGlass, |data| data.unconfirmed = Some(Unconfirmed::NotFound)),
        ] {
            is_valid(&json!(sent.data));
        }
    }
}
