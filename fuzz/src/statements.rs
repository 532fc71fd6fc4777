//! What stands in the annotation of an object, and whether it counts.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tagout::api::{APPROVAL, Action, Statement, read_statements, sha256};
use tagout::guard::{
    Because, Called, Decision, Epoch, Facts, NamespaceFact, Radius, Rules, Subject, Verdict, decide, denial, needs,
};

use super::sshsig;
use super::world::{
    AGENT, ALICE, CLUSTER, EPOCH, EVERYTHING, LONGEST, NAME, NAMESPACE, NOW, TEAM, UID, keys, request, rule, rules,
};

const PROOFS: [&str; 3] = ["Identity", "Signature", "HardwareKey"];

thread_local! {
    static RULES: [Rules; 3] = PROOFS.map(|proof| {
        let approval = json!({"proof": proof, "require": [{"anyOf": [TEAM]}]});
        rules(vec![rule(EVERYTHING, &json!({"approval": approval}))])
    });
}

pub fn statements(data: &[u8]) -> &'static str {
    let Ok(text) = str::from_utf8(data) else { return "nothing" };
    let read = read_statements(text);
    let all: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    for statement in &read.readable {
        assert!(all.iter().any(|said| says(said, statement)), "{statement:?} is nowhere in {text}");
        if let Ok(own) = statement.text() {
            assert_eq!(own.lines().count(), own.matches('\n').count());
            assert!(own.lines().skip(1).all(|line| line.contains(": ")), "{own}");
        }
    }
    let mut outcome = if read.readable.is_empty() { "nothing" } else { "refused" };
    RULES.with(|rules| {
        for (rules, proof) in rules.iter().zip(PROOFS) {
            let decision = decided(text, true, rules);
            if decision.verdict != Verdict::Deny {
                assert_eq!(decision.because, Because::Approved(vec![approver(&decision)]));
                assert!(all.iter().any(|said| counts(said, proof)), "proof {proof}: nothing in it counts: {text}");
                outcome = "counted";
            }
            // Nobody checked who wrote what is not presented.
            assert_eq!(decided(text, false, rules).verdict, Verdict::Deny, "it counts without the label");
        }
    });
    outcome
}

fn approver(decision: &Decision) -> String {
    decision.counted.first().map(|statement| statement.approver.clone()).unwrap_or_default()
}

/// What the guard makes of it under one rule, where nothing else goes along.
fn decided<'r>(text: &str, presented: bool, rules: &'r Rules) -> Decision<'r> {
    let labels = presented.then(|| (APPROVAL.to_owned(), String::new())).into_iter().collect();
    let subject = Subject {
        group: "apps".into(),
        resource: "deployments".into(),
        namespace: NAMESPACE.into(),
        name: NAME.into(),
        uid: UID.into(),
        labels: std::borrow::Cow::Owned(labels),
        annotations: vec![APPROVAL.into()],
        statements: Some(text.into()),
        ..Subject::default()
    };
    let request = request(Action::Delete, subject, Vec::new());
    let facts = Facts {
        namespace: Some(NamespaceFact::default()),
        epoch: Epoch::Current(EPOCH.to_owned()),
        radius: Some(Radius::default()),
        ..Facts::default()
    };
    let needs = needs(&request, Called::By(EVERYTHING), rules).expect("the rule is there");
    let decision = decide(&request, &needs, rules, &facts, NOW);
    let said = denial(&request, &decision);
    let plain = |character: char| !character.is_control() || character == '\n';
    assert!(said.chars().all(plain), "a denial that moves the cursor: {said:?}");
    decision
}

/// Whether a statement was read from this.
fn says(said: &Value, statement: &Statement) -> bool {
    let same = |key: &str, own: Option<&str>| said.get(key).and_then(Value::as_str) == own;
    let at = |key: &str, own: Timestamp| text(said, key).parse::<Timestamp>().is_ok_and(|said| said == own);
    let flag = |key: &str, own: bool| said[key].as_bool().unwrap_or_default() == own;
    same("action", Some(statement.action.as_str()))
        && same("uid", Some(&statement.uid))
        && same("resource", Some(&statement.resource))
        && text(said, "namespace") == statement.namespace
        && same("name", Some(&statement.name))
        && same("cluster", Some(&statement.cluster))
        && same("epoch", statement.epoch.as_deref())
        && same("approver", Some(&statement.approver))
        && same("team", Some(&statement.team))
        && same("requester", statement.requester.as_deref())
        && same("reason", statement.reason.as_deref())
        && same("newSpec", statement.new_spec.as_deref())
        && same("signature", statement.signature.as_deref())
        && flag("breakGlass", statement.break_glass)
        && flag("deleteOnly", statement.delete_only)
        && at("approvedAt", statement.approved_at)
        && at("expires", statement.expires)
}

/// Whether a statement lets the agent delete the object, by docs/rules.md and docs/signing.md.
fn counts(said: &Value, proof: &str) -> bool {
    let is = |key: &str, wanted: &str| said[key] == wanted;
    let about_it = is("action", "Delete")
        && is("uid", UID)
        && is("resource", "deployments.apps")
        && is("namespace", NAMESPACE)
        && is("name", NAME)
        && is("cluster", CLUSTER)
        && (said["scope"].is_null() || is("scope", "Object"))
        && said["newSpec"].is_null();
    let by_her = is("team", TEAM) && text(said, "approver").to_lowercase() == ALICE;
    let for_agent = said["requester"].is_null() || is("requester", AGENT);
    let in_time = || -> Option<bool> {
        let [from, until] = ["approvedAt", "expires"].map(|key| text(said, key).parse::<Timestamp>().ok());
        let (from, until) = (from?, until?);
        let soon = from.duration_since(NOW) <= SignedDuration::from_mins(1);
        Some(soon && until > NOW && until.duration_since(from) <= LONGEST)
    };
    let proven = match (said["signature"].as_str(), proof) {
        (None, "Identity") => is("epoch", EPOCH),
        (None, _) => false,
        (Some(signature), _) => is("approver", ALICE) && signed(said, signature, proof == "HardwareKey"),
    };
    let glass = said["breakGlass"].as_bool().unwrap_or_default();
    about_it && by_her && for_agent && in_time() == Some(true) && proven && !glass && names_nothing_false(said)
}

fn signed(said: &Value, signature: &str, hardware: bool) -> bool {
    let text = written(said);
    keys()
        .iter()
        .filter(|key| !hardware || key.kind().is_hardware())
        .any(|key| sshsig::verify(signature, key, &text).is_some_and(|flags| !hardware || flags & 1 != 0))
}

/// Nothing goes along; what it names must still be what its digest says.
fn names_nothing_false(said: &Value) -> bool {
    let uids: BTreeSet<&str> =
        said["protects"]["uids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let lines: String = uids.iter().flat_map(|uid| [uid, "\n"]).collect();
    uids.is_empty() || said["protects"]["digest"] == sha256(lines.as_bytes())
}

/// The text that is signed, by docs/signing.md.
fn written(said: &Value) -> String {
    let mut lines = vec!["Tagout approval, version 1".to_owned()];
    let mut line = |key: &str, value: &str| lines.push(format!("{key}: {value}"));
    let time = |key: &str| text(said, key).parse::<Timestamp>().map(|time| time.to_string()).unwrap_or_default();
    for key in ["action", "resource", "namespace", "name", "uid"] {
        if key != "namespace" || !text(said, key).is_empty() {
            line(key, text(said, key));
        }
    }
    if said["deleteOnly"] == true {
        line("deleteOnly", "true");
    }
    if let Some(protects) = said["protects"].as_object() {
        line("protects", protects.get("digest").and_then(Value::as_str).unwrap_or_default());
        for (list, key) in [("uids", "protects uid"), ("unlisted", "protects unlisted")] {
            for one in protects.get(list).and_then(Value::as_array).into_iter().flatten() {
                line(key, one.as_str().unwrap_or_default());
            }
        }
    }
    line("cluster", text(said, "cluster"));
    if let Some(epoch) = said["epoch"].as_str() {
        line("epoch", epoch);
    }
    line("approver", text(said, "approver"));
    line("team", text(said, "team"));
    match said["requester"].as_str() {
        Some(requester) => line("requester", requester),
        None => line("any requester", "yes"),
    }
    line("approvedAt", &time("approvedAt"));
    line("expires", &time("expires"));
    if let Some(reason) = said["reason"].as_str() {
        line("reason", reason);
    }
    lines.join("\n") + "\n"
}

fn text<'v>(said: &'v Value, key: &str) -> &'v str {
    said[key].as_str().unwrap_or_default()
}
