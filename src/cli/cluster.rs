//! What a cluster says of itself: its rules, its time, and who is asking.

use anyhow::{Context, anyhow};
use http::Request;
use http::header::DATE;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Client, ResourceExt};

use crate::api::{ApproverTeam, ProtectionRule, SYSTEM_PREFIX};
use crate::guard::{Rule, Rules};

/// The rules and teams of a cluster.
pub struct Protection {
    /// As the guard evaluates them.
    pub rules: Rules,
    /// As they are written; those that cannot be read are in [`Rules::rules`] only, with the reason.
    pub written: Vec<ProtectionRule>,
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
    rules.teams = teams.into_iter().filter_map(|team| team.0.ok()).map(|team| (team.name_any(), team.spec)).collect();
    let status = |rule: &ProtectionRule| rule.status.as_ref()?.cluster.clone();
    rules.cluster = written.iter().find_map(status).unwrap_or_default();
    Ok(Protection { rules, written })
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
