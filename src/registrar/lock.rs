//! Keeps the policies in force that keep Tagout as it is, and opens them for whom people approved. Every replica does.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, to_value};
use tokio::sync::watch;
use tracing::warn;

use super::Service;
use super::canary::Heard;
use super::register::YIELD;
use super::settling::Settling;
use crate::api::Action;
use crate::cluster::{
    Cluster, Doorbell, Granted, delete_exactly, guards_own, read_granted, still_granted, within, write_granted,
};
use crate::entries::{self, Leave, Place, SHARED};
use crate::guard::{Rules, Unlocked, locking, unlocked};
use crate::telemetry::{DriftRepaired, Locked, Relocked, Telemetry, UnlockGranted};

/// What the process was told about it.
#[derive(Debug, Clone)]
pub struct Options {
    pub enabled: bool,
    pub secret_writers: Vec<String>,
    /// The Secrets that Tagout rests on, beside its own.
    pub secrets: Vec<String>,
}

pub struct Lock {
    client: Client,
    cluster: Arc<Cluster>,
    telemetry: Arc<Telemetry>,
    service: Service,
    options: Options,
    heard: watch::Receiver<Heard>,
    /// What was in force at the last look.
    standing: Option<Vec<entries::Lock>>,
    /// The chart's configuration as it stood then.
    shared: Option<ValidatingWebhookConfiguration>,
    /// For whom it was unlocked then.
    granted: Granted,
    /// Since when no rule asks for a lock.
    unwanted: Option<Instant>,
    settling: Settling,
    /// What a newer Tagout wrote, and since when it is left alone.
    yielding: HashMap<String, Instant>,
}

/// Whether an approval was given is looked at this often.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);
/// A list that comes back empty once unlocks nothing.
const CERTAIN: Duration = Duration::from_secs(30);
/// Where nobody reaches Tagout, it holds nobody to anything: what is removed then stays removed.
const UNREACHED: Duration = Duration::from_mins(2);

impl Lock {
    pub fn new(
        client: Client,
        cluster: Arc<Cluster>,
        telemetry: Arc<Telemetry>,
        service: Service,
        options: Options,
        heard: watch::Receiver<Heard>,
    ) -> Self {
        Self {
            client,
            cluster,
            telemetry,
            service,
            options,
            heard,
            standing: None,
            shared: None,
            granted: Granted::new(),
            unwanted: None,
            settling: Settling::default(),
            yielding: HashMap::new(),
        }
    }

    /// Works until the process ends.
    pub async fn run(mut self, bell: Doorbell) {
        let mut listener = bell.listen();
        loop {
            if let Err(error) = within(PATIENCE, Box::pin(self.look())).await {
                warn!(error, "Tagout cannot be kept as it is; trying again");
            }
            listener.wait(BETWEEN_LOOKS).await;
        }
    }

    async fn look(&mut self) -> kube::Result<()> {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let Some(shared) = configurations.get_opt(SHARED).await? else {
            Locked { locked: false, unlocked: 0 }.emit(&self.telemetry);
            return self.put_back(&configurations).await;
        };
        if shared.metadata.deletion_timestamp.is_some() {
            return self.let_go().await;
        }
        // What is not known changes nothing.
        let Ok(loaded) = self.cluster.rules.current() else { return Ok(()) };
        let rules = &loaded.rules;
        if !self.is_wanted(rules) {
            Locked { locked: false, unlocked: 0 }.emit(&self.telemetry);
            (self.shared, self.standing) = (None, None);
            self.settling = Settling::default();
            return self.remove().await;
        }
        if self.unwanted.is_some() {
            return Ok(());
        }
        let Some(granted) = self.grant(rules, &shared).await? else { return Ok(()) };
        self.granted.clone_from(&granted);
        let place = Place {
            namespace: self.service.namespace.clone(),
            owner_uid: shared.uid().unwrap_or_default(),
            ..Place::default()
        };
        let leave = Leave {
            unlocked: granted.keys().cloned().collect(),
            secret_writers: self.options.secret_writers.clone(),
            secrets: self.options.secrets.clone(),
        };
        self.shared = Some(shared);
        let locks = entries::locks(&place, &leave);
        let locked = self.keep(&locks).await?;
        Locked { locked, unlocked: granted.len() }.emit(&self.telemetry);
        if locked {
            self.standing = Some(locks);
        }
        Ok(())
    }

    fn is_wanted(&mut self, rules: &Rules) -> bool {
        if !self.options.enabled {
            return false;
        }
        if locking(rules).next().is_some() || rules.rules.values().any(Result::is_err) {
            self.unwanted = None;
            return true;
        }
        self.unwanted.get_or_insert_with(Instant::now).elapsed() < CERTAIN
    }

    /// Puts the policies as they are compiled, and says what somebody else had changed. False where there are none.
    async fn keep(&mut self, locks: &[entries::Lock]) -> kube::Result<bool> {
        // Nothing is locked by a Tagout that was never reached.
        let is_reached = !self.is_unreached() && (self.heard.borrow().refused_once || self.standing.is_some());
        let may_create =
            is_reached && (self.standing.is_some() || self.settling.is_over(&self.client, &self.service).await);
        let before = self.standing.clone().unwrap_or_default();
        let mut all_stand = true;
        for (at, lock) in locks.iter().enumerate() {
            let known = before.get(at);
            // In this order: a policy binds nothing by itself.
            all_stand &= self.keep_one(&lock.policy, known.map(|known| &known.policy), may_create).await?;
            all_stand &= self.keep_one(&lock.binding, known.map(|known| &known.binding), may_create).await?;
        }
        Ok(all_stand)
    }

    async fn keep_one<K>(&mut self, wanted: &K, before: Option<&K>, may_create: bool) -> kube::Result<bool>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
        K: Resource<Scope = kube::core::ClusterResourceScope>,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let name = wanted.name_any();
        let Some(found) = api.get_opt(&name).await? else {
            if may_create {
                match api.create(&PostParams::default(), wanted).await {
                    Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(true),
                    written => drop(written?),
                }
                if before.is_some() {
                    self.repaired::<K>(&name, "was deleted");
                }
            }
            return Ok(may_create);
        };
        if spec(&found) == spec(wanted) && is_owned_alike(found.meta(), wanted.meta()) {
            return Ok(true);
        }
        // Once, for the time an upgrade may take: the mark can be forged.
        if entries::is_newer(found.meta()) {
            let since = self.yielding.entry(format!("{} {name}", K::kind(&()))).or_insert_with(Instant::now);
            if since.elapsed() < YIELD {
                return Ok(true);
            }
        }
        let by_others =
            before.is_some_and(|before| spec(&found) != spec(before) || !is_owned_alike(found.meta(), before.meta()));
        let mut written = wanted.clone();
        written.meta_mut().resource_version.clone_from(&found.meta().resource_version);
        match api.replace(&name, &PostParams::default(), &written).await {
            // Another replica was first.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => return Ok(true),
            written => drop(written?),
        }
        if by_others {
            self.repaired::<K>(&name, "was changed");
        }
        Ok(true)
    }

    fn repaired<K: Resource<DynamicType = ()>>(&self, name: &str, what: &str) {
        let shared = self.shared.as_ref().and_then(ResourceExt::uid).unwrap_or_default();
        DriftRepaired { kind: &K::kind(&()), name, what, shared: &shared }.emit(&self.telemetry);
    }

    /// The chart's configuration is going. Who was let to remove it is not to be left with a cluster in which nothing of
    /// Tagout can be changed; who was not has it put back when it is gone.
    async fn let_go(&mut self) -> kube::Result<()> {
        if self.standing.is_none() || self.is_unlocked() {
            (self.shared, self.standing) = (None, None);
            return self.remove().await;
        }
        Ok(())
    }

    fn is_unreached(&self) -> bool {
        self.heard.borrow().silent_since.is_some_and(|since| since.elapsed() > UNREACHED)
    }

    fn is_unlocked(&self) -> bool {
        let now = Timestamp::now();
        self.granted.values().any(|unlocked| unlocked.until > now)
    }

    /// The chart's configuration owns all that guards. Who may remove it, unlocks first.
    async fn put_back(&mut self, configurations: &Api<ValidatingWebhookConfiguration>) -> kube::Result<()> {
        if self.standing.is_none() || self.is_unreached() {
            return Ok(());
        }
        if self.is_unlocked() {
            (self.shared, self.standing) = (None, None);
            return self.remove().await;
        }
        let Some(shared) = &self.shared else { return Ok(()) };
        let metadata = ObjectMeta {
            name: Some(SHARED.to_owned()),
            labels: shared.metadata.labels.clone(),
            annotations: shared.metadata.annotations.clone(),
            ..ObjectMeta::default()
        };
        let again = ValidatingWebhookConfiguration { metadata, webhooks: shared.webhooks.clone() };
        match configurations.create(&PostParams::default(), &again).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            written => {
                self.shared = Some(written?);
                self.repaired::<ValidatingWebhookConfiguration>(SHARED, "was deleted");
            }
        }
        Ok(())
    }

    /// Removes what this or another replica has put in force.
    async fn remove(&self) -> kube::Result<()> {
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(self.client.clone());
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(self.client.clone());
        for name in entries::LOCKS {
            if let Some(found) = bindings.get_metadata_opt(name).await?.filter(|found| is_ours(&found.metadata)) {
                delete_exactly(&bindings, &found.metadata).await?;
            }
            if let Some(found) = policies.get_metadata_opt(name).await?.filter(|found| is_ours(&found.metadata)) {
                delete_exactly(&policies, &found.metadata).await?;
            }
        }
        Ok(())
    }

    /// For whom it is unlocked now. Written down before anything is opened.
    async fn grant(&self, rules: &Rules, shared: &ValidatingWebhookConfiguration) -> kube::Result<Option<Granted>> {
        let namespace = &self.service.namespace;
        let subject = guards_own(shared.uid().unwrap_or_default());
        let (before, version) = read_granted(&self.client, namespace).await?;
        let now = Timestamp::now();
        // What cannot be read gives nothing and takes nothing away.
        let Ok(said) = self.cluster.approval(Action::Unlock, &subject).await else { return Ok(None) };
        if said.is_empty() && before.is_empty() {
            return Ok(Some(before));
        }
        let mut granted = still_granted(&before, &said, rules, now);
        for (user, one) in unlocked(&subject, &said, rules, &self.cluster.epoch().await, now) {
            granted.entry(user).or_insert(one);
        }
        if granted == before {
            return Ok(Some(granted));
        }
        let written = write_granted(&self.client, namespace, &granted, version).await;
        // Another replica was first: what it wrote is looked at again.
        if matches!(&written, Err(kube::Error::Api(status)) if status.code == 409) {
            return Ok(None);
        }
        if let Err(error) = written {
            // What cannot be written down is not granted, and what ended has ended.
            warn!(%error, "for whom Tagout is unlocked cannot be written down; trying again");
            granted.retain(|user, one| before.get(user) == Some(one));
            return Ok(Some(granted));
        }
        for unlocked in unlike(&granted, &before) {
            UnlockGranted { unlocked, shared: &subject.uid }.emit(&self.telemetry);
        }
        for unlocked in before.values().filter(|one| !granted.contains_key(&one.requester)) {
            Relocked { unlocked }.emit(&self.telemetry);
        }
        Ok(Some(granted))
    }
}

/// What was not granted like this before: also to who had it already, by other people or until another time.
fn unlike<'a>(granted: &'a Granted, before: &Granted) -> impl Iterator<Item = &'a Unlocked> {
    granted.values().filter(|one| before.get(&one.requester) != Some(*one))
}

fn spec(object: &impl Serialize) -> Value {
    to_value(object).ok().and_then(|mut object| object.get_mut("spec").map(Value::take)).unwrap_or_default()
}

/// With another owner it goes when others want, and with a finalizer it goes and stays.
fn is_owned_alike(found: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    found.owner_references == wanted.owner_references && found.finalizers.iter().flatten().next().is_none()
}

fn is_ours(found: &ObjectMeta) -> bool {
    let mut owners = found.owner_references.iter().flatten();
    owners.any(|owner| owner.kind == "ValidatingWebhookConfiguration" && owner.name == SHARED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_unlocks_again_what_is_just_ending_is_told_of() {
        let now = Timestamp::UNIX_EPOCH;
        let by = |approver: &str, broke_glass| Unlocked {
            requester: "ci".to_owned(),
            approvers: vec![approver.to_owned()],
            broke_glass,
            until: now,
            statements: vec![approver.to_owned()],
        };
        let granted = |one: Unlocked| Granted::from([(one.requester.clone(), one)]);
        let (first, renewed) = (granted(by("alice", false)), granted(by("carol", true)));
        assert_eq!(unlike(&first, &Granted::new()).count(), 1);
        assert_eq!(unlike(&renewed, &first).collect::<Vec<_>>(), [&by("carol", true)]);
        assert_eq!(unlike(&first, &first).count(), 0);
    }
}
