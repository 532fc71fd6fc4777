//! Every action on every kind by everyone, with and without approval, in every mode: what is expected stands in
//! `verdicts.txt`, for people to read. `UPDATE=1 cargo test --test matrix` writes it anew; read what changed.

mod lookups;

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tagout::api::{APPROVAL, Action, Mode, kind_name};
use tagout::guard::{
    Called, DeletionFact, Epoch, Facts, Going, Listed, ListedState, Owner, OwnerFact, Radius, Reach, Request,
    Requester, Rule, Rules, Subject, Team, decide, needs,
};

const LEGEND: &str = "\
# What Tagout says to whom, by what is said of the object. Written by `UPDATE=1 cargo test --test matrix`.
# no: refused in mode Enforce, warned of in Warn, written down in Audit. yes: passes in every mode.
# approved: by alice, of the rule's team; she asks for nothing that she approved herself, and the garbage collector is not
# believed to ask for somebody else. other-action, other-object: an approval that is about something else. other-team: by
# somebody whom the rule does not ask. planted: written before anybody could be kept from it. Loosen is decided from the
# change itself; see weigh_tests.rs. Recreate is of something that nobody approved to be deleted; with a living controller
# means the one that it had.
";

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

/// All actions that a rule can name: a new one does not compile until it has a place here.
const fn place(action: Action) -> usize {
    match action {
        Action::Delete => 0,
        Action::Recreate => 1,
        Action::ScaleToZero => 2,
        Action::Evict => 3,
        Action::Reparent => 4,
        Action::Finalize => 5,
        Action::DiscardData => 6,
        Action::Unprotect => 7,
        Action::Loosen => 8,
        Action::Unlock => 9,
    }
}

/// What is about Tagout itself, and not about objects.
const OWN: [Action; 2] = [Action::Loosen, Action::Unlock];

const ACTIONS: [Action; 10] = [
    Action::Delete,
    Action::Recreate,
    Action::ScaleToZero,
    Action::Evict,
    Action::Reparent,
    Action::Finalize,
    Action::DiscardData,
    Action::Unprotect,
    Action::Loosen,
    Action::Unlock,
];

struct Kind {
    group: &'static str,
    resource: &'static str,
    cluster_scoped: bool,
    /// A living controller owns it.
    controlled: bool,
}

const fn kind(group: &'static str, resource: &'static str) -> Kind {
    Kind { group, resource, cluster_scoped: false, controlled: false }
}

const KINDS: [Kind; 14] = [
    kind("apps", "deployments"),
    kind("apps", "statefulsets"),
    kind("apps", "daemonsets"),
    kind("batch", "cronjobs"),
    kind("", "persistentvolumeclaims"),
    kind("", "pods"),
    Kind { controlled: true, ..kind("", "pods") },
    kind("", "secrets"),
    Kind { controlled: true, ..kind("", "secrets") },
    kind("", "services"),
    kind("databases.example.com", "clusters"),
    Kind { controlled: true, ..kind("apps", "statefulsets") },
    Kind { cluster_scoped: true, ..kind("", "namespaces") },
    Kind { cluster_scoped: true, ..kind("apiextensions.k8s.io", "customresourcedefinitions") },
];

const ACTORS: [(&str, &str); 4] = [
    ("agent", "agent"),
    ("alice", "the approver"),
    ("system:serviceaccount:kube-system:generic-garbage-collector", "garbage collector"),
    ("system:serviceaccount:kube-system:namespace-controller", "namespace controller"),
];

/// What is said of the object.
const STATES: [&str; 8] =
    ["nothing", "approved", "expired", "other-action", "other-object", "other-team", "planted", "break-glass"];

const MODES: [Mode; 3] = [Mode::Enforce, Mode::Warn, Mode::Audit];

#[test]
fn every_combination_has_the_verdict_that_is_written_down() {
    for (number, action) in ACTIONS.into_iter().enumerate() {
        assert_eq!(place(action), number);
    }
    let mut text = String::from(LEGEND);
    for action in ACTIONS.into_iter().filter(|action| !OWN.contains(action)) {
        // Kinds that are treated alike stand together.
        let mut tables: Vec<(String, Vec<String>)> = Vec::new();
        for kind in &KINDS {
            let table = table(action, kind);
            match tables.iter_mut().find(|(known, _)| *known == table) {
                Some((_, kinds)) => kinds.push(kind.to_string()),
                None => tables.push((table, vec![kind.to_string()])),
            }
        }
        for (table, kinds) in tables {
            writeln!(text, "\n{} of {}\n{table}", action.as_str(), kinds.join(", ")).unwrap();
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix/verdicts.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap();
    assert!(text == expected, "{}", difference(&expected, &text));
}

fn difference(expected: &str, found: &str) -> String {
    let differs = expected.lines().zip(found.lines()).find(|(one, other)| one != other);
    format!("the first line that differs: {differs:?}; read it, and write it anew with UPDATE=1 if it is right")
}

/// A line for everyone who asks, a column for what is said of the object.
fn table(action: Action, kind: &Kind) -> String {
    let mut table = format!("  {:<28}", "");
    for state in STATES {
        write!(table, "{state:<14}").unwrap();
    }
    table.truncate(table.trim_end().len());
    for (actor, who) in ACTORS {
        write!(table, "\n  {who:<28}").unwrap();
        for state in STATES {
            let verdicts = MODES.map(|mode| verdict(action, kind, mode, actor, state));
            let cell = match verdicts {
                ["deny", "warn", "audit"] => "no".to_owned(),
                ["allow", "allow", "allow"] => "yes".to_owned(),
                others => others.join("/"),
            };
            write!(table, "{cell:<14}").unwrap();
        }
        table.truncate(table.trim_end().len());
    }
    table
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let controlled = if self.controlled { " with a living controller" } else { "" };
        write!(formatter, "{}{controlled}", kind_name(self.group, self.resource))
    }
}

fn verdict(action: Action, kind: &Kind, mode: Mode, actor: &str, state: &str) -> &'static str {
    let rules = rules(mode, kind);
    let subject = subject(action, kind, state);
    let owner = Owner {
        api_version: "v1".into(),
        kind: "Owner".into(),
        name: "owner".into(),
        uid: "owner".into(),
        controller: true,
    };
    let owners: Vec<Owner> = kind.controlled.then_some(owner).into_iter().collect();
    let returns = action == Action::Recreate;
    let request = Request {
        action,
        subject,
        owners: owners.clone(),
        terminating: false,
        change: None,
        requester: Requester { name: actor, groups: &[] },
        reach: if returns { Reach::Returning(vec!["r".into()]) } else { Reach::Covered },
        what: None,
    };
    let called = if returns { Called::Shared } else { Called::By("r") };
    let needs = needs(&request, called, &rules).unwrap();
    // There is an object of the kind that a definition defines.
    let defined = request.subject.defines().is_some().then(an_object);
    let facts = Facts {
        owners: owners.iter().map(|_| OwnerFact::Alive).collect(),
        epoch: Epoch::Current("now".into()),
        deletion: returns.then(|| DeletionFact { at: NOW - SignedDuration::from_mins(5), statements: Vec::new() }),
        radius: Some(Radius { going: defined.into_iter().collect(), ..Radius::default() }),
        ..Facts::default()
    };
    decide(&request, &needs, &rules, &facts, NOW).verdict.as_str()
}

fn an_object() -> Going {
    let subject =
        Subject { resource: "others".into(), name: "other".into(), uid: "other".into(), ..Subject::default() };
    let (kind, owners, state) = ("Other".to_owned(), Vec::new(), ListedState::Plain);
    Going { listed: Listed { subject, kind, owners, terminating: false, state }, with: None }
}

fn rules(mode: Mode, kind: &Kind) -> Rules {
    let actions: Vec<_> = ACTIONS.iter().filter(|action| !OWN.contains(action)).collect();
    let spec = json!({"mode": mode, "actions": actions,
        "resources": [{"apiGroups": [kind.group], "resources": [kind.resource]}],
        "approval": {"require": [{"anyOf": ["sre"]}], "breakGlass": {"anyOf": ["breakers"]}}});
    let team =
        |user: &str| Team::read(serde_json::from_value(json!({"groups": [], "members": [{"user": user}]})).unwrap());
    Rules {
        rules: [("r".to_owned(), Rule::read("r", &serde_json::from_value(spec).unwrap()))].into(),
        teams: [("sre", "alice"), ("others", "bob"), ("breakers", "carol")]
            .map(|(name, user)| (name.to_owned(), team(user)))
            .into(),
        cluster: "c".into(),
        own_namespace: "tagout-system".into(),
    }
}

fn subject(action: Action, kind: &Kind, state: &str) -> Subject<'static> {
    let namespace = if kind.cluster_scoped { "" } else { "payments" };
    let other = if action == Action::Delete { Action::Evict } else { Action::Delete };
    let at = |minutes: i64| (NOW + SignedDuration::from_mins(minutes)).to_string();
    let mut statement = json!({"action": action, "uid": "u", "resource": kind_name(kind.group, kind.resource),
        "namespace": namespace, "name": "api", "cluster": "c", "epoch": "now", "approver": "alice", "team": "sre",
        "approvedAt": at(-1), "expires": at(5)});
    match state {
        "expired" => statement["expires"] = json!(at(-1)),
        "other-action" => statement["action"] = json!(other),
        "other-object" => statement["uid"] = json!("another"),
        "other-team" => (statement["team"], statement["approver"]) = (json!("others"), json!("bob")),
        "planted" => statement["epoch"] = json!("before"),
        "break-glass" => {
            (statement["team"], statement["approver"]) = (json!("breakers"), json!("carol"));
            (statement["breakGlass"], statement["reason"]) = (json!(true), json!("fire"));
        }
        _ => {}
    }
    let said = (state != "nothing").then(|| json!([statement]).to_string());
    Subject {
        group: kind.group.into(),
        resource: kind.resource.into(),
        namespace: namespace.into(),
        name: "api".into(),
        uid: "u".into(),
        created: Some(NOW - SignedDuration::from_hours(1)),
        labels: Cow::Owned(said.iter().map(|_| (APPROVAL.to_owned(), String::new())).collect()),
        annotations: said.iter().map(|_| APPROVAL.into()).collect(),
        statements: said.map(Into::into),
    }
}
