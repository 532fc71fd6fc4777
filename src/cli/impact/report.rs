use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::{Mode, Proof};
use crate::cli::approve::describe;
use crate::cli::barriers::barriers;
use crate::cli::case::Case;
use crate::cli::goes::Goes;
use crate::cli::words::{people, printable};
use crate::guard::{Because, Decision, Going, Listed, ListedState, Radius, Verdict, protecting};

/// What `-o json` prints. Fields may be added; those that are there keep their names and meaning.
#[derive(Serialize, Debug)]
pub struct Impacts {
    /// In the order in which the objects were named.
    pub impacts: Vec<Impact>,
}

/// What the deletion of one object would do.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Impact {
    /// The object that would be deleted.
    pub object: Object,
    /// Whether every kind could be listed: otherwise more may go than is shown.
    complete: bool,
    /// How many of each Kind go along. The object itself and volumes that are kept are not counted.
    counts: BTreeMap<String, usize>,
    /// How many pods that are ready now go.
    ready_pods: usize,
    /// Everything that goes along, sorted by kind, namespace and name.
    going: Vec<Gone>,
    /// Services that stay, and all of whose ready pods go.
    services_without_endpoints: Vec<Place>,
    /// Kinds that could not be listed, like `secrets`, each with the reason.
    unlisted: BTreeMap<String, String>,
    /// What would be said to the request now: `allow`, `audit`, `warn` or `deny`; `unknown` where nothing of what goes
    /// along could be looked up, or where it needs a place in a budget.
    verdict: &'static str,
    /// Why, in words.
    because: String,
    /// The rules that would be asked.
    rules: Vec<RuleImpact>,
    /// What else is to be known.
    notes: Vec<String>,
    #[serde(skip)]
    goes: Goes,
    /// What to type to approve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    approve: Option<String>,
}

#[derive(Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Like `Deployment`.
    pub kind: String,
    /// Like `deployments.apps`.
    resource: String,
    /// Absent for cluster-scoped objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    uid: String,
}

/// One object that goes along.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Gone {
    #[serde(flatten)]
    object: Object,
    /// The index in `going` of what takes it along; absent: the deleted object itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<usize>,
    /// The rules that protect it.
    protected_by: Vec<String>,
    /// Whether its deletion is under way already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    terminating: bool,
    /// Of a pod: whether it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    /// Of a persistent volume: what becomes of its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<Volume>,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Volume {
    /// `destroyed` or `kept`.
    data: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    capacity: String,
    /// The claim it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<Place>,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Place {
    namespace: String,
    name: String,
}

/// What one rule says of it.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct RuleImpact {
    name: String,
    mode: Mode,
    proof: Proof,
    /// Who has to approve, in words.
    asks: String,
    /// How many of the objects that go along it protects.
    protects: usize,
    /// What is missing yet, in words; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    still_needs: Option<String>,
    /// What else keeps it, or counts it, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    barriers: Vec<String>,
    /// The teams of which one person may pass it in an emergency.
    break_glass: Vec<String>,
}

impl Impact {
    pub fn of(case: &Case, mut notes: Vec<String>) -> Self {
        for (name, reason) in case.unreadable_rules() {
            notes.push(format!("rule {name} cannot be read and may ask for more ({reason})"));
        }
        let decision = case.decide(&case.said, None);
        let approve = (decision.because == Because::Unapproved && !decision.unmet.is_empty())
            .then(|| format!("kubectl tagout approve {}", case.object.words()));
        let facts = case.facts.borrow();
        let none = Radius::default();
        let radius = facts.radius.as_ref().unwrap_or(&none);
        let going: Vec<Gone> = radius
            .going
            .iter()
            .map(|going| {
                let rules = protecting(going, &decision.rules, &facts);
                gone(going, rules.iter().map(|rule| rule.name.clone()).collect())
            })
            .collect();
        let rules = decision.rules.iter().map(|rule| {
            let unmet = decision.unmet.iter().find(|unmet| unmet.rules.iter().any(|one| one.name == rule.name));
            RuleImpact {
                name: rule.name.clone(),
                mode: rule.mode,
                proof: rule.proof,
                asks: describe(rule),
                protects: going.iter().filter(|gone| gone.protected_by.contains(&rule.name)).count(),
                still_needs: unmet.map(|unmet| people(&unmet.missing)),
                barriers: barriers(case, &decision, rule, None),
                break_glass: rule.break_glass.clone(),
            }
        });
        let is_unknown = decision.verdict == Verdict::Allow && case.nothing_known().is_some();
        let subject = case.object.subject();
        let place = |(namespace, name): &(String, String)| Place { namespace: namespace.clone(), name: name.clone() };
        Self {
            object: Object {
                kind: case.object.kind.resource.kind.clone(),
                resource: subject.kind(),
                namespace: subject.namespace.to_string(),
                name: subject.name.to_string(),
                uid: subject.uid.to_string(),
            },
            complete: radius.is_complete(),
            counts: radius.counts().into_iter().collect(),
            ready_pods: radius.ready_pods(),
            services_without_endpoints: radius.bare_services.iter().map(place).collect(),
            unlisted: case.goes.unlisted.clone(),
            verdict: if is_unknown || decision.because == Because::ToBeCounted {
                "unknown"
            } else {
                decision.verdict.as_str()
            },
            because: if is_unknown {
                "nobody can tell before it can be looked up".to_owned()
            } else {
                because(&decision)
            },
            rules: rules.collect(),
            going,
            notes,
            approve,
            goes: case.goes.clone(),
        }
    }

    pub fn goes(&self) -> &Goes {
        &self.goes
    }

    /// For people.
    pub fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        self.goes.tree(&self.object.title(), usize::MAX, colour).iter().for_each(|one| line(one));
        if self.goes.branches.is_empty() {
            line("Nothing goes along with it.");
        }
        self.goes.summary.iter().for_each(|one| line(&printable(one)));
        for (kind, reason) in &self.unlisted {
            line(&printable(&format!("  {kind}: {reason}")));
        }
        for note in &self.notes {
            line(&printable(&format!("Note: {note}")));
        }
        for rule in &self.rules {
            line(&printable(&format!("Rule: {}", rule.asks)));
            if rule.protects > 0 {
                line(&format!("  it protects {} of what goes along", rule.protects));
            }
            if let Some(needs) = &rule.still_needs {
                line(&printable(&format!("  still needs: {needs}")));
            }
            rule.barriers.iter().for_each(|words| line(&printable(&format!("  {words}"))));
            if !rule.break_glass.is_empty() {
                line(&printable(&format!("  in an emergency alone: {}", rule.break_glass.join(", "))));
            }
        }
        line(&printable(&format!("Deletion: {}", self.because)));
        if let Some(approve) = &self.approve {
            line(&format!("To approve: {approve}"));
        }
        text
    }
}

impl Object {
    /// `Deployment api in payments`
    pub fn title(&self) -> String {
        let place = if self.namespace.is_empty() { String::new() } else { format!(" in {}", self.namespace) };
        format!("{} {}{place}", self.kind, self.name)
    }
}

fn gone(going: &Going, protected_by: Vec<String>) -> Gone {
    let Listed { subject, kind, terminating, state, .. } = &going.listed;
    let object = Object {
        kind: kind.clone(),
        resource: subject.kind(),
        namespace: subject.namespace.to_string(),
        name: subject.name.to_string(),
        uid: subject.uid.to_string(),
    };
    let (mut ready, mut volume) = (None, None);
    match state {
        ListedState::Plain => {}
        ListedState::Pod { ready: is_ready, .. } => ready = Some(*is_ready),
        ListedState::Volume { claim, kept, capacity } => {
            let claim = claim.clone().map(|(namespace, name)| Place { namespace, name });
            let data = if *kept { "kept" } else { "destroyed" };
            volume = Some(Volume { data, capacity: capacity.clone(), claim });
        }
    }
    Gone { object, with: going.with, protected_by, terminating: *terminating, ready, volume }
}

fn because(decision: &Decision) -> String {
    match (&decision.because, decision.verdict) {
        (Because::AlreadyTerminating, _) => "it is under way already".to_owned(),
        (Because::NamespaceTerminating, _) => "its namespace is being deleted, and all that is in it goes".to_owned(),
        (Because::NotCovered, _) => "no rule has anything against it".to_owned(),
        (Because::Empty, _) => "let pass: there is nothing of its kind".to_owned(),
        (Because::Tolerated, _) => "let pass: the rules ask nobody about so little".to_owned(),
        (Because::Approved(people), _) => format!("approved by {}", people.join(", ")),
        (Because::WithinAllowance, _) => "let pass: so much is allowed without approval".to_owned(),
        (Because::ToBeCounted, _) => "let pass, if the budgets of its rules have a place".to_owned(),
        (Because::Unapproved, Verdict::Deny) if decision.unmet.iter().all(|unmet| unmet.mode != Mode::Enforce) => {
            "refused, whoever approves: see its rules".to_owned()
        }
        (Because::Unapproved, Verdict::Deny) => "refused until it is approved".to_owned(),
        (Because::Unapproved, Verdict::Warn) => "let pass, with a warning".to_owned(),
        (Because::Unapproved, _) => "let pass, and noted that nobody approved it".to_owned(),
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::barriers::tests::budgeted;
    use crate::cli::case::tests::{case, setting};
    use crate::cli::goes::tests::{listed, owned, radius};

    pub fn impact() -> Impact {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let mut case = case(&setting);
        let pod = Listed {
            state: ListedState::Pod { ready: true, finished: false },
            ..listed("Pod", "pods", "api-1-\"x", Some(("ReplicaSet", "api-1")))
        };
        let mut radius = radius(vec![owned("ReplicaSet", "replicasets", "api-1"), pod]);
        radius.unlisted.insert("secrets".into(), "Tagout may not list secrets".into());
        radius.bare_services.push(("payments".into(), "web".into()));
        case.goes = Goes::of(Some(&radius), "payments", &std::collections::BTreeSet::new());
        case.facts.borrow_mut().radius = Some(radius);
        Impact::of(&case, vec!["a note".into()])
    }

    #[test]
    fn a_person_reads_what_goes_and_who_is_asked() {
        assert_eq!(
            impact().text(false),
            "\
Deployment api in payments
└─ ReplicaSet api-1
   └─ Pod api-1-\"x, ready
With it would go: at least 1 Pod (1 ready), 1 ReplicaSet.
Nothing would be left behind Service \"web\".
Could not be listed: secrets.
  secrets: you may not list secrets
Note: a note
Rule: production needs approval by 1 of sre
  still needs: 1 of sre
Rule: watched only records the lack of approval by 1 of everyone
  still needs: 1 of everyone
Deletion: refused until it is approved
To approve: kubectl tagout approve deployments.apps/api -n payments
"
        );
    }

    #[test]
    fn what_a_freeze_keeps_no_approval_lets_pass() {
        let frozen = json!({"freeze": [{"from": "2026-11-21T00:00", "until": "2026-11-22T10:00", "reason": "sale"}]});
        let setting = budgeted(&frozen, &json!({}));
        let text = Impact::of(&case(&setting), Vec::new()).text(false);
        assert!(text.contains("\n  frozen until 2026-11-22T10:00:00Z (in 1d): \"sale\""), "{text}");
        assert!(text.contains("Deletion: refused, whoever approves"), "{text}");
    }

    #[test]
    fn what_needs_a_place_in_a_budget_is_neither_let_pass_nor_refused() {
        let allowance = json!({"allowance": {"count": 5, "window": "10m", "per": "Rule"}});
        let setting = budgeted(&allowance, &json!({}));
        let impact = Impact::of(&case(&setting), Vec::new());
        assert_eq!(impact.verdict, "unknown");
        assert!(impact.text(false).contains("asks nobody while its allowance lasts: 5 in 10m"));
        assert_eq!(impact.approve, None);
    }

    #[test]
    fn what_programs_read_keeps_its_names() {
        let json = serde_json::to_value(Impacts { impacts: vec![impact()] }).unwrap();
        let impact = &json["impacts"][0];
        assert_eq!(
            impact["object"],
            json!({"kind": "Deployment", "resource": "deployments.apps",
            "namespace": "payments", "name": "api", "uid": "uid-1"})
        );
        assert_eq!(impact["counts"], json!({"Pod": 1, "ReplicaSet": 1}));
        assert_eq!((&impact["complete"], &impact["readyPods"]), (&json!(false), &json!(1)));
        assert_eq!(impact["going"][0]["with"], 1);
        assert_eq!(impact["going"][0]["ready"], true);
        assert_eq!(impact["going"][1].get("with"), None);
        assert_eq!(impact["servicesWithoutEndpoints"], json!([{"namespace": "payments", "name": "web"}]));
        assert_eq!(impact["unlisted"], json!({"secrets": "you may not list secrets"}));
        assert_eq!(impact["verdict"], "deny");
        assert_eq!(impact["rules"][0]["stillNeeds"], "1 of sre");
        assert_eq!(impact["rules"][0]["proof"], "Identity");
    }
}
