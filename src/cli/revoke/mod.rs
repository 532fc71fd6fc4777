//! `kubectl tagout revoke`: takes approvals back.

mod team;

use anyhow::{anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::Client;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde::Serialize;
use serde_json::json;

use super::approve::{ATTEMPTS, annotation, change, manager, may_not};
use super::case::ACTIONS;
use super::cluster::{Setting, plain};
use super::connection::{Cluster, Connection};
use super::gone::Gone;
use super::kinds::Kind;
use super::object::LiveObject;
use super::output::Document;
use super::said;
use super::target::{Target, misused, targets};
use super::words::{printable, say};
use crate::api::{APPROVAL, MAX_VALID_FOR, Scope, Statement, approval_name, quoted, read_statements};

/// Take approvals of an object back
///
/// Takes them off the object and out of its Approvals. What is signed could be put back by anybody who has a copy, so
/// its hash is written into the list `revoked` of its team, too. Taking back needs no approval.
#[derive(Args, Debug)]
#[command(
    override_usage = "kubectl tagout revoke (KIND/NAME... | KIND NAME...) [OPTIONS]\n       \
                      kubectl tagout revoke --hash HASH --in-team TEAM",
    after_help = "Examples:\n  \
        kubectl tagout revoke deploy/api -n payments\n  \
        kubectl tagout revoke deploy/api -n payments --approver bob@example.com\n  \
        kubectl tagout revoke --hash sha256:... --in-team senior-sre    # a signed one, wherever it lies"
)]
pub struct Options {
    /// The objects: KIND/NAME..., or KIND NAME...
    #[arg(required_unless_present = "in_team", value_name = "KIND/NAME")]
    objects: Vec<String>,
    /// Only what this person approved
    #[arg(long, value_name = "USER")]
    approver: Option<String>,
    /// Only the approval with this hash, as get approvals -o wide and verify print it
    #[arg(long, value_name = "HASH", value_parser = hash)]
    hash: Option<String>,
    /// Revoke the hash in this team, wherever the approval lies
    #[arg(long, value_name = "TEAM", requires = "hash", conflicts_with_all = ["objects", "approver"])]
    in_team: Option<String>,
    /// The format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Output {
    Json,
    Yaml,
}

/// An approval that was taken back.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct TakenBack {
    object: String,
    /// `Object`, or the name of the Approval.
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// The team in whose list the hash stands now; absent: it was not signed, and cannot be put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_in: Option<String>,
    statement: Statement,
}

/// Which statements are meant.
#[derive(Debug, Clone, Copy)]
struct Meant<'o> {
    approver: Option<&'o str>,
    hash: Option<&'o str>,
}

impl Meant<'_> {
    fn has(&self, statement: &Statement) -> bool {
        self.approver.is_none_or(|approver| statement.approver == approver)
            && self.hash.is_none_or(|hash| statement.hash().is_ok_and(|own| own == hash))
    }
}

pub async fn run(options: &Options, connection: &Connection) -> anyhow::Result<()> {
    if let (Some(team), Some(hash)) = (&options.in_team, &options.hash) {
        let at = connection.open().await?;
        let now = super::cluster::now(&at.client).await?;
        team::revoke(&at.client, team, &[team::revocation(hash.clone(), Some(now + MAX_VALID_FOR))], now).await?;
        return say(&format!("revoked in team {team}: {hash}\n"));
    }
    let targets = targets(&options.objects).unwrap_or_else(|words| misused("revoke", words));
    let at = &connection.open().await?;
    let setting = Setting::read(&at.client).await?;
    let meant = Meant { approver: options.approver.as_deref(), hash: options.hash.as_deref() };
    let asked = targets.len();
    let (mut taken, mut failed) = (Vec::new(), 0);
    for target in targets {
        let mut own = Vec::new();
        let outcome = take_back(target, meant, &setting, at, &mut own).await;
        if options.output.is_none() {
            say(&own.iter().map(line).collect::<String>())?;
        }
        taken.append(&mut own);
        match outcome {
            Ok(()) => {}
            Err(error) if asked == 1 && taken.is_empty() => return Err(error),
            Err(error) => {
                failed += 1;
                eprintln!("error: {error:#}");
            }
        }
    }
    match options.output {
        Some(Output::Json) => Document::Json.print(&taken)?,
        Some(Output::Yaml) => Document::Yaml.print(&taken)?,
        None => {}
    }
    ensure!(failed == 0, "not everything was taken back; see above");
    Ok(())
}

fn line(taken: &TakenBack) -> String {
    let TakenBack { object, hash, revoked_in, statement, .. } = taken;
    let (action, by, team) = (statement.action.as_str(), quoted(&statement.approver), quoted(&statement.team));
    let revoked = match (revoked_in, hash) {
        (Some(list), Some(hash)) => format!("; it was signed, and {hash} is revoked in team {list} now"),
        _ => String::new(),
    };
    let what = if statement.scope == Scope::Contents { "what is in " } else { "" };
    printable(&format!("taken back: {action} of {what}{object}, by {by}, for team {team}{revoked}")) + "\n"
}

async fn take_back(
    target: Target,
    meant: Meant<'_>,
    setting: &Setting,
    at: &Cluster,
    taken: &mut Vec<TakenBack>,
) -> anyhow::Result<()> {
    let Target::Named { kind, name } = target else {
        bail!("name the object of the request, as KIND/NAME; kubectl tagout review names it")
    };
    let kind = setting.kinds.find(&kind).map_err(anyhow::Error::msg)?.clone();
    let object = if change::is_guarded(&kind, &name) {
        let found = LiveObject::find(&at.client, kind.clone(), "", &name).await?;
        found.unwrap_or_else(|| LiveObject::to_be(kind, &name))
    } else {
        there_or_gone(kind, &name, at).await?
    };

    let mut places = Vec::new();
    let on_object = object.annotation().map(|annotation| read_statements(annotation).readable).unwrap_or_default();
    places.push(("Object".to_owned(), on_object));
    for action in ACTIONS {
        let name = approval_name(action, &object.kind.name(), object.namespace(), object.name(), object.uid());
        if let Some(approval) = said::read(&at.client, &name).await.map_err(plain)? {
            places.push((name, said::statements(&approval)));
        }
    }
    for (_, statements) in &mut places {
        statements.retain(|statement| meant.has(statement));
    }
    places.retain(|(_, statements)| !statements.is_empty());
    ensure!(
        !places.is_empty(),
        "nothing to take back: {object} has no such approval; kubectl tagout get approvals lists all"
    );

    // First what cannot be undone by putting a copy back.
    let all: Vec<&Statement> = places.iter().flat_map(|(_, statements)| statements).collect();
    let (listed, mut wrong) = revoke_signed(&all, &at.client, setting.now).await;
    for (place, statements) in places {
        let outcome = match place.as_str() {
            "Object" => off_object(&at.client, &object, meant).await,
            name => out_of_approval(&at.client, name, meant).await,
        };
        if let Err(error) = outcome {
            let dead = |statement: &Statement| statement.hash().is_ok_and(|hash| listed.contains(&hash));
            if !statements.iter().all(dead) {
                wrong.push(error.context(format!("{object}, {place}")));
                continue;
            }
            // What is revoked in its team may stand where it stands.
            eprintln!("it still stands there, and counts for nothing any more: {}", printable(&error.to_string()));
        }
        taken.extend(statements.into_iter().map(|statement| TakenBack {
            object: object.to_string(),
            place: place.clone(),
            hash: statement.hash().ok(),
            revoked_in: statement.hash().ok().filter(|hash| listed.contains(hash)).map(|_| statement.team.clone()),
            statement,
        }));
    }
    let words: Vec<_> = wrong.iter().map(|error| format!("{error:#}")).collect();
    if words.is_empty() { Ok(()) } else { Err(anyhow!("{}", words.join("\n"))) }
}

/// The object, or what was destroyed under its name and may return.
async fn there_or_gone(kind: Kind, name: &str, at: &Cluster) -> anyhow::Result<LiveObject> {
    let namespace = if kind.namespaced { at.namespace.as_str() } else { "" };
    if LiveObject::find(&at.client, kind.clone(), namespace, name).await?.is_none()
        && let Ok(Some(gone)) = Gone::recorded(&at.client, &kind, namespace, name).await
    {
        return Ok(gone.object);
    }
    LiveObject::read(&at.client, kind, namespace, name).await
}

/// Writes signed statements that still count into the lists of their teams. Returns the hashes that stand there now.
async fn revoke_signed(
    statements: &[&Statement],
    client: &Client,
    now: Timestamp,
) -> (Vec<String>, Vec<anyhow::Error>) {
    let (mut listed, mut wrong) = (Vec::new(), Vec::new());
    let mut teams: Vec<&str> = statements.iter().map(|statement| statement.team.as_str()).collect();
    teams.sort_unstable();
    teams.dedup();
    for name in teams {
        // What lives longer than anything that counts was planted to fill the list.
        let counts = |one: &Statement| one.expires > now && one.expires.duration_since(now) <= MAX_VALID_FOR;
        let of_team = statements.iter().filter(|one| one.team == name && one.signature.is_some() && counts(one));
        let entries: Vec<_> =
            of_team.filter_map(|one| Some(team::revocation(one.hash().ok()?, Some(one.expires)))).collect();
        if entries.is_empty() {
            continue;
        }
        match team::revoke(client, name, &entries, now).await {
            Ok(()) => listed.extend(entries.into_iter().map(|entry| entry.statement)),
            Err(error) => wrong.push(error),
        }
    }
    (listed, wrong)
}

async fn off_object(client: &Client, shown: &LiveObject, meant: Meant<'_>) -> anyhow::Result<()> {
    let mut object = shown.clone();
    for _ in 0..ATTEMPTS {
        let mut rest = object.annotation().map(|annotation| read_statements(annotation).readable).unwrap_or_default();
        rest.retain(|statement| !meant.has(statement));
        let patch = json!({"metadata": off(&object, &rest)?});
        match object.api(client).patch_metadata(object.name(), &manager(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if may_not(&status) => bail!(
                "{}; to take it back you must be able to patch {}: ask an administrator, or somebody who can",
                status.message,
                object.kind.name()
            ),
            Err(error) => return Err(plain(error)),
        }
        object = shown.read_again(client).await.map_err(plain)?;
        ensure!(object.uid() == shown.uid(), "{shown} was made anew meanwhile, and what was said of it is void");
    }
    bail!("{shown} changes all the time; try again")
}

/// The metadata of an object that says only the rest; without a rest it presents nothing any more.
fn off(object: &LiveObject, rest: &[Statement]) -> anyhow::Result<serde_json::Value> {
    let (label, value) = if rest.is_empty() {
        (json!({APPROVAL: null}), json!({APPROVAL: null}))
    } else {
        (json!({}), json!({APPROVAL: annotation(rest)?}))
    };
    Ok(json!({
        "uid": object.uid(), "resourceVersion": object.metadata.resource_version, "labels": label, "annotations": value,
    }))
}

async fn out_of_approval(client: &Client, name: &str, meant: Meant<'_>) -> anyhow::Result<()> {
    let api = said::approvals(client);
    for _ in 0..ATTEMPTS {
        let Some(found) = said::read(client, name).await.map_err(plain)? else { return Ok(()) };
        let mut rest = said::statements(&found);
        rest.retain(|statement| !meant.has(statement));
        let (uid, resource_version) = (found.metadata.uid, found.metadata.resource_version);
        let outcome = if rest.is_empty() {
            let preconditions = Some(Preconditions { uid, resource_version });
            api.delete(name, &DeleteParams { preconditions, ..DeleteParams::default() }).await.map(drop)
        } else {
            let patch =
                json!({"metadata": {"uid": uid, "resourceVersion": resource_version}, "spec": {"statements": rest}});
            api.patch(name, &manager(), &Patch::Merge(patch)).await.map(drop)
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(kube::Error::Api(status)) if may_not(&status) => bail!(
                "{}; to take it back you must be able to patch and delete approvals.tagout.dev: ask an administrator",
                status.message
            ),
            Err(error) => return Err(plain(error)),
        }
    }
    bail!("Approval {name} changes all the time; try again")
}

fn hash(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    let good = digits.len() == 64 && digits.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit));
    if good { Ok(text.to_owned()) } else { Err("write sha256: and 64 hexadecimal digits".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::case::tests::deployment;
    use crate::cli::statements::tests::statement;

    #[test]
    fn what_is_meant_is_named_by_person_or_by_hash() {
        let (alice, bob) = (statement("alice", "sre"), statement("bob", "dba"));
        let all = Meant { approver: None, hash: None };
        assert!(all.has(&alice) && all.has(&bob));
        assert!(!Meant { approver: Some("bob"), ..all }.has(&alice));
        let hash = alice.hash().unwrap();
        assert!(Meant { hash: Some(&hash), ..all }.has(&alice) && !Meant { hash: Some(&hash), ..all }.has(&bob));
    }

    #[test]
    fn with_the_last_approval_the_label_goes() {
        let none = off(&deployment(), &[]).unwrap();
        assert!(none["labels"][APPROVAL].is_null() && none["labels"].get(APPROVAL).is_some());
        assert!(none["annotations"].get(APPROVAL).is_some_and(serde_json::Value::is_null));
        let one = off(&deployment(), &[statement("bob", "dba")]).unwrap();
        assert!(one["labels"].get(APPROVAL).is_none());
        assert!(one["annotations"][APPROVAL].as_str().unwrap().contains("bob"));
    }

    #[test]
    fn a_hash_is_written_as_tagout_prints_it() {
        assert!(hash(&statement("bob", "dba").hash().unwrap()).is_ok());
        for bad in ["", "sha256:", "sha256:00", "SHA256:abc"] {
            assert!(hash(bad).is_err(), "{bad}");
        }
    }
}
