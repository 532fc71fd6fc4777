//! What a cluster says of itself: its rules, its time, and who is asking.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use http::Request;
use http::header::DATE;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Client, ResourceExt};

use super::kinds::Kinds;
use crate::api::{ApproverTeam, ProtectionRule, SYSTEM_PREFIX};
use crate::entries;
use crate::guard::{Epoch, Rule, Rules, Team, nobody_can_satisfy};

/// A cluster as it is when a person asks, and the person.
pub struct Setting {
    pub kinds: Kinds,
    pub protection: Protection,
    pub caller: Caller,
    pub now: Timestamp,
}

impl Setting {
    pub async fn read(client: &Client) -> anyhow::Result<Self> {
        let (kinds, mut protection, caller, now) = tokio::try_join!(
            async { Kinds::discover(client).await.map_err(plain) },
            protection(client),
            caller(client),
            now(client)
        )?;
        protection.settle(now);
        Ok(Self { kinds, protection, caller, now })
    }

    /// What is asked of rules alone, by whomever.
    pub async fn of_rules(client: &Client) -> anyhow::Result<Self> {
        let (mut protection, now) = tokio::try_join!(protection(client), now(client))?;
        protection.settle(now);
        let caller = Caller { name: String::new(), groups: Vec::new() };
        Ok(Self { kinds: Kinds::default(), protection, caller, now })
    }

    pub fn rules(&self) -> &Rules {
        &self.protection.rules
    }
}

/// The rules and teams of a cluster.
pub struct Protection {
    /// As the guard evaluates them.
    pub rules: Rules,
    /// As they are written; those that cannot be read are in [`Rules::rules`] only, with the reason.
    pub written: Vec<ProtectionRule>,
    /// Teams that are there and cannot be read, with the reason. To the guard they are not there.
    pub unreadable_teams: BTreeMap<String, String>,
    /// What approvals with proof Identity have to name, as the status of rules says.
    pub epoch: Option<String>,
}

impl Protection {
    /// Says of each rule whether its change needs approval. What the guard itself knows of that stands in the entries,
    /// which some people cannot read; asking for one approval too many does no harm.
    fn settle(&mut self, now: Timestamp) {
        let Rules { rules, teams, .. } = &mut self.rules;
        for (name, rule) in rules.iter_mut() {
            let Ok(rule) = rule else { continue };
            let written = self.written.iter().find(|written| written.name_any() == *name);
            let is = |type_: &str| {
                written
                    .and_then(|written| condition(written, type_))
                    .is_some_and(|condition| condition.status == "True")
            };
            // What was lost is still in force.
            if written.is_none() || is("Enforced") || is("Approvable") || nobody_can_satisfy(rule, teams, now).is_none()
            {
                rule.settled = Some(BTreeMap::new());
            }
        }
    }

    pub fn epoch(&self) -> Epoch {
        let none = || Epoch::None("Tagout still makes sure that nobody can plant approvals".to_owned());
        self.epoch.clone().map_or_else(none, Epoch::Current)
    }
}

/// What is said of this version of a rule; what was said of an earlier one tells nothing.
pub fn condition<'r>(rule: &'r ProtectionRule, type_: &str) -> Option<&'r Condition> {
    let conditions = &rule.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.observed_generation == rule.metadata.generation)
}

/// Who is asking, as the API server knows them.
pub struct Caller {
    pub name: String,
    /// Without those that are Kubernetes' own, in which nobody approves.
    pub groups: Vec<String>,
}

pub async fn protection(client: &Client) -> anyhow::Result<Protection> {
    let all = ListParams::default();
    let rules: Api<DeserializeGuard<ProtectionRule>> = Api::all(client.clone());
    let teams: Api<DeserializeGuard<ApproverTeam>> = Api::all(client.clone());
    let (read, teams) = tokio::try_join!(rules.list(&all), teams.list(&all)).map_err(not_installed)?;

    let mut rules = Rules::default();
    let mut written = Vec::new();
    for rule in read {
        match rule.0 {
            Ok(rule) => {
                rules.rules.insert(rule.name_any(), Rule::read(&rule.name_any(), &rule.spec));
                written.push(rule);
            }
            Err(InvalidObject { error, metadata }) => {
                rules.rules.insert(metadata.name.unwrap_or_default(), Err(error));
            }
        }
    }
    let mut unreadable_teams = BTreeMap::new();
    for team in teams {
        match team.0 {
            Ok(team) => drop(rules.teams.insert(team.name_any(), Team::read(team.spec))),
            Err(InvalidObject { error, metadata }) => {
                unreadable_teams.insert(metadata.name.unwrap_or_default(), error);
            }
        }
    }
    read_entries(client, &mut rules).await?;
    let status = |rule: &ProtectionRule| rule.status.as_ref()?.cluster.clone();
    rules.cluster = written.iter().find_map(status).unwrap_or_default();
    let epoch = written.iter().find_map(|rule| rule.status.as_ref()?.epoch.clone());
    Ok(Protection { rules, written, unreadable_teams, epoch })
}

/// Puts the rules in force in the place of those that are written, where the caller may read their entries.
async fn read_entries(client: &Client, rules: &mut Rules) -> anyhow::Result<()> {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let found = match configurations.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(()),
        found => found.map_err(plain)?,
    };
    for configuration in found {
        let Some(origin) = entries::origin(&configuration) else { continue };
        let configuration = configuration.name_any();
        let Some(name) = entries::rule_name(&configuration) else { continue };
        rules.rules.insert(name.to_owned(), origin.spec.and_then(|spec| Rule::read(name, &spec)));
    }
    Ok(())
}

pub async fn caller(client: &Client) -> anyhow::Result<Caller> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let user = review.map_err(plain)?.status.and_then(|status| status.user_info).unwrap_or_default();
    let groups = user.groups.unwrap_or_default();
    Ok(Caller {
        name: user.username.context("the API server does not say who you are; see kubectl auth whoami")?,
        groups: groups.into_iter().filter(|group| !group.starts_with(SYSTEM_PREFIX)).collect(),
    })
}

/// The API server's time: a laptop's clock decides nothing, unless a proxy takes the header away.
pub async fn now(client: &Client) -> anyhow::Result<Timestamp> {
    let request = Request::get("/version").body(Body::empty())?;
    let response = client.send(request).await.map_err(plain)?;
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
    let time = date.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    Ok(time.unwrap_or_else(Timestamp::now))
}

fn not_installed(error: kube::Error) -> anyhow::Error {
    match &error {
        // A group that nobody ever defined is answered without a reason.
        kube::Error::Api(status) if status.code == 404 => anyhow!(
            "Tagout is not installed in this cluster: it knows no ProtectionRules; check --context, or install the chart"
        ),
        kube::Error::Api(status) if status.is_forbidden() => anyhow!(
            "{}; ask an administrator for get and list on protectionrules and approverteams (tagout.dev)",
            status.message
        ),
        _ => plain(error),
    }
}

/// An error in the API server's own words, without the client's.
pub fn plain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            anyhow!("the API server does not know you; check your credentials with kubectl auth whoami")
        }
        kube::Error::Api(status) => anyhow!("{}", status.message),
        kube::Error::Service(error) => {
            let error = anyhow::Error::from_boxed(error);
            anyhow!("cannot reach the API server ({}); check --server and --context", error.root_cause())
        }
        error => error.into(),
    }
}
