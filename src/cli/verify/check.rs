use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{Measure, line};
use crate::api::{APPROVAL, SYSTEM_PREFIX, Scope, Statement, kind_parts, quoted};
use crate::guard::{
    CLOCK_SKEW, Candidate, Change, Facts, Gesture, ListedKey, Needs, Reach, Request, Requester, Rule, Rules, Signed,
    Subject, Team, decide,
};

/// A statement, and what was found out about it.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    pub statement: Statement,
    /// What was signed.
    pub text: Option<String>,
    pub hash: Option<String>,
    /// The fingerprint of the key that signed.
    pub key: Option<String>,
    pub hardware: bool,
    /// Whether somebody touched the hardware key; absent: nothing is known of that.
    pub presence: Option<bool>,
    /// Whether the hardware key checked a PIN or fingerprint.
    pub verification: Option<bool>,
    pub checks: Vec<Check>,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub name: String,
    /// What holds, if it holds.
    pub says: String,
    /// Why it does not hold.
    pub fault: Option<String>,
}

impl Check {
    fn new(name: &str, outcome: Result<String, String>) -> Self {
        let (says, fault) = match outcome {
            Ok(says) => (says, None),
            Err(fault) => (String::new(), Some(fault)),
        };
        Self { name: name.to_owned(), says, fault }
    }
}

/// Everything that can be told without a rule. What depends on a check that failed is left out.
pub fn check(statement: &Statement, teams: &BTreeMap<String, Team>, at: Timestamp) -> Checked {
    let (text, hash) = (statement.text(), statement.hash().ok());
    let mut checked = Checked {
        statement: statement.clone(),
        text: text.clone().ok(),
        hash,
        key: None,
        hardware: false,
        presence: None,
        verification: None,
        checks: Vec::new(),
    };
    let readable = text.clone().map(|_| "it can be shown as it is".to_owned()).map_err(|fault| fault.to_string());
    checked.note("text", readable);
    checked.note("person", person(statement));
    checked.note("time", time(statement, at));
    let Some(team) = teams.get(&statement.team) else {
        let known: Vec<_> = teams.keys().map(String::as_str).collect();
        let words = format!("it speaks for team {}, and only {} was given", quoted(&statement.team), known.join(", "));
        checked.note("team", Err(words));
        return checked;
    };
    checked.note("team", Ok(format!("it speaks for {}", statement.team)));
    checked.note("not revoked", not_revoked(checked.hash.as_deref(), team));
    let (Some(armored), Ok(text)) = (&statement.signature, text) else {
        let words = "it is not signed; only the cluster it stands in knows who wrote it";
        checked.note("signature", Err(words.to_owned()));
        return checked;
    };
    match Signed::read(armored) {
        Err(fault) => checked.note("signature", Err(fault.to_string())),
        Ok(signed) => checked.signed(&signed, team, &text, at),
    }
    checked
}

impl Checked {
    fn note(&mut self, name: &str, outcome: Result<String, String>) {
        self.checks.push(Check::new(name, outcome));
    }

    fn signed(&mut self, signed: &Signed, team: &Team, text: &str, at: Timestamp) {
        if let Ok(key) = signed.key() {
            self.key = Some(key.fingerprint());
            self.hardware = key.is_hardware();
        }
        let of_the_key: Vec<_> = team.keys.iter().filter(|listed| signed.is_by(&listed.key)).collect();
        let approver = &self.statement.approver;
        let Some(listed) = of_the_key.iter().find(|listed| listed.user == *approver) else {
            let words = match of_the_key.first() {
                Some(other) => format!("it is {}'s, not {}'s", quoted(&other.user), quoted(approver)),
                None => format!("the team does not list it: {}", self.key.as_deref().unwrap_or("of an unknown type")),
            };
            self.note("key", Err(words));
            return;
        };
        let usable = usable(listed, team, self.statement.approved_at, at);
        self.note("key", usable.map(|()| format!("{} is listed for {approver}", listed.key)));
        let gesture = signed.verify(&listed.key, text);
        if let (Ok(Gesture { present, verified }), true) = (&gesture, self.hardware) {
            (self.presence, self.verification) = (Some(*present), Some(*verified));
        }
        let verified = gesture.map(|_| "it is over just this text".to_owned());
        self.note("signature", verified.map_err(|fault| fault.to_string()));
    }

    pub fn text(&self) -> String {
        let mut text = self.text.clone().unwrap_or_default();
        text.push('\n');
        let yes = |bit: bool| if bit { "yes" } else { "no" };
        if let Some(hash) = &self.hash {
            text.extend(["Hash:        ", hash, "\n"]);
        }
        if let Some(key) = &self.key {
            let kind = if self.hardware { "hardware key" } else { "key in a file" };
            text.extend(["Key:         ", key, " (", kind, ")\n"]);
        }
        if let (Some(presence), Some(verification)) = (self.presence, self.verification) {
            text.extend(["Touched:     ", yes(presence), "\nPIN checked: ", yes(verification), "\n"]);
        }
        text.push('\n');
        text.extend(self.checks.iter().map(line));
        text
    }
}

/// Whether it satisfies its share of a rule, as the guard itself judges it.
pub fn by_rule(statement: &Statement, rule: &Rule, measure: &Measure) -> Check {
    let rules = Rules { teams: measure.teams.clone(), cluster: statement.cluster.clone(), ..Rules::default() };
    let (resource, group) = kind_parts(&statement.resource);
    let mut subject = Subject {
        group: group.into(),
        resource: resource.into(),
        namespace: statement.namespace.as_str().into(),
        name: statement.name.as_str().into(),
        uid: statement.uid.as_str().into(),
        ..Subject::default()
    };
    let mut facts = Facts { radius: Some(crate::guard::Radius::default()), ..Facts::default() };
    if statement.scope == Scope::Contents {
        facts.contents = Some(Subject {
            resource: resource.to_owned().into(),
            name: statement.name.clone().into(),
            uid: statement.uid.clone().into(),
            labels: Cow::Owned([(APPROVAL.to_owned(), "true".to_owned())].into()),
            statements: serde_json::to_string(&[statement]).ok().map(Cow::Owned),
            ..Subject::default()
        });
        subject = Subject { namespace: statement.name.as_str().into(), ..Subject::default() };
    } else {
        facts.proposed = vec![statement.clone()];
    }
    let request = Request {
        action: statement.action,
        subject,
        owners: Vec::new(),
        terminating: false,
        change: statement.new_spec.clone().map(|new_spec| Change { new_spec, loosened: Vec::new() }),
        requester: Requester { name: statement.requester.as_deref().unwrap_or_default(), groups: &[] },
        reach: Reach::Covered,
        what: None,
    };
    let needs = Needs {
        candidates: vec![Candidate { rule, called: true, assumed: false }],
        namespace: String::new(),
        owners: Vec::new(),
    };
    let decision = decide(&request, &needs, &rules, &facts, measure.at);
    let outcome = match decision.flaws.first() {
        Some((_, flaw)) => Err(flaw.to_string()),
        None if decision.unmet.is_empty() => Ok("it satisfies the rule".to_owned()),
        None => Ok("it counts; the rule needs more people".to_owned()),
    };
    Check::new(&format!("rule {}", rule.name), outcome)
}

fn person(statement: &Statement) -> Result<String, String> {
    if statement.approver.starts_with(SYSTEM_PREFIX) {
        return Err(format!("{} is an account of a machine", quoted(&statement.approver)));
    }
    Ok(format!("it is in the name of {}", statement.approver))
}

fn time(statement: &Statement, at: Timestamp) -> Result<String, String> {
    let Statement { approved_at, expires, .. } = statement;
    if approved_at.duration_since(at) > CLOCK_SKEW {
        return Err(format!("it is dated {approved_at}, which is still to come at {at:.0}"));
    }
    if *expires <= at { Err(format!("it expired at {expires}")) } else { Ok(format!("it is good until {expires}")) }
}

fn not_revoked(hash: Option<&str>, team: &Team) -> Result<String, String> {
    if team.spec.revoked.iter().any(|revoked| Some(revoked.statement.as_str()) == hash) {
        return Err("the team lists it as revoked".to_owned());
    }
    Ok("the team does not list it".to_owned())
}

fn usable(listed: &ListedKey, team: &Team, approved_at: Timestamp, at: Timestamp) -> Result<(), String> {
    let key = &listed.key;
    if team.spec.revoked_keys.contains(&key.fingerprint()) {
        return Err(format!("{key} is revoked"));
    }
    if let Some(after) = listed.after.filter(|after| approved_at < *after) {
        return Err(format!("{key} counts only from {after} on, and this is dated {approved_at}"));
    }
    if let Some(before) = listed.before.filter(|before| approved_at >= *before || at >= *before) {
        return Err(format!("{key} counts no more since {before}"));
    }
    Ok(())
}
