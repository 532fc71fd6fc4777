//! Which rules somebody could meet at one time.
//!
//! Until then whoever sets Tagout up may change a rule and its teams; afterwards that needs approval, whatever becomes
//! of the teams. It stands in a Secret and not on the entries: those may be edited by people who may not do this.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

/// The Secret in Tagout's namespace.
const NAME: &str = "tagout-settled";
const KEY: &str = "rules";

/// The teams by which somebody could meet a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The definition under which the teams were read. When it was deleted they went with it, and nobody was asked.
    pub definition: String,
    /// By the hash of their specs.
    pub teams: BTreeMap<String, String>,
}

/// By the name of the rule.
pub type SettledRules = BTreeMap<String, Settled>;

/// What is written down, with its version; nothing where nothing ever was.
pub async fn read_settled(client: &Client, namespace: &str) -> kube::Result<Option<(SettledRules, Option<String>)>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let Some(secret) = secrets.get_opt(NAME).await? else { return Ok(None) };
    let bytes = secret.data.as_ref().and_then(|data| data.get(KEY));
    let read = bytes.and_then(|bytes| serde_json::from_slice(&bytes.0).ok()).unwrap_or_default();
    Ok(Some((read, secret.metadata.resource_version)))
}

pub async fn write_settled(
    client: &Client,
    namespace: &str,
    rules: &SettledRules,
    over: Option<String>,
) -> kube::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let bytes = serde_json::to_vec(rules).expect("text can be written");
    let mut secret = Secret { data: Some([(KEY.to_owned(), ByteString(bytes))].into()), ..Secret::default() };
    secret.metadata.name = Some(NAME.to_owned());
    secret.metadata.resource_version.clone_from(&over);
    match over {
        Some(_) => secrets.replace(NAME, &PostParams::default(), &secret).await.map(drop),
        None => secrets.create(&PostParams::default(), &secret).await.map(drop),
    }
}
