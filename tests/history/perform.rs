//! Does an operation on the API server, and says what came of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use controlplane::User;
use kube::core::Status;
use serde_json::{Value, json};

use super::cluster::{Call, Cluster, PATIENCE, is_undecided, presenting, text};
use super::model::{Model, Verdict};
use super::operation::{Cascade, Deleting, Edit, Operation, Precondition, Route};
use super::text::{NO_UID, Names};
use super::world::{Action, GOLD, HOLD, INSIDE, Key, Kind, OF, Target, Team, manifest, namespace, namespace_manifest};

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub verdict: Option<Verdict>,
    /// In its own words.
    pub words: String,
    /// The UID of what was made.
    pub uid: Option<String>,
    /// How often it had to be asked again, because nobody was there to decide.
    pub again: u32,
}

pub fn path(history: &str, kind: Kind, place: u8) -> String {
    let (group, version, _, plural) = kind.names();
    let api = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    format!("{api}/namespaces/{}/{plural}", namespace(history, place))
}

pub fn target_path(history: &str, target: Target) -> String {
    match target {
        Target::Object(key) => format!("{}/{}", path(history, key.kind, key.place), key.name),
        Target::Namespace(place) => format!("/api/v1/namespaces/{}", namespace(history, place)),
    }
}

const RULES: &str = "/apis/tagout.dev/v1alpha1/protectionrules";
const APPROVALS: &str = "/apis/tagout.dev/v1alpha1/approvals";
const MANAGER: &str = "fieldManager=tagout-approval";

pub async fn perform(cluster: &Cluster, names: &Names, model: &Model, operation: &Operation) -> Result<Answer> {
    let call = match operation {
        Operation::Kill => {
            cluster.kill()?;
            return Ok(Answer { verdict: Some(Verdict::Passes), words: String::new(), uid: None, again: 0 });
        }
        Operation::Edit { by, rule, edit, approvers } => {
            return edit_rule(cluster, names, model, *by, *rule, *edit, approvers).await;
        }
        Operation::Approve { target, .. } => {
            let live = cluster.call(Call::get(target_path(&names.history, *target))).await.unwrap_or_default();
            request(names, model, operation, &live)
        }
        _ => request(names, model, operation, &Value::Null),
    };
    ask(cluster, names, model, call).await
}

/// Asks until somebody decides.
async fn ask(cluster: &Cluster, names: &Names, model: &Model, call: Call) -> Result<Answer> {
    let began = Instant::now();
    let mut again = 0;
    loop {
        let status = match cluster.call(call.clone()).await {
            Ok(made) => {
                let uid = Some(text(&made["metadata"]["uid"])).filter(|uid| !uid.is_empty());
                return Ok(Answer { verdict: Some(Verdict::Passes), words: String::new(), uid, again });
            }
            Err(error) if is_undecided(&error) => {
                ensure!(began.elapsed() < PATIENCE, "nobody decides: {error}");
                again += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(kube::Error::Api(status)) => status,
            Err(error) => return Err(error.into()),
        };
        let rules = model.rules.iter().map(|rule| (rule.name, rule.full_name(&names.history)));
        return Ok(Answer {
            verdict: verdict(&status, rules.collect()),
            words: status.message.clone(),
            uid: None,
            again,
        });
    }
}

fn verdict(status: &Status, rules: Vec<(&'static str, String)>) -> Option<Verdict> {
    let message = &status.message;
    if let Some((_, words)) = message.split_once("denied the request: tagout: ") {
        let Some(denied) = words.strip_prefix("denied ") else {
            return words.starts_with("this approval of").then_some(Verdict::NotAccepted);
        };
        let first = denied.lines().next().unwrap_or_default();
        let named = Action::USUAL.into_iter().chain([Action::Evict, Action::Loosen]);
        let action =
            named.filter(|action| first.starts_with(&action.name())).max_by_key(|action| action.name().len())?;
        let said: BTreeSet<&'static str> =
            rules.into_iter().filter(|(_, full)| first.contains(full.as_str())).map(|(name, _)| name).collect();
        return Some(Verdict::Denied(action, said));
    }
    match (status.code, status.reason.as_str()) {
        (404, _) => Some(Verdict::NotFound),
        (409, _) if message.contains("already exists") => Some(Verdict::Exists),
        (409, _) => Some(Verdict::Conflict),
        (422, _) => Some(Verdict::Invalid),
        (403, _) if message.contains("because it is being terminated") => Some(Verdict::Terminating),
        _ => None,
    }
}

/// The request that an operation is.
pub fn request(names: &Names, model: &Model, operation: &Operation, live: &Value) -> Call {
    let history = &names.history;
    let by = operation.by();
    let object = |key: &Key| target_path(history, Target::Object(*key));
    let dry = |dry_run: bool| if dry_run { json!(["All"]) } else { json!([]) };
    match operation {
        Operation::Create { key, gold, .. } => {
            Call::create(by, path(history, key.kind, key.place), manifest(history, *key, *gold))
        }
        Operation::Delete { key, how, .. } => Call::delete(by, object(key)).with(deletion(names, model, *key, *how)),
        Operation::DeleteCollection { kind, place, gold, dry_run, .. } => {
            let selector = if *gold { format!(",{GOLD}%3Dgold") } else { String::new() };
            let path = format!("{}?labelSelector={OF}%3D{history}{selector}", path(history, *kind, *place));
            Call::delete(by, path).with(json!({"propagationPolicy": "Background", "dryRun": dry(*dry_run)}))
        }
        Operation::CreateNamespace { place, .. } => {
            Call::create(by, "/api/v1/namespaces", namespace_manifest(history, *place))
        }
        Operation::DeleteNamespace { place, dry_run, .. } => {
            Call::delete(by, target_path(history, Target::Namespace(*place))).with(json!({"dryRun": dry(*dry_run)}))
        }
        Operation::Select { place, inside, .. } => {
            let label = if *inside { json!(history) } else { Value::Null };
            let path = target_path(history, Target::Namespace(*place));
            Call::patch(by, path, json!({"metadata": {"labels": {INSIDE: label}}}))
        }
        Operation::Mark { key, gold, .. } => {
            let label = if *gold { json!("gold") } else { Value::Null };
            Call::patch(by, object(key), json!({"metadata": {"labels": {GOLD: label}}}))
        }
        Operation::Scale { key, to, route, .. } => {
            let subresource = if *route == Route::Subresource { "/scale" } else { "" };
            Call::patch(by, object(key) + subresource, json!({"spec": {"replicas": to}}))
        }
        Operation::Suspend { key, suspend, .. } => Call::patch(by, object(key), json!({"spec": {"suspend": suspend}})),
        Operation::Own { key, owner, .. } => {
            let references = owner.map(|owner| {
                let uid = names.uid(model.reference(owner.key, owner.real, false).id);
                let mut reference = json!({"apiVersion": owner.key.kind.api_version(), "kind": owner.key.kind.names().2,
                    "name": owner.key.name, "uid": uid});
                if owner.controller {
                    reference["controller"] = json!(true);
                }
                json!([reference])
            });
            Call::patch(by, object(key), json!({"metadata": {"ownerReferences": references}}))
        }
        Operation::Hold { key, hold, .. } => {
            let finalizers = if *hold { json!([HOLD]) } else { Value::Null };
            Call::patch(by, object(key), json!({"metadata": {"finalizers": finalizers}}))
        }
        Operation::Empty { key, .. } => Call::patch(by, object(key), json!({"data": null})),
        Operation::Fill { key, .. } => Call::patch(by, object(key), json!({"data": {"key": "dmFsdWU="}})),
        Operation::Evict { key, dry_run, .. } => {
            let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": key.name},
                "deleteOptions": {"dryRun": dry(*dry_run)}});
            let dry_run = if *dry_run { "?dryRun=All" } else { "" };
            Call::create(by, format!("{}/eviction{dry_run}", object(key)), body)
        }
        Operation::Approve { target, draft, .. } => {
            let kept = draft.beside && model.papers(*target).is_some_and(|papers| papers.presented);
            let annotation = live["metadata"]["annotations"]["tagout.dev/approval"].as_str().filter(|_| kept);
            let mut all: Vec<Value> = annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            all.truncate(5);
            all.push(names.statement(&model.statement(*target, draft)));
            let mut patch = presenting(&all, draft.presented);
            if draft.smuggled {
                patch["metadata"]["annotations"]["smuggled"] = json!(jiff::Timestamp::now().to_string());
            }
            let manager = if draft.own_act { format!("?{MANAGER}") } else { String::new() };
            Call::patch(by, target_path(history, *target) + &manager, patch)
        }
        Operation::Present { target, .. } => {
            let patch = json!({"metadata": {"labels": {"tagout.dev/approval": "true"}}});
            Call::patch(by, target_path(history, *target), patch)
        }
        Operation::Withdraw { target, label, .. } => {
            let part = if *label { "labels" } else { "annotations" };
            let patch = json!({"metadata": {part: {"tagout.dev/approval": null}}});
            Call::patch(by, target_path(history, *target), patch)
        }
        Operation::Detach { target, draft, .. } => {
            let manager = if draft.own_act { format!("?{MANAGER}") } else { String::new() };
            Call::create(by, APPROVALS.to_owned() + &manager, names.approval(&model.statement(*target, draft)))
        }
        Operation::Edit { .. } | Operation::Kill => unreachable!("these are not one request"),
    }
}

fn deletion(names: &Names, model: &Model, key: Key, how: Deleting) -> Value {
    let policy = if how.cascade == Cascade::Foreground { "Foreground" } else { "Background" };
    let mut options = json!({"propagationPolicy": policy});
    if how.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    match how.precondition {
        Precondition::None => {}
        Precondition::Own => {
            let uid = model.id(Target::Object(key)).map_or(NO_UID, |id| names.uid(id));
            options["preconditions"] = json!({"uid": uid});
        }
        Precondition::Other => options["preconditions"] = json!({"uid": NO_UID}),
    }
    options
}

/// Has people approve what makes it weaker, and changes it.
async fn edit_rule(
    cluster: &Cluster,
    names: &Names,
    model: &Model,
    by: User,
    at: usize,
    edit: Edit,
    approvers: &[User],
) -> Result<Answer> {
    let old = &model.rules[at];
    let name = old.full_name(&names.history);
    let spec = names.rule(&old.edited(edit))["spec"].clone();
    let path = format!("{RULES}/{name}");
    let trial = Call::patch(by, format!("{path}?dryRun=All"), json!({"spec": spec}));
    let trial = ask(cluster, names, model, trial).await?;
    if let Some((_, rest)) = trial.words.split_once("newSpec ") {
        let hash: String = rest.chars().take_while(|one| one.is_alphanumeric() || *one == ':').collect();
        for approver in approvers {
            let teams: Vec<Team> = old.require.iter().map(|(team, _)| *team).collect();
            for team in teams.into_iter().filter(|team| team.has(*approver)) {
                cluster.permit(*approver, &team.name(&names.history), &name, &hash).await?;
            }
        }
    }
    let answer = ask(cluster, names, model, Call::patch(by, path, json!({"spec": spec}))).await?;
    if answer.verdict == Some(Verdict::Passes) {
        cluster.in_force(&name).await?;
    }
    Ok(answer)
}
