//! What the API server itself says of a rule, and of what it would be compiled to. Nothing is kept: dry runs alone.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::Status;
use kube::{Api, Client, CustomResourceExt};
use serde_json::Value;

use super::faults::Fault;
use crate::api::ProtectionRule;
use crate::entries;

/// What became of a trial.
#[derive(Debug)]
pub(super) enum Trial {
    /// Nobody asked the API server, and why.
    Here,
    NotAllowed(String),
    Passed,
    Faulty(Vec<Fault>),
}

impl Trial {
    pub(super) fn faults(&self) -> &[Fault] {
        if let Self::Faulty(faults) = self { faults } else { &[] }
    }
}

/// Under no name that anything has, or that Tagout would keep others from.
const NAME: &str = "preview-of";

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// Whether the API server takes the rule as it is written.
pub(super) async fn rule(client: &Client, document: &Value) -> Trial {
    let resource = ProtectionRule::api_resource();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource { ..resource });
    let Ok(object) = serde_json::from_value::<DynamicObject>(document.clone()) else { return Trial::Here };
    judged(api.create(&dry_run(), &object).await, |cause| cause)
}

/// Whether it takes what the rule is compiled to: conditions as their author wrote them, then all of it.
pub(super) async fn entry(client: &Client, rule: &ProtectionRule, own_namespace: &str) -> Trial {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let place = entries::Place {
        namespace: own_namespace.to_owned(),
        service: entries::SHARED.to_owned(),
        port: 443,
        ..entries::Place::default()
    };
    let trials = entries::trial(rule, &place).into_iter().chain([entries::compile(rule, &[], &place)]);
    for mut configuration in trials {
        configuration.metadata.name = Some(format!("{NAME}-{}", rule.metadata.name.as_deref().unwrap_or_default()));
        configuration.metadata.owner_references = None;
        configuration.metadata.labels = None;
        configuration.metadata.annotations = None;
        let own = |at: Fault| Fault { at: at.at.replacen("webhooks[0].", "spec.", 1), ..at };
        match judged(api.create(&dry_run(), &configuration).await, own) {
            Trial::Passed => {}
            other => return other,
        }
    }
    Trial::Passed
}

fn judged<T>(result: kube::Result<T>, place: impl Fn(Fault) -> Fault) -> Trial {
    match result {
        Ok(_) => Trial::Passed,
        // Both come after everything that is to be checked.
        Err(kube::Error::Api(status)) if status.code == 409 => Trial::Passed,
        Err(kube::Error::Api(status)) if status.message.contains(".tagout.dev\" denied the request: ") => Trial::Passed,
        Err(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => {
            Trial::Faulty(faults(&status).into_iter().map(place).collect())
        }
        Err(kube::Error::Api(status)) => Trial::NotAllowed(status.message.clone()),
        Err(error) => Trial::NotAllowed(error.to_string()),
    }
}

fn faults(status: &Status) -> Vec<Fault> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut faults: Vec<Fault> = causes.map(|cause| fault(&cause.field, &cause.message)).collect();
    faults.dedup();
    if faults.is_empty() {
        faults.push(Fault { at: String::new(), what: status.message.clone() });
    }
    faults
}

/// Of what CEL's compiler says, the line and column belong to the place.
fn fault(field: &str, message: &str) -> Fault {
    let pointed = message.split_once("ERROR: <input>:").and_then(|(_, rest)| {
        let (line, rest) = rest.split_once(':')?;
        let (column, rest) = rest.split_once(':')?;
        let (line, column): (u32, u32) = (line.parse().ok()?, column.parse().ok()?);
        let what = rest.lines().next().unwrap_or_default().trim();
        Some(Fault { at: format!("{field}, line {line}, column {column}"), what: what.to_owned() })
    });
    pointed.unwrap_or_else(|| Fault { at: field.to_owned(), what: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiler_points_at_is_part_of_the_place() {
        let said = "Invalid value: \"nobody\": compilation failed: ERROR: <input>:2:7: undeclared reference to 'nobody' (in \
                    container '')\n | nobody\n | ^";
        let found = fault("spec.matchConditions[0].expression", said);
        assert_eq!(found.at, "spec.matchConditions[0].expression, line 2, column 7");
        assert_eq!(found.what, "undeclared reference to 'nobody' (in container '')");
        assert_eq!(fault("spec.x", "Required value").at, "spec.x");
    }
}
