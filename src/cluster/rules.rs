use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Doorbell, SettledRules, read_settled, within};
use crate::api::ApproverTeam;
use crate::entries;
use crate::guard::{Rule, Rules, Team};

/// The rules by which the API server calls, read from the very configurations that make it call.
///
/// A rule whose new version was rejected is decided by the version in force; a rule that was lost with its definition
/// goes on protecting.
pub struct RulesInForce {
    current: ArcSwapOption<Loaded>,
    loads: watch::Sender<u64>,
    /// Rung by calls that know of a rule which this replica does not.
    news: Notify,
}

pub struct Loaded {
    pub rules: Rules,
    /// Absent where they were given, and are what they are.
    at: Option<Instant>,
}

impl Loaded {
    pub fn age(&self) -> Duration {
        self.at.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

/// Why there are no rules to decide by. Never a reason to allow.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum NotLoaded {
    #[error("rules and teams have not been read yet; try again in a few seconds")]
    NotYet,
    #[error("rules and teams were last read {0} s ago and may have changed; Tagout cannot reach the API server")]
    Stale(u64),
}

/// Read again at least this often, whatever the watches say.
const INTERVAL: Duration = Duration::from_secs(30);
/// Four missed readings: longer than an API server takes to restart, shorter than a person takes to rely on a change.
const STALE_AFTER: Duration = Duration::from_mins(2);
/// A connection that hangs must not keep rules from being read.
const PATIENCE: Duration = Duration::from_secs(20);
/// A review can be forged, and may ask for a new reading. Between two is a pause, so many times as long as a reading took:
/// what passes by people waits for one, and reading takes a small part of the time in a small cluster and in a large one.
const REST: u32 = 4;
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(200);

impl RulesInForce {
    pub fn none() -> Self {
        Self { current: ArcSwapOption::empty(), loads: watch::Sender::new(0), news: Notify::new() }
    }

    /// Takes these for the rules in force, until others are given.
    pub fn give(&self, rules: Rules) {
        self.current.store(Some(Arc::new(Loaded { rules, at: None })));
    }

    /// Reads the rules now and whenever the doorbell rings, until the process ends.
    pub async fn follow(&self, client: Client, doorbell: Doorbell, own_namespace: String) {
        let mut listener = doorbell.listen();
        let mut wait = INTERVAL;
        loop {
            tokio::select! {
                () = listener.wait(wait) => {}
                () = self.news.notified() => {}
            }
            let at = Instant::now();
            match within(PATIENCE, load(&client, &own_namespace)).await {
                Ok(rules) => {
                    wait = INTERVAL;
                    if self.current.load().is_none() {
                        info!(rules = rules.rules.len(), teams = rules.teams.len(), "rules and teams are read");
                    }
                    self.current.store(Some(Arc::new(Loaded { rules, at: Some(at) })));
                    self.loads.send_modify(|loads| *loads += 1);
                }
                Err(error) => {
                    wait = Duration::from_secs(1);
                    warn!(error, "cannot read rules and teams; trying again");
                }
            }
            tokio::time::sleep((at.elapsed() * REST).clamp(SHORTEST, LONGEST)).await;
        }
    }

    pub fn current(&self) -> Result<Arc<Loaded>, NotLoaded> {
        let loaded = self.current.load_full().ok_or(NotLoaded::NotYet)?;
        let age = loaded.age();
        if age > STALE_AFTER { Err(NotLoaded::Stale(age.as_secs())) } else { Ok(loaded) }
    }

    /// The rules as they are after this moment, if they can be had within the patience.
    pub async fn renewed(&self, patience: Duration) -> Result<Arc<Loaded>, NotLoaded> {
        if let Some(given) = self.current.load_full().filter(|loaded| loaded.at.is_none()) {
            return Ok(given);
        }
        let asked = Instant::now();
        let mut loads = self.loads.subscribe();
        self.news.notify_one();
        let newer = async {
            while self.current.load().as_ref().is_none_or(|loaded| loaded.at.is_some_and(|at| at < asked)) {
                if loads.changed().await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(patience, newer).await;
        self.current()
    }
}

/// The rules as a cluster has them now.
pub async fn load(client: &Client, own_namespace: &str) -> kube::Result<Rules> {
    let all = ListParams::default();
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let teams: Api<DeserializeGuard<ApproverTeam>> = Api::all(client.clone());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let (configurations, teams, system, settled) =
        tokio::try_join!(configurations.list(&all), teams.list(&all), namespaces.get_metadata("kube-system"), async {
            Ok(read_settled(client, own_namespace).await)
        })?;
    let settled = settled.ok().and_then(|(settled, _)| settled);
    Ok(Rules {
        rules: configurations.iter().filter_map(|found| read_rule(found, settled.as_ref())).collect(),
        teams: teams.into_iter().filter_map(read_team).collect::<BTreeMap<_, _>>(),
        cluster: system.metadata.uid.unwrap_or_default(),
        own_namespace: own_namespace.to_owned(),
    })
}

fn read_rule(
    configuration: &ValidatingWebhookConfiguration,
    settled: Option<&SettledRules>,
) -> Option<(String, Result<Rule, String>)> {
    let name = entries::rule_name(configuration.metadata.name.as_deref()?)?;
    let origin = entries::origin(configuration)?;
    let mut read = origin.spec.and_then(|spec| Rule::read(name, &spec));
    if let Ok(rule) = &mut read {
        // Where nothing was written down, nobody may rely on being free.
        rule.settled = settled.map_or_else(|| Some(BTreeMap::new()), |rules| Some(rules.get(name)?.teams.clone()));
    }
    Some((name.to_owned(), read))
}

/// A team that cannot be read approves nothing; the registrar says so in its status.
fn read_team(team: DeserializeGuard<ApproverTeam>) -> Option<(String, Team)> {
    match team.0 {
        Ok(team) => Some((team.name_any(), Team::read(team.spec))),
        Err(invalid) => {
            warn!(team = invalid.metadata.name, error = invalid.error, "a team cannot be read and approves nothing");
            None
        }
    }
}
