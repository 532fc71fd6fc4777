use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, ObjectList, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, CustomResourceExt, ResourceExt};
use tracing::{info, warn};

use super::settle::Teams;
use super::status::{self, Findings, RuleState};
use super::used;
use super::{AFTER_ERROR, Registrar};
use crate::api::{ApproverTeam, ProtectionRule, sha256};
use crate::cluster::delete_exactly;
use crate::entries::{self, COMPILER, Origin, Place, SHARED};
use crate::guard::{Rule, Team};
use crate::telemetry::{DriftRepaired, Registered, RuleRejected};

/// During an upgrade replicas of two versions run; the older yields to the newer for the time an upgrade may take.
/// After a rollback the older one is right, and takes over.
pub(super) const YIELD: Duration = Duration::from_mins(1);

/// Replicas that disagree, in the middle of an upgrade say, overwrite each other no more often than this; a hand edit
/// is still put back within two seconds.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

type Configuration = ValidatingWebhookConfiguration;

/// A version of a rule that is not in force.
struct Rejected {
    rule: String,
    uid: String,
    generation: i64,
    why: String,
}

impl Rejected {
    fn of(metadata: &ObjectMeta, why: &str) -> Self {
        Self {
            rule: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            why: why.to_owned(),
        }
    }
}

/// What one look at everything has found.
pub(super) struct Pass {
    configurations: Api<Configuration>,
    pub(super) found: BTreeMap<String, Configuration>,
    place: Place,
    /// Of the rules' definition, unless it is gone or going.
    definition: Option<ObjectMeta>,
    epoch: Option<String>,
}

impl Registrar {
    /// True when every rule has been looked at; false where there is nothing to register with.
    pub(super) async fn register(&mut self, ca_bundle: Vec<u8>) -> kube::Result<bool> {
        let configurations: Api<Configuration> = Api::all(self.client.clone());
        let found: BTreeMap<String, Configuration> = configurations
            .list(&ListParams::default())
            .await?
            .into_iter()
            .map(|found| (found.name_any(), found))
            .collect();
        self.authorities.send_if_modified(|before| {
            let now = self.service.named_authorities(&found);
            let news = *before != now;
            *before = now;
            news
        });
        // Removing the chart's configuration removes Tagout; nothing is put back that nobody owns.
        let Some(shared) = found.get(SHARED) else {
            warn!("there is no ValidatingWebhookConfiguration {SHARED}, so nothing is guarded; install the chart");
            Registered { in_force: 0, rejected: 0 }.emit(&self.telemetry);
            self.without_epoch.send_replace(None);
            self.say_not_installed().await?;
            return Ok(false);
        };
        let definition = self.definition().await?;
        let place = Place {
            namespace: self.service.namespace.clone(),
            service: self.service.name.clone(),
            port: self.service.port,
            ca_bundle,
            owner_uid: shared.uid().unwrap_or_default(),
            definition_uid: definition.as_ref().and_then(|metadata| metadata.uid.clone()).unwrap_or_default(),
        };
        // Rules are looked after whatever becomes of the record of the epoch.
        let shared = self.register_shared(&configurations, &place).await;
        let epoch = self.keep_on("the shared entries", shared).flatten();

        let pass = Pass { configurations, found, place, definition, epoch };
        let named = if pass.definition.is_some() {
            self.register_rules(&pass).await?
        } else {
            warn!("the definition of ProtectionRules is gone; its rules stay in force. Apply the chart's crds/ again");
            BTreeSet::new()
        };
        for (name, configuration) in &pass.found {
            let Some(rule) = entries::rule_name(name).filter(|rule| !named.contains(*rule)) else { continue };
            let kept = match entries::origin(configuration) {
                Some(origin) => self.keep_or_remove(&pass, rule, configuration, origin).await,
                None => self.keep_trusted(&pass.configurations, configuration, &pass.place.ca_bundle).await,
            };
            self.keep_on(rule, kept);
        }
        let swept = self.sweep().await;
        self.keep_on("old Approvals", swept);
        Ok(true)
    }

    /// Goes on after an error with one object, which is looked at again, so that none stalls the others.
    fn keep_on<T>(&mut self, what: &str, result: kube::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                self.look_again = Some(AFTER_ERROR);
                // Another replica was first.
                if !matches!(error, kube::Error::Api(status) if status.code == 409) {
                    warn!(what, %error, "cannot be registered yet; trying again");
                }
            })
            .ok()
    }

    /// The names of all rules there are.
    async fn register_rules(&mut self, pass: &Pass) -> kube::Result<BTreeSet<String>> {
        let rules = self.rules().await?;
        let looked = self.used.has_changed().unwrap_or_default();
        self.news = self.used.borrow_and_update().clone().filter(|_| looked);
        let teams =
            Api::<DeserializeGuard<ApproverTeam>>::all(self.client.clone()).list(&ListParams::default()).await?;
        let known = Teams {
            read: teams
                .iter()
                .filter_map(|team| team.0.as_ref().ok())
                .map(|team| (team.name_any(), Team::read(team.spec.clone())))
                .collect(),
            definition: self
                .definition_of(ApproverTeam::crd_name())
                .await?
                .and_then(|found| found.uid)
                .unwrap_or_default(),
        };
        let cluster = Api::<Namespace>::all(self.client.clone()).get_metadata("kube-system").await?.uid();
        // Before any entry is written: a rule is in force from that moment on.
        let settled = self.settle(pass, &rules, &known).await;
        self.keep_on("which rules can be met", settled);
        let mut named = BTreeSet::new();
        let mut in_force = Vec::new();
        let mut outcome = Registered { in_force: 0, rejected: 0 };
        let mut rejected = Vec::new();
        for rule in rules {
            match rule.0 {
                Ok(rule) => {
                    let name = rule.name_any();
                    named.insert(name.clone());
                    let ensured = self.ensure(pass, &rule).await;
                    let Some(Some(state)) = self.keep_on(&name, ensured) else { continue };
                    match &state {
                        RuleState::InForce => outcome.in_force += 1,
                        RuleState::Rejected { words, .. } => rejected.push(Rejected::of(&rule.metadata, words)),
                    }
                    let not_remembered = self.not_readable(&rule).await;
                    let (budgets, freeze) = (self.used(&rule), used::freeze(&rule, Timestamp::now()));
                    let said = Findings {
                        not_remembered,
                        budgets,
                        freeze,
                        state: &state,
                        teams: &known.read,
                        cluster: cluster.as_deref(),
                        epoch: pass.epoch.as_deref(),
                        also_asks_about: self.also_asks_about(pass, &rule),
                        admitted: self.heard.borrow().admitted,
                    };
                    let written = status::write_rule(&self.client, &rule, &said).await;
                    self.keep_on(&name, written);
                    in_force.push(rule);
                }
                Err(invalid) => {
                    rejected.push(Rejected::of(&invalid.metadata, &invalid.error));
                    let name = invalid.metadata.name.clone().unwrap_or_default();
                    let found = pass.found.get(&entries::configuration_name(&name)).and_then(entries::origin);
                    let generation = found.map(|origin| origin.generation);
                    let written = status::write_unreadable::<ProtectionRule>(&self.client, &invalid, generation).await;
                    self.keep_on(&name, written);
                    named.insert(name);
                }
            }
        }
        for team in teams {
            let written = match team.0 {
                Ok(team) => status::write_team(&self.client, &team, &known.read).await,
                Err(invalid) => status::write_unreadable::<ApproverTeam>(&self.client, &invalid, None).await,
            };
            self.keep_on("a team", written);
        }
        outcome.rejected = rejected.len();
        outcome.emit(&self.telemetry);
        self.say_rejected(&rejected);
        self.owned.send_replace(in_force);
        Ok(named)
    }

    async fn rules(&self) -> kube::Result<ObjectList<DeserializeGuard<ProtectionRule>>> {
        Api::all(self.client.clone()).list(&ListParams::default()).await
    }

    /// Once for each version of a rule; not of what was so before this replica was there.
    fn say_rejected(&mut self, rejected: &[Rejected]) {
        let versions = rejected.iter().map(|one| (one.uid.clone(), one.generation)).collect();
        let before = self.rejected.replace(versions);
        let is_new =
            |one: &&Rejected| before.as_ref().is_some_and(|all| !all.contains(&(one.uid.clone(), one.generation)));
        for Rejected { rule, uid, generation, why } in rejected.iter().filter(is_new) {
            RuleRejected { rule, uid, generation: *generation, why }.emit(&self.telemetry);
        }
    }

    /// A rule that says it is enforced while nothing calls Tagout would be worse than none.
    async fn say_not_installed(&self) -> kube::Result<()> {
        for rule in self.rules().await? {
            if let Ok(rule) = rule.0 {
                status::write_not_installed(&self.client, &rule).await?;
            }
        }
        Ok(())
    }

    async fn definition(&self) -> kube::Result<Option<ObjectMeta>> {
        self.definition_of(ProtectionRule::crd_name()).await
    }

    async fn definition_of(&self, name: &str) -> kube::Result<Option<ObjectMeta>> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let found = definitions.get_opt(name).await?.filter(is_served_as_it_says);
        Ok(found.map(|found| found.metadata).filter(|metadata| metadata.deletion_timestamp.is_none()))
    }

    /// What has become of the rule; nothing where that will only be known when it is looked at again.
    async fn ensure(&mut self, pass: &Pass, rule: &ProtectionRule) -> kube::Result<Option<RuleState>> {
        let name = rule.name_any();
        let configuration = entries::configuration_name(&name);
        let found = pass.found.get(&configuration);
        let owners = self.owner_kinds(pass, rule);
        let mut wanted = entries::compile(rule, &owners, &pass.place);
        let read = Rule::read(&name, &rule.spec);
        // Owners are found out in time, and stand in the entry itself.
        let print = print(&entries::compile(rule, &[], &pass.place));
        if found.is_some_and(|found| entries::in_force(&wanted, found)) {
            self.stood.insert(configuration, print);
            return Ok(Some(RuleState::InForce));
        }
        let older = found.and_then(entries::origin);
        let version = (rule.uid().unwrap_or_default(), rule.metadata.generation.unwrap_or_default());
        if older.as_ref().is_some_and(|origin| origin.compiler > COMPILER && self.yields(version)) {
            return Ok(None);
        }
        let generation_in_force = older.as_ref().map(|origin| origin.generation);
        let rejected = |words| Some(RuleState::Rejected { words, generation_in_force });
        if let Err(words) = read {
            self.keep_earlier(pass, &name).await?;
            return Ok(rejected(words));
        }
        if let Some(trial) = entries::trial(rule, &pass.place) {
            let dry_run = PostParams { dry_run: true, ..PostParams::default() };
            match words_of_rejection(pass.configurations.create(&dry_run, &trial).await) {
                Ok(Some(words)) => {
                    self.keep_earlier(pass, &name).await?;
                    return Ok(rejected(words));
                }
                // A trial under a name that exists is validated first and then refused for its name.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                other => drop(other?),
            }
        }
        if found.is_some() && !self.may_write_now(&configuration) {
            return Ok(None);
        }
        info!(rule = name, generation = rule.metadata.generation, "the rule's entry is written");
        let written = match found {
            None => pass.configurations.create(&PostParams::default(), &wanted).await,
            Some(found) => {
                // Whatever has this name is replaced: names that begin with `tagout-` are Tagout's, or else taking the
                // marks off an entry would be enough to keep it from being repaired.
                wanted.metadata.resource_version.clone_from(&found.metadata.resource_version);
                pass.configurations.replace(&configuration, &PostParams::default(), &wanted).await
            }
        };
        match words_of_rejection(written) {
            // Another replica was first; its write rings the bell.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            // As its author wrote it, it was fine: what is left are the names that conditions cannot use.
            Ok(Some(words)) if !rule.spec.match_conditions.is_empty() => Ok(rejected(format!(
                "Conditions cannot use request or authorizer (an exemption by user name can be forged): {words}"
            ))),
            other => {
                let rejection = other?;
                let as_it_stood = |found: &Configuration| {
                    let owners = older.as_ref().map(|origin| origin.owners.clone()).unwrap_or_default();
                    same_but_for_trust(found, &entries::compile(rule, &owners, &pass.place))
                };
                if rejection.is_none() && !found.is_some_and(as_it_stood) {
                    self.say_restored(pass, &configuration, &print, found.is_some());
                }
                Ok(rejection.map_or(Some(RuleState::InForce), rejected))
            }
        }
    }

    /// Whether this is what a configuration held when it was last seen to hold what it should.
    pub(super) fn stood_before(&self, configuration: &str, print: &str) -> bool {
        self.stood.get(configuration).is_some_and(|before| before == print)
    }

    /// Nothing has changed in the rule, in Tagout or around it: so somebody else has changed its configuration.
    fn say_restored(&self, pass: &Pass, configuration: &str, print: &str, is_there: bool) {
        if self.stood_before(configuration, print) {
            let what = if is_there { "was changed" } else { "was deleted" };
            let (kind, shared) = ("ValidatingWebhookConfiguration", &pass.place.owner_uid);
            DriftRepaired { kind, name: configuration, what, shared }.emit(&self.telemetry);
        }
    }

    /// Whether a newer Tagout's entry is left alone. Once for a version of what it was made of: the mark of a newer
    /// Tagout could be forged, and must not keep a weakened entry from being repaired for longer than that.
    pub(super) fn yields(&mut self, version: (String, i64)) -> bool {
        let since = self.yielding.entry(version).or_insert_with(Instant::now).elapsed();
        let left = YIELD.checked_sub(since);
        self.look_again = left.or(self.look_again);
        left.is_some()
    }

    /// Whether this configuration may be overwritten, which then counts as done; if not, it is looked at again soon.
    pub(super) fn may_write_now(&mut self, configuration: &str) -> bool {
        if self.written.get(configuration).is_some_and(|at| at.elapsed() < BETWEEN_WRITES) {
            self.look_again = Some(BETWEEN_WRITES);
            return false;
        }
        self.written.insert(configuration.to_owned(), Instant::now());
        true
    }

    /// Removes the entry of a rule whose deletion the API server admitted, and maintains that of a rule that was lost.
    ///
    /// That a rule is not in a list proves nothing: when a definition is deleted its objects go with it, and nobody is
    /// asked. The entry goes only while the definition under which its rule was read still stands.
    async fn keep_or_remove(
        &mut self,
        pass: &Pass,
        rule: &str,
        configuration: &Configuration,
        origin: Origin,
    ) -> kube::Result<()> {
        let rules: Api<ProtectionRule> = Api::all(self.client.clone());
        let definition = pass.definition.as_ref().and_then(|metadata| metadata.uid.as_deref());
        if definition.is_some_and(|uid| uid == origin.definition_uid) {
            // In this order: instances go after their definition has begun to.
            let lost = async |uid| Ok::<_, kube::Error>(self.definition().await?.and_then(|now| now.uid) != Some(uid));
            if rules.get_metadata_opt(rule).await?.is_some() || lost(origin.definition_uid).await? {
                return Ok(());
            }
            info!(rule, "the rule was deleted: its entry goes");
            self.stood.remove(&configuration.name_any());
            return delete_exactly(&pass.configurations, &configuration.metadata).await.map(drop);
        }
        warn!(rule, "the rule was lost with its definition, not deleted: its entry stays. Create the rule again");
        self.keep_as_it_was(pass, rule, configuration, origin).await
    }

    /// The version in force of a rule whose newest one was rejected goes on being looked after.
    async fn keep_earlier(&mut self, pass: &Pass, rule: &str) -> kube::Result<()> {
        let Some(configuration) = pass.found.get(&entries::configuration_name(rule)) else { return Ok(()) };
        let Some(origin) = entries::origin(configuration) else {
            return self.keep_trusted(&pass.configurations, configuration, &pass.place.ca_bundle).await;
        };
        self.keep_as_it_was(pass, rule, configuration, origin).await
    }

    async fn keep_as_it_was(
        &mut self,
        pass: &Pass,
        rule: &str,
        configuration: &Configuration,
        origin: Origin,
    ) -> kube::Result<()> {
        let Ok(spec) = origin.spec else {
            return self.keep_trusted(&pass.configurations, configuration, &pass.place.ca_bundle).await;
        };
        let mut earlier = ProtectionRule::new(rule, spec);
        earlier.metadata.uid = Some(origin.rule_uid);
        earlier.metadata.generation = Some(origin.generation);
        let place = Place { definition_uid: origin.definition_uid, ..pass.place.clone() };
        let mut wanted = entries::compile(&earlier, &origin.owners, &place);
        let (name, print) = (configuration.name_any(), print(&wanted));
        if entries::in_force(&wanted, configuration) {
            self.stood.insert(name, print);
            return Ok(());
        }
        if !self.may_write_now(&name) {
            return Ok(());
        }
        wanted.metadata.resource_version.clone_from(&configuration.metadata.resource_version);
        match pass.configurations.replace(&name, &PostParams::default(), &wanted).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => {
                other?;
                if !same_but_for_trust(configuration, &wanted) {
                    self.say_restored(pass, &name, &print, true);
                }
                Ok(())
            }
        }
    }
}

/// Whether they differ in the authority at most: while that is replaced, not all replicas know the next one yet.
pub(super) fn same_but_for_trust(found: &Configuration, wanted: &Configuration) -> bool {
    let webhooks = |of: &Configuration| {
        let mut webhooks = of.webhooks.clone().unwrap_or_default();
        for webhook in &mut webhooks {
            webhook.client_config.ca_bundle = None;
        }
        webhooks
    };
    let meta = |of: &Configuration| (of.metadata.annotations.clone(), of.metadata.owner_references.clone());
    webhooks(found) == webhooks(wanted) && meta(found) == meta(wanted)
}

/// Of a configuration that is compiled, to be known again.
fn print(wanted: &Configuration) -> String {
    sha256(&serde_json::to_vec(wanted).expect("what was compiled can be written"))
}

/// Whether what is found under a kind's name is of that kind: the names in its status decide, and others may write those.
fn is_served_as_it_says(definition: &CustomResourceDefinition) -> bool {
    definition.status.as_ref().is_some_and(|status| {
        let names = status.accepted_names.as_ref();
        let established =
            status.conditions.iter().flatten().any(|one| one.type_ == "Established" && one.status == "True");
        established && names.is_some_and(|names| names.plural == definition.spec.names.plural)
    })
}

/// What the API server says against an object itself; any other error is an error.
fn words_of_rejection<T>(result: kube::Result<T>) -> kube::Result<Option<String>> {
    match result {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => Ok(Some(status.message.clone())),
        Err(error) => Err(error),
    }
}
