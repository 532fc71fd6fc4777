//! `kubectl tagout preview -f`: what a rule that only a file has would do in the cluster as it is. It changes nothing.

mod cover;
mod faults;
mod said;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;

use self::cover::{Cover, differences};
use self::said::{Comparison, Needed, Proposal, Proposals, Standing};
use self::server::Trial;
use super::background::Background;
use super::served::Shared;
use crate::api::{Action, GROUP, ProtectionRule};
use crate::cli::approve::change::stored_rule;
use crate::cli::approve::file_or_input;
use crate::cli::case::ACTIONS;
use crate::cli::cluster::Setting;
use crate::cluster::Told;
use crate::guard::{Rule, loosened_rule, nobody_can_satisfy, weigh};

/// A rule of a file, as it is written there.
struct Written {
    at: String,
    document: Value,
}

/// Where rules are looked at: in a cluster, or in what was written down of one.
pub(super) struct Scene {
    pub(super) background: Background,
    /// The cluster itself. Nothing where nobody asks it.
    pub(super) client: Option<Client>,
    pub(super) own_namespace: String,
}

pub(super) async fn look(files: &[PathBuf], scene: Scene) -> anyhow::Result<Proposals> {
    let mut written = Vec::new();
    for file in files {
        written.extend(read(file)?);
    }
    ensure!(!written.is_empty(), "there is no ProtectionRule in it");
    let Scene { background, client, own_namespace } = scene;
    let shared = Shared::default();
    background.lay(&mut shared.lock(), None);
    let notes = background.notes;
    drop(background.objects);
    let clock = Told::default();
    clock.set(Timestamp::now());
    let asked = client.clone().unwrap_or_else(|| shared.client(clock));
    let setting = Setting::of_rules(&asked).await?;
    let mut rules = Vec::with_capacity(written.len());
    for Written { at, document } in written {
        let mut trial = Trial::Here;
        if let Some(client) = &client {
            trial = server::rule(client, &document).await;
        }
        let read = faults::read(&document);
        let (mut proposal, rule) = match read {
            Ok(rule) => (Proposal::of(at, &rule), rule),
            Err(faults) => {
                let found = if trial.faults().is_empty() { faults } else { trial.faults().to_vec() };
                rules.push(Proposal::faulty(at, &document, found, &trial));
                continue;
            }
        };
        if let (Some(client), Trial::Passed) = (&client, &trial) {
            trial = server::entry(client, &rule, &own_namespace).await;
        }
        proposal.take(&trial, || faults::conditions(&rule.spec));
        compare(&mut proposal, &rule, &setting);
        cover(&mut proposal, &rule, &shared, &own_namespace, &setting);
        rules.push(proposal);
    }
    Ok(Proposals { rules, notes })
}

impl Proposals {
    /// 0: all may be applied; 2: the API server takes one not, or Tagout takes it from nobody; 3: one needs an approval.
    pub(super) fn exit_code(&self) -> ExitCode {
        let any = |is: fn(&Proposal) -> bool| self.rules.iter().any(is);
        ExitCode::from(match () {
            () if any(|rule| !rule.faults.is_empty() || rule.refused.is_some()) => 2,
            () if any(|rule| !rule.approval.is_empty()) => 3,
            () => 0,
        })
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Written>> {
    let name = if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
    let text = file_or_input(file)?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("{name} is neither YAML nor JSON"))?;
    let mut written = Vec::new();
    for (number, document) in documents.into_iter().enumerate() {
        let at = format!("{name}, document {}", number + 1);
        let is_list = document["kind"] == "List";
        match document.get("items").and_then(Value::as_array).filter(|_| is_list) {
            Some(items) => written.extend(
                items
                    .iter()
                    .enumerate()
                    .map(|(number, item)| Written { at: format!("{at}, item {}", number + 1), document: item.clone() }),
            ),
            None => written.push(Written { at, document }),
        }
    }
    // What a chart renders holds many others.
    written.retain(|one| {
        let group = one.document["apiVersion"].as_str().and_then(|version| version.split('/').next());
        one.document["kind"] == "ProtectionRule" && group == Some(GROUP)
    });
    Ok(written)
}

/// What the rule asks, and what it is beside the one in force.
fn compare(proposal: &mut Proposal, rule: &ProtectionRule, setting: &Setting) {
    let name = proposal.name.clone();
    let rules = setting.rules();
    let Ok(read) = Rule::read(&name, &rule.spec) else { return };
    let require = |rule: &Rule| crate::guard::missing(&rule.require, &[]).iter().map(ToString::to_string).collect();
    proposal.needs = Some(Needed {
        actions: ACTIONS.into_iter().filter(|action| guards(&read, *action)).collect(),
        people: require(&read),
        proof: read.proof,
        valid_for_seconds: read.valid_for.as_secs(),
        break_glass: read.break_glass.clone(),
        nobody: nobody_can_satisfy(&read, &rules.teams, setting.now),
    });
    let standing = rules.rules.get(&name);
    proposal.beside = match standing {
        None => Comparison { standing: Standing::New, ..Comparison::default() },
        Some(Err(_)) => Comparison { standing: Standing::Unreadable, ..Comparison::default() },
        Some(Ok(standing)) => {
            let looser = loosened_rule(&standing.spec, &rule.spec, setting.now);
            let stricter = loosened_rule(&rule.spec, &standing.spec, setting.now);
            let stands = match (looser.is_empty(), stricter.is_empty()) {
                (true, true) => Standing::Same,
                (true, false) => Standing::Stricter,
                (false, true) => Standing::Looser,
                (false, false) => Standing::Mixed,
            };
            // Said the other way round, what would loosen on the way back says what is tightened.
            Comparison { standing: stands, looser, tightened: fields(&stricter), ..Comparison::default() }
        }
    };
    let changed = stored_rule(&name, Some(Box::new(rule.spec.clone())), setting);
    let weighed = weigh(&changed, &name, rules, setting.now);
    proposal.refused = weighed.refused;
    if !weighed.loosened.is_empty() {
        let needed = weighed.needed.iter().filter_map(|name| rules.rules.get(name)?.as_ref().ok());
        let asked = needed.chain(weighed.not_in_force.as_deref());
        proposal.approval = asked.map(|rule| (rule.name.clone(), require(rule))).collect();
        proposal.because = weighed.loosened;
    }
}

fn guards(rule: &Rule, action: Action) -> bool {
    // Every rule guards itself.
    action == Action::Loosen || rule.actions.contains(&action)
}

/// The field that each of these is about, in the order of the rule.
fn fields(loosened: &[String]) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for one in loosened {
        let field = one.split(':').next().unwrap_or(one).to_owned();
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    fields
}

fn cover(proposal: &mut Proposal, rule: &ProtectionRule, shared: &Shared, own_namespace: &str, setting: &Setting) {
    let state = shared.lock();
    let covered = Cover::of(&proposal.name, &rule.spec, &state, own_namespace);
    if let Some(Ok(standing)) = setting.rules().rules.get(&proposal.name) {
        let before = Cover::of(&proposal.name, &standing.spec, &state, own_namespace);
        (proposal.beside.gains, proposal.beside.loses) = differences(&before, &covered);
    }
    proposal.covers = covered;
}
