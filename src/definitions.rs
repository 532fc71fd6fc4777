//! Brings Tagout's definitions in a cluster to what this version needs. Helm installs them once and never changes them.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt};
use tagout::api;

/// Who the fields belong to then. One name for all versions: a field that a later one leaves out goes away.
const MANAGER: &str = "tagout-crds";
/// The longest wait for an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait until what is written is also served.
const ESTABLISHING: Duration = Duration::from_mins(1);

pub async fn apply() -> anyhow::Result<()> {
    let mut config = Config::infer().await.context(
        "no API server is configured: run in a pod with a service account, or set KUBECONFIG to a kubeconfig file",
    )?;
    config.connect_timeout = Some(PATIENCE);
    config.read_timeout = Some(PATIENCE);
    let definitions: Api<CustomResourceDefinition> = Api::all(Client::try_from(config)?);

    let wanted = api::crds();
    // All are looked at before one is written: half an upgrade is worse than none.
    let mut versions = Vec::new();
    for crd in &wanted {
        let name = crd.name_any();
        let live = definitions.get_opt(&name).await.map_err(|error| failed("read", &name, &error))?;
        if let Some(live) = &live {
            keeps_what_is_stored(live, crd)?;
        }
        versions.push(live.and_then(|live| live.metadata.resource_version));
    }
    for (crd, before) in wanted.iter().zip(versions) {
        let name = crd.name_any();
        // By force: whoever installed them, Helm or a person, holds fields that this version may need otherwise.
        let parameters = PatchParams::apply(MANAGER).force();
        let written = definitions.patch(&name, &parameters, &Patch::Apply(crd)).await;
        let written = written.map_err(|error| failed("write", &name, &error))?;
        established(&definitions, &name).await?;
        let what = match before {
            None => "created",
            Some(before) if written.metadata.resource_version.as_ref() == Some(&before) => "unchanged",
            Some(_) => "changed",
        };
        println!("{name}: {what}");
    }
    Ok(())
}

/// Objects may be stored in any version that `storedVersions` names; without it they could not be read any more.
fn keeps_what_is_stored(live: &CustomResourceDefinition, wanted: &CustomResourceDefinition) -> anyhow::Result<()> {
    let stored = live.status.as_ref().and_then(|status| status.stored_versions.as_deref()).unwrap_or_default();
    for version in stored {
        if !wanted.spec.versions.iter().any(|known| known.name == *version) {
            bail!(
                "{}: objects may be stored as {version}, which this version of Tagout does not know. Nothing was \
                 changed. Install the version that wrote them, or a newer one",
                live.name_any()
            );
        }
    }
    Ok(())
}

async fn established(definitions: &Api<CustomResourceDefinition>, name: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let live = definitions.get(name).await.map_err(|error| failed("read", name, &error))?;
        let conditions = live.status.and_then(|status| status.conditions).unwrap_or_default();
        let is = |kind: &str, status: &str| {
            conditions.iter().find(|condition| condition.type_ == kind && condition.status == status)
        };
        if is("Established", "True").is_some() {
            return Ok(());
        }
        if let Some(refused) = is("NamesAccepted", "False") {
            let message = refused.message.as_deref().unwrap_or_default();
            bail!("{name} is written but not served: another definition has its names ({})", api::printable(message));
        }
        if started.elapsed() > ESTABLISHING {
            bail!("{name} is written, but the API server did not serve it within {} s", ESTABLISHING.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn failed(what: &str, name: &str, error: &kube::Error) -> anyhow::Error {
    anyhow!("could not {what} {name}: {}", api::printable(&words(error)))
}

/// What the API server says, or what kept it from being asked.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => {
            // What wraps it has a name that tells nobody anything.
            let error: &dyn std::error::Error = if let kube::Error::Service(inner) = error { &**inner } else { error };
            let mut words = error.to_string();
            let mut source = error.source();
            while let Some(deeper) = source {
                let more = deeper.to_string();
                if !words.contains(&more) {
                    words = format!("{words}: {more}");
                }
                source = deeper.source();
            }
            words
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionStatus;

    use super::*;

    #[test]
    fn a_version_in_which_objects_are_stored_is_never_taken_away() {
        for wanted in api::crds() {
            let mut live = wanted.clone();
            let known = live.spec.versions[0].name.clone();
            let mut stored = |versions: &[&str]| {
                live.status = Some(CustomResourceDefinitionStatus {
                    stored_versions: Some(versions.iter().map(|version| (*version).to_owned()).collect()),
                    ..CustomResourceDefinitionStatus::default()
                });
                keeps_what_is_stored(&live, &wanted)
            };
            stored(&[]).unwrap();
            stored(&[&known]).unwrap();
            let error = stored(&[&known, "v9"]).unwrap_err().to_string();
            assert!(error.contains("stored as v9") && error.contains("Nothing was changed"), "{error}");
        }
    }
}
