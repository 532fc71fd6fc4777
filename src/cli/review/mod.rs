//! `kubectl tagout review`: what a person looks at before they approve. It changes nothing.

mod render;
mod teams;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

use self::teams::{TeamLine, teams};
use super::approve::{action, change, describe};
use super::barriers::{barriers, is_frozen};
use super::case::{Case, Matter};
use super::cluster::Setting;
use super::connection::{Cluster, Connection};
use super::goes::Goes;
use super::gone::{self, Gone};
use super::impact::is_coloured;
use super::object::LiveObject;
use super::output::Document;
use super::requests::{self, Asked};
use super::said::{Found, Place};
use super::target::{Target, misused, targets};
use super::words::{people, say};
use crate::api::{Action, DELETED, Deletion, Mode, Proof, Statement};
use crate::guard::Rule;

/// Show everything that a person should know before they approve
///
/// What is asked, which rules cover it, what each still needs, who may approve, and what has been said already. Reads
/// only, and reads all of it live: an Event only says where to look.
#[derive(Args, Debug)]
#[command(
    override_usage = "kubectl tagout review (KIND/NAME | KIND NAME | ID) [OPTIONS]",
    after_help = "Examples:\n  \
        kubectl tagout review to-3f9a2c41                # the request of a refusal\n  \
        kubectl tagout review deploy/api -n payments\n  \
        kubectl tagout review ns/payments --contents     # what is in it, not itself\n  \
        kubectl tagout review deploy/api --action=Recreate   # it was destroyed, and is to return"
)]
pub struct Options {
    /// The object: KIND/NAME, or KIND and NAME; or the id of a request that was refused, like to-3f9a2c41
    #[arg(required = true, num_args = 1..=2, value_name = "KIND/NAME")]
    object: Vec<String>,
    /// Of a Namespace: what is in it, and not the namespace itself; with --action=Recreate, what was destroyed in it
    #[arg(long)]
    contents: bool,
    /// What may happen to it, as approve takes it; default: what was asked, or Delete
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Option<Action>,
    /// The format
    #[arg(short, long, value_enum)]
    output: Option<Document>,
}

/// Everything that is shown.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Review {
    /// The requests of which Events tell. Anyone can write an Event.
    requests: Vec<RequestLine>,
    action: Action,
    contents: bool,
    object: String,
    uid: String,
    created: Option<Timestamp>,
    /// Of a return: what was destroyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    destroyed: Option<DestroyedLine>,
    owners: Vec<String>,
    /// The labels by which rules choose.
    labels: BTreeMap<String, String>,
    namespace_labels: BTreeMap<String, String>,
    loosened: Vec<String>,
    new_spec: Option<String>,
    rules: Vec<RuleLine>,
    teams: Vec<TeamLine>,
    said: Vec<SaidLine>,
    notes: Vec<String>,
    /// What goes with it, as a tree; kubectl tagout impact -o json tells more.
    goes: Vec<String>,
    #[serde(skip)]
    extent: Goes,
    /// What to type to approve it.
    approve: Option<String>,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct RequestLine {
    id: String,
    requester: String,
    last: Option<Timestamp>,
}

/// How it was destroyed, as its DeletionRecord tells.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct DestroyedLine {
    at: Timestamp,
    requesters: Vec<String>,
    approvers: Vec<String>,
    delete_only: bool,
    #[serde(skip)]
    words: String,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct RuleLine {
    name: String,
    mode: Mode,
    proof: Proof,
    asks: String,
    /// Absent: nothing.
    still_needs: Option<String>,
    /// Whether no approval lets it pass now.
    frozen: bool,
    /// What else keeps it, or counts it, in words.
    barriers: Vec<String>,
    break_glass: Vec<String>,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct SaidLine {
    place: Place,
    /// For which rules it counts.
    counts_for: Vec<String>,
    /// Why it does not count for others.
    flaws: Vec<String>,
    hash: Option<String>,
    statement: Statement,
}

pub async fn run(options: &Options, connection: &Connection) -> anyhow::Result<()> {
    let mut targets = targets(&options.object).unwrap_or_else(|words| misused("review", words));
    if targets.len() > 1 {
        misused("review", "look at one object at a time".to_owned());
    }
    let at = &connection.open().await?;
    let setting = Setting::read(&at.client).await?;
    let (object, destroyed, asked) = match targets.remove(0) {
        Target::Named { kind, name } => {
            let kind = setting.kinds.find(&kind).map_err(anyhow::Error::msg)?.clone();
            let returns = options.action == Some(Action::Recreate) && !options.contents;
            if returns && !change::is_guarded(&kind, &name) {
                let Gone { object, deletion } = Gone::find(&at.client, &kind, &at.namespace, &name).await?;
                (object, Some(deletion), None)
            } else {
                (LiveObject::read(&at.client, kind, &at.namespace, &name).await?, None, None)
            }
        }
        Target::Request(id) => {
            let asked = requests::find(at, &id).await?;
            if asked.action == Action::Recreate {
                let Gone { object, deletion } = asked.gone(at, &setting).await?;
                (object, Some(deletion), Some(asked))
            } else {
                (asked.live(at, &setting).await?, None, Some(asked))
            }
        }
    };
    let review = look(at, &setting, object, destroyed, asked, options).await?;
    match options.output {
        Some(document) => document.print(&review),
        None => say(&render::text(&review, setting.now, is_coloured())),
    }
}

async fn look(
    at: &Cluster,
    setting: &Setting,
    object: LiveObject,
    destroyed: Option<Deletion>,
    asked: Option<Asked>,
    options: &Options,
) -> anyhow::Result<Review> {
    let mut notes = Vec::new();
    let new_spec = asked.as_ref().and_then(|asked| asked.new_spec.clone());
    if let Some(deletion) = destroyed {
        let case = Case::read(at, setting, object, Matter::Return(Box::new(deletion))).await?;
        return told(at, case, asked, notes).await;
    }
    let (object, matter) = if change::is_guarded(&object.kind, object.name()) {
        let proposed = change::without_file(object, new_spec.as_deref(), setting)?;
        notes.extend(proposed.notes);
        (proposed.object, proposed.matter)
    } else if options.contents {
        ensure!(object.kind.is_namespace(), "--contents is about Namespaces, and {object} is none");
        let action = options.action.unwrap_or(Action::Delete);
        ensure!(
            matches!(action, Action::Delete | Action::Recreate),
            "--contents is about what is deleted in a Namespace, or returns to it; for {} name the objects",
            action.as_str()
        );
        (object, Matter::Contents(action))
    } else {
        let action = options.action.or(asked.as_ref().map(|asked| asked.action)).unwrap_or(Action::Delete);
        ensure!(
            action != Action::Loosen,
            "Loosen is about rules, teams and Tagout's definitions, and {object} is none"
        );
        (object, Matter::Action(action))
    };
    if object.is_terminating() {
        notes.push("it is being deleted already".to_owned());
    }
    told(at, Case::read(at, setting, object, matter).await?, asked, notes).await
}

/// What has been said of it, and what was asked.
async fn told(
    at: &Cluster,
    mut case: Case<'_>,
    asked: Option<Asked>,
    mut notes: Vec<String>,
) -> anyhow::Result<Review> {
    if case.home.is_none() && !case.object.namespace().is_empty() {
        notes.push("you may not read its namespace; rules for other namespaces may be listed here".to_owned());
    }
    let Found { said, unknown } = Found::all(&at.client, &case.object, case.place(), case.matter.action()).await;
    notes.extend(unknown);
    notes.extend(case.unseen());
    case.said = said;
    let requests = match asked {
        Some(asked) => vec![asked],
        None => requests::about(&at.client, &case.object).await.unwrap_or_else(|_| {
            notes.push("you may not list Events, which would tell who asked".to_owned());
            Vec::new()
        }),
    };
    // Of what was destroyed, that it was asked for is told above.
    let returns = matches!(case.matter, Matter::Return(_));
    let concern = |asked: &Asked| !returns || asked.action == Action::Recreate;
    let requests: Vec<_> = requests.into_iter().filter(concern).collect();
    Ok(review(&case, &requests, notes))
}

fn review(case: &Case, requests: &[Asked], mut notes: Vec<String>) -> Review {
    let requester = requests.first().map(|asked| asked.requester.as_str());
    let decision = case.decide(&case.said, requester);
    for (name, reason) in case.unreadable_rules() {
        notes.push(format!("rule {name} cannot be read and may ask for more ({reason})"));
    }
    let returns = matches!(case.matter, Matter::Return(_));
    let nothing = if returns || decision.rules.is_empty() { case.covering().err() } else { None };
    notes.extend(nothing.as_ref().map(ToString::to_string));
    let rules = decision.rules.iter().map(|rule| {
        let unmet = decision.unmet.iter().find(|unmet| unmet.rules.iter().any(|one| one.name == rule.name));
        RuleLine {
            name: rule.name.clone(),
            mode: rule.mode,
            proof: rule.proof,
            asks: describe(rule),
            still_needs: unmet.map(|unmet| people(&unmet.missing)),
            frozen: is_frozen(&decision, rule),
            barriers: barriers(case, &decision, rule, requester),
            break_glass: rule.break_glass.clone(),
        }
    });
    let (loosened, new_spec) = match &case.matter {
        Matter::Change(weighed) => (weighed.loosened.clone(), Some(weighed.new_spec.clone())),
        _ => (Vec::new(), None),
    };
    let owners = case.object.metadata.owner_references.iter().flatten();
    let (labels, namespace_labels) = looked_at(&decision.rules, case);
    Review {
        requests: requests.iter().map(request_line).collect(),
        action: case.matter.action(),
        contents: matches!(case.matter, Matter::Contents(_)),
        object: case.object.to_string(),
        uid: case.object.uid().to_owned(),
        created: case.object.metadata.creation_timestamp.as_ref().map(|time| time.0),
        destroyed: destroyed(case),
        owners: owners.map(|owner| format!("{} {:?}", owner.kind, owner.name)).collect(),
        labels,
        namespace_labels,
        approve: (!decision.rules.is_empty() && nothing.is_none()).then(|| command(case, requests.first())),
        goes: if case.matter.is_deletion() {
            case.goes.tree(&case.object.to_string(), usize::MAX, false)
        } else {
            vec![]
        },
        extent: case.goes.clone(),
        rules: rules.collect(),
        teams: teams(&decision.rules, case),
        said: said(case, requester),
        loosened,
        new_spec,
        notes,
    }
}

fn destroyed(case: &Case) -> Option<DestroyedLine> {
    let Matter::Return(deletion) = &case.matter else { return None };
    Some(DestroyedLine {
        at: deletion.at,
        requesters: deletion.requesters.clone(),
        approvers: gone::approvers(deletion).into_iter().map(str::to_owned).collect(),
        delete_only: gone::is_for_good(deletion),
        words: gone::words(deletion, case.now),
    })
}

fn request_line(asked: &Asked) -> RequestLine {
    RequestLine { id: asked.id.clone(), requester: asked.requester.clone(), last: asked.last }
}

fn command(case: &Case, asked: Option<&Asked>) -> String {
    match (&case.matter, asked) {
        (Matter::Change(weighed), _) if weighed.new_spec != DELETED => {
            "kubectl tagout approve -f FILE, with the file of this change".to_owned()
        }
        (Matter::Contents(action), _) => {
            let action = if *action == Action::Delete { "" } else { " --action=Recreate" };
            format!("kubectl tagout approve {} --contents{action}", case.object.words())
        }
        (Matter::Return(_), None) => format!("kubectl tagout approve {} --action=Recreate", case.object.words()),
        (_, Some(asked)) => format!("kubectl tagout approve {}", asked.id),
        (Matter::Action(action), None) if *action != Action::Delete => {
            format!("kubectl tagout approve {} --action={}", case.object.words(), action.as_str())
        }
        _ => format!("kubectl tagout approve {}", case.object.words()),
    }
}

/// The labels of the object and its namespace that decide whether rules cover it.
fn looked_at(rules: &[&Rule], case: &Case) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let keys = |selector: fn(&Rule) -> &LabelSelector| -> BTreeSet<&str> {
        let selectors = rules.iter().map(|rule| selector(rule));
        selectors
            .flat_map(|selector| {
                let labels = selector.match_labels.iter().flat_map(BTreeMap::keys);
                labels.chain(selector.match_expressions.iter().flatten().map(|expression| &expression.key))
            })
            .map(String::as_str)
            .collect()
    };
    let of = |object: &LiveObject, keys: &BTreeSet<&str>| -> BTreeMap<String, String> {
        object
            .labels()
            .iter()
            .filter(|(key, _)| keys.contains(key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let namespaces = keys(|rule| &rule.spec.namespace_selector);
    let mut own = keys(|rule| &rule.spec.object_selector);
    if case.object.kind.is_namespace() {
        own.extend(&namespaces);
    }
    (of(&case.object, &own), case.home.as_ref().map(|home| of(home, &namespaces)).unwrap_or_default())
}

fn said(case: &Case, requester: Option<&str>) -> Vec<SaidLine> {
    let lines = case.said.iter().map(|said| {
        let (counts_for, flaws) = if said.place == Place::Object && !case.object.is_presenting() {
            (Vec::new(), vec!["nobody was seen to give it".to_owned()])
        } else {
            let (rules, flaws) = case.judged(said, requester);
            (rules.iter().map(|rule| rule.name.clone()).collect(), flaws.iter().map(ToString::to_string).collect())
        };
        SaidLine {
            place: said.place,
            counts_for,
            flaws,
            hash: said.statement.hash().ok(),
            statement: said.statement.clone(),
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::barriers::tests::budgeted;
    use crate::cli::case::tests::{case, returning, said as stands, setting};
    use crate::cli::statements::tests::{NOW, statement};

    fn asked() -> Asked {
        Asked {
            id: "to-3f9a2c41".into(),
            requester: "agent-7".into(),
            action: Action::Delete,
            new_spec: None,
            kind: "Deployment".into(),
            api_version: "apps/v1".into(),
            namespace: "payments".into(),
            name: "api".into(),
            uid: "uid-1".into(),
            last: Some(NOW - jiff::SignedDuration::from_mins(2)),
        }
    }

    #[test]
    fn everything_that_decides_is_on_one_page() {
        let setting = setting(&json!([{"anyOf": ["sre"]}, {"anyOf": ["dba"]}]));
        let ended = Statement { epoch: Some("epoch-0".into()), ..statement("bob", "dba") };
        let mut case = Case { said: vec![stands(statement("alice", "sre")), stands(ended)], ..case(&setting) };
        case.object.metadata.labels.get_or_insert_default().insert(crate::api::APPROVAL.into(), "true".into());
        let review = review(&case, &[asked()], vec!["a note".into()]);
        let text = render::text(&review, NOW, false);
        assert_eq!(
            text,
            "\
Request:    to-3f9a2c41 by \"agent-7\", 2m ago, according to an Event, which anyone can write
Action:     Delete
Object:     deployments.apps \"api\" in \"payments\"
UID:        uid-1
Created:    2026-11-20T10:00:00Z (1d ago)
Namespace:  environment=production
Note:       a note

Rules
  production needs approval by 1 of sre and 1 of dba
    still needs: 1 of dba
  watched only records the lack of approval by 1 of everyone
    still needs: 1 of everyone

Who may approve
  sre: alice
  dba: bob
  everyone: there is no such team

Said already
  by \"alice\", for team \"sre\", on the object, requests by anyone, until 2026-11-21T10:30:00Z (in 30m)
    counts for production
  by \"bob\", for team \"dba\", on the object, requests by anyone, until 2026-11-21T10:30:00Z (in 30m)
    does not count: it was given before a time at which anybody could have written it; it must be given anew

To approve: kubectl tagout approve to-3f9a2c41
"
        );
    }

    #[test]
    fn of_a_frozen_rule_nobody_is_told_that_it_needs_nothing_more() {
        let frozen = json!({"freeze": [{"from": "2026-11-21T00:00", "until": "2026-11-22T10:00", "reason": "sale"}]});
        let setting = budgeted(&frozen, &json!({}));
        let case = Case { said: vec![stands(statement("alice", "sre"))], ..case(&setting) };
        let text = render::text(&review(&case, &[], Vec::new()), NOW, false);
        let (_, rules) = text.split_once("production needs approval by 1 of sre\n").unwrap();
        assert!(rules.starts_with("    frozen until 2026-11-22T10:00:00Z (in 1d): \"sale\""), "{text}");
    }

    #[test]
    fn of_a_return_it_is_shown_how_it_was_destroyed() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let review = review(&returning(&setting, &[]), &[], Vec::new());
        let text = render::text(&review, NOW, false);
        assert!(text.contains("Destroyed:  2026-11-21T08:00:00Z (2h ago) by \"agent-7\""), "{text}");
        assert!(text.ends_with("approve deployments.apps/api -n payments --action=Recreate\n"), "{text}");
        let json = serde_json::to_value(&review).unwrap();
        assert_eq!(json["destroyed"]["requesters"], json!(["agent-7"]));

        let before = NOW - jiff::SignedDuration::from_mins(125);
        let approved = Statement {
            approved_at: before,
            expires: before + jiff::SignedDuration::from_mins(30),
            ..statement("alice", "sre")
        };
        let free = super::review(&returning(&setting, &[approved]), &[], Vec::new());
        assert!(free.notes[0].ends_with("was approved by alice, and so is its return"), "{:?}", free.notes);
        assert_eq!(free.approve, None);
    }

    #[test]
    fn what_nobody_was_seen_to_give_counts_for_nothing() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let case = Case { said: vec![stands(statement("alice", "sre"))], ..case(&setting) };
        let review = review(&case, &[], Vec::new());
        assert!(review.said[0].counts_for.is_empty());
        assert_eq!(review.approve.as_deref(), Some("kubectl tagout approve deployments.apps/api -n payments"));
    }
}
