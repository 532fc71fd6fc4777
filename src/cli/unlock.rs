//! `kubectl tagout unlock`: lets a user change what makes Tagout work, for a time.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use jiff::SignedDuration;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingWebhookConfiguration};
use kube::Api;
use kube::api::DeleteParams;
use tokio::time::{Instant, sleep};

use super::approve::{self, life};
use super::cluster::plain;
use super::connection::{Cluster, Connection};
use super::object::GUARD;
use super::words::{printable, say};
use crate::api::{Action, Approval, approval_name};
use crate::entries::{LOCKS, SHARED};
use crate::guard::may_be_unlocked_for;

/// Let a user change what makes Tagout work, for a time: to upgrade it, or to uninstall it
///
/// While a rule that enforces names the action Unlock, nobody changes Tagout's own configurations, its roles, or what runs
/// in its namespace. This approves that one user does. It ends by itself, and earlier with --end.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    kubectl tagout unlock --requester ci-deployer --for 20m --reason \"upgrade to 1.3\"\n  \
    kubectl tagout unlock --end")]
pub struct Options {
    /// The user who is to change it, as kubectl auth whoami shows them
    #[arg(long, value_name = "USER", required_unless_present = "end")]
    pub requester: Option<String>,
    /// For how long, at most an hour
    #[arg(long = "for", value_name = "DURATION", value_parser = life, default_value = "30m")]
    pub life: SignedDuration,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The team in whose name you approve; default: the first that a rule asks for and you are in
    #[arg(long, value_name = "TEAM")]
    pub team: Option<String>,
    /// An emergency: pass the rules alone, for a team that they name for it; everybody is told
    #[arg(long, requires = "reason")]
    pub break_glass: bool,
    /// Sign it with an SSH key; is done without asking where a rule wants a signature
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub sign: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Lock it again, for everybody
    #[arg(long, conflicts_with_all = ["requester", "break_glass", "sign", "team", "reason"])]
    pub end: bool,
}

/// Replicas look every five seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// API servers hear of a changed policy each by itself, within a second or two.
const EVERYWHERE: Duration = Duration::from_secs(3);

pub async fn run(options: Options, connection: &Connection) -> anyhow::Result<()> {
    if options.end {
        return end(&connection.open().await?).await;
    }
    let requester = options.requester.clone().unwrap_or_default();
    ensure!(
        may_be_unlocked_for(&requester),
        "Tagout is not unlocked for {requester:?}, which is one of Kubernetes' own; name the user who is to change it"
    );
    approve::run(approve::Options::unlocking(options), connection).await?;
    wait(&requester, &connection.open().await?).await
}

/// Until the API server would let it pass.
async fn wait(requester: &str, at: &Cluster) -> anyhow::Result<()> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(at.client.clone());
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match policies.get_opt(LOCKS[0]).await {
            Ok(Some(policy)) if lets(&policy, requester) => {
                sleep(EVERYWHERE).await;
                return say(&printable(&format!("unlocked for {requester}\n")));
            }
            Ok(None) => return say("nothing is locked: there is no policy that keeps Tagout as it is\n"),
            Ok(Some(_)) => sleep(Duration::from_secs(1)).await,
            Err(_) => break,
        }
    }
    say("it is unlocked within ten seconds if nothing is missing above, and Tagout is running: kubectl tagout status\n")
}

fn lets(policy: &ValidatingAdmissionPolicy, requester: &str) -> bool {
    let variables = policy.spec.iter().flat_map(|spec| spec.variables.iter().flatten());
    let quoted = serde_json::Value::from(requester).to_string();
    variables.filter(|variable| variable.name == "unlocked").any(|variable| variable.expression.contains(&quoted))
}

async fn end(at: &Cluster) -> anyhow::Result<()> {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(at.client.clone());
    let shared = configurations.get_metadata(SHARED).await.map_err(plain)?;
    let uid = shared.metadata.uid.unwrap_or_default();
    let approvals: Api<Approval> = Api::all(at.client.clone());
    let name = approval_name(Action::Unlock, GUARD, "", SHARED, &uid);
    match approvals.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => say("it was not unlocked\n"),
        ended => {
            ended.map_err(plain)?;
            say("locked again within ten seconds\n")
        }
    }
}
