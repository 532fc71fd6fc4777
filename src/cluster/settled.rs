//! Which rules somebody could meet at one time.
//!
//! Until then whoever sets Tagout up may change a rule and its teams; afterwards that needs approval, whatever becomes
//! of the teams. It stands in a Secret and not on the entries: those may be edited by people who may not do this.

use std::collections::BTreeMap;

use kube::Client;
use serde::{Deserialize, Serialize};

use super::secrets::Place;

const SETTLED: Place = Place { name: "tagout-settled", key: "rules" };

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

/// What is written down, with its version. Absent where nothing ever was, or where it cannot be read: that makes no rule
/// free.
pub async fn read_settled(client: &Client, namespace: &str) -> kube::Result<(Option<SettledRules>, Option<String>)> {
    let found = SETTLED.read(client, namespace).await?;
    Ok(found.map_or((None, None), |found| (found.said, found.version)))
}

pub async fn write_settled(
    client: &Client,
    namespace: &str,
    rules: &SettledRules,
    over: Option<String>,
) -> kube::Result<()> {
    SETTLED.write(client, namespace, rules, over).await.map(drop)
}
