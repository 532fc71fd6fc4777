//! The API server's part: which entries a request meets, by operations, selectors and conditions.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Env, ExecutionError, Program, Value as Cel};
use k8s_openapi::api::admissionregistration::v1::{
    RuleWithOperations, ValidatingWebhook, ValidatingWebhookConfiguration,
};
use serde_json::{Value, json};

use super::asked::Asked;
use super::captured::may_miss;
use super::selects::Labels;
use super::state::{State, labels};
use crate::entries;

/// Where an entry has the API server ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    Rule(String),
    Beside(String),
    Conditions(String),
    Approvals,
    Loosen,
    Returns,
}

pub(super) struct Entry {
    pub(super) name: String,
    pub(super) path: Path,
    rules: Vec<RuleWithOperations>,
    namespaces: Option<Labels>,
    objects: Option<Labels>,
    conditions: Vec<(String, String)>,
    fails_open: bool,
}

/// Whether a request meets an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Met {
    No,
    Yes,
    Untold(String),
}

/// All entries in force.
pub(super) struct Entries {
    pub(super) all: Vec<Entry>,
}

/// Conditions, each compiled once.
pub(super) struct Conditions {
    environment: Arc<Env>,
    programs: HashMap<String, Option<Program>>,
}

impl Entries {
    pub(super) fn of(state: &State) -> Self {
        let found = state.list("admissionregistration.k8s.io", "validatingwebhookconfigurations", None);
        let own = |name: &str| name == entries::SHARED || entries::rule_name(name).is_some();
        let configurations = found.filter(|(place, _)| own(&place.name)).filter_map(|(_, held)| {
            serde_json::from_value::<ValidatingWebhookConfiguration>(Value::clone(&held.object)).ok()
        });
        Self { all: configurations.flat_map(|one| one.webhooks.unwrap_or_default()).filter_map(Entry::read).collect() }
    }
}

impl Entry {
    pub(super) fn read(webhook: ValidatingWebhook) -> Option<Self> {
        let path = webhook.client_config.service.and_then(|service| service.path).unwrap_or_default();
        let path = match path.split('/').skip(1).collect::<Vec<_>>()[..] {
            ["v1", "rules", rule] => Path::Rule(rule.to_owned()),
            ["v1", "rules", rule, "beside"] => Path::Beside(rule.to_owned()),
            ["v1", "rules", rule, "conditions"] => Path::Conditions(rule.to_owned()),
            ["v1", "approvals"] => Path::Approvals,
            ["v1", "loosen"] => Path::Loosen,
            ["v1", "returns"] => Path::Returns,
            _ => return None,
        };
        let conditions = webhook.match_conditions.unwrap_or_default();
        Some(Self {
            name: webhook.name,
            path,
            rules: webhook.rules.unwrap_or_default(),
            namespaces: Labels::of(&webhook.namespace_selector.unwrap_or_default()),
            objects: Labels::of(&webhook.object_selector.unwrap_or_default()),
            conditions: conditions.into_iter().map(|one| (one.name, one.expression)).collect(),
            fails_open: webhook.failure_policy.as_deref() == Some("Ignore"),
        })
    }

    /// The rule it belongs to.
    pub(super) fn rule(&self) -> Option<&str> {
        match &self.path {
            Path::Rule(rule) | Path::Beside(rule) | Path::Conditions(rule) => Some(rule),
            // A rule's entry about returns says so in its name alone.
            _ => self.name.strip_prefix("return.")?.strip_suffix(".tagout.dev"),
        }
    }

    /// Whether it is about requests of this sort at all.
    pub(super) fn is_about(&self, operation: &str, group: &str, plural: &str, subresource: &str) -> bool {
        // Nobody guards what says who guards.
        group != "admissionregistration.k8s.io"
            && self.rules.iter().any(|rule| {
                let has = |list: &Option<Vec<String>>, wanted: &str| {
                    list.iter().flatten().any(|one| one == "*" || one == wanted)
                };
                has(&rule.operations, operation)
                    && has(&rule.api_groups, group)
                    && rule.resources.iter().flatten().any(|one| names(one, plural, subresource))
            })
    }

    /// Whether a namespace is one that it selects. Nothing is known of one that was never seen.
    pub(super) fn selects_namespace(&self, asked: &Asked, state: &State) -> Met {
        let Some(selector) = &self.namespaces else {
            return Met::Untold(format!("the namespace selector of {} is not known", self.name));
        };
        if selector.selects_all() {
            return Met::Yes;
        }
        let is_namespace = asked.place.group.is_empty() && asked.place.plural == "namespaces";
        let labels = match &asked.object {
            // Of a namespace that is made or changed, the labels that it is to have.
            Some(object) if is_namespace && asked.subresource.is_empty() => Some(labels(object)),
            _ if is_namespace => state.labels(&asked.place.name),
            _ if asked.place.namespace.is_empty() => return Met::Yes,
            _ => state.labels(&asked.place.namespace),
        };
        match labels {
            Some(labels) if selector.matches(&labels) => Met::Yes,
            Some(_) => Met::No,
            None => Met::Untold("the log does not show the labels of its namespace".to_owned()),
        }
    }

    /// Whether it could be about what was left by a request of which no more is known. An approval is presented by a label.
    pub(super) fn may_be_about(&self, left: Option<&Value>) -> bool {
        let selects = |selector: &Labels| left.is_none_or(|left| selector.matches(&labels(left)));
        self.path != Path::Approvals || self.objects.as_ref().is_none_or(selects)
    }

    pub(super) fn met(&self, asked: &Asked, state: &State, conditions: &mut Conditions) -> Met {
        match self.selects_namespace(asked, state) {
            Met::Yes => {}
            other => return other,
        }
        let Some(selector) = &self.objects else {
            return Met::Untold(format!("the object selector of {} is not known", self.name));
        };
        let chosen = |object: &Option<Value>| object.as_ref().is_some_and(|object| selector.matches(&labels(object)));
        if !selector.selects_all() && !chosen(&asked.object) && !chosen(&asked.old) {
            return Met::No;
        }
        self.conditions_hold(asked, conditions)
    }

    /// One that is false wins over what another cannot say, as with the API server.
    fn conditions_hold(&self, asked: &Asked, conditions: &mut Conditions) -> Met {
        if self.conditions.is_empty() {
            return Met::Yes;
        }
        let context = conditions.context(asked);
        let mut unclear = None;
        // What Tagout's own conditions read is always written down.
        let misses = |expression: &str| {
            let condition = entries::authors(expression);
            let objects = [&asked.object, &asked.old].into_iter().flatten();
            condition.is_some_and(|condition| objects.into_iter().any(|object| may_miss(object, condition)))
        };
        for (name, expression) in &self.conditions {
            let evaluated =
                if misses(expression) { Err(Fault::Unknown) } else { conditions.evaluate(expression, &context) };
            match evaluated {
                Ok(true) => {}
                Ok(false) => return Met::No,
                // The API server then does not ask, where the entry says so.
                Err(Fault::AtRunTime) if self.fails_open => unclear = unclear.or(Some(Met::No)),
                Err(_) => {
                    let rule = self.rule().map_or_else(|| self.name.clone(), |rule| format!("rule {rule}"));
                    unclear = Some(Met::Untold(format!("condition {name} of {rule} cannot be evaluated here")));
                }
            }
        }
        unclear.unwrap_or(Met::Yes)
    }
}

enum Fault {
    /// It is not understood at all.
    Unknown,
    /// It fails on this object.
    AtRunTime,
}

impl Conditions {
    pub(super) fn new() -> Self {
        Self { environment: Arc::new(Env::stdlib()), programs: HashMap::new() }
    }

    fn context(&self, asked: &Asked) -> Context<'static, 'static> {
        let mut context = Context::with_env(Arc::clone(&self.environment));
        let request = json!({
            "operation": asked.operation,
            "name": asked.place.name,
            "namespace": asked.place.namespace,
            "resource": {"group": asked.place.group, "version": asked.version, "resource": asked.place.plural},
            "subResource": asked.subresource,
            "dryRun": asked.dry_run,
            "userInfo": {"username": asked.user.username, "groups": asked.user.groups},
        });
        let null = Value::Null;
        for (name, value) in [
            ("object", asked.object.as_ref().unwrap_or(&null)),
            ("oldObject", asked.old.as_ref().unwrap_or(&null)),
            ("request", &request),
        ] {
            // What cannot be bound is not there, and every condition that names it fails.
            context.add_variable(name, value).ok();
        }
        context
    }

    fn evaluate(&mut self, expression: &str, context: &Context<'_, '_>) -> Result<bool, Fault> {
        if !self.programs.contains_key(expression) {
            self.programs.insert(expression.to_owned(), self.environment.compile(expression).ok());
        }
        let Some(Some(program)) = self.programs.get(expression) else { return Err(Fault::Unknown) };
        match program.execute(context) {
            Ok(Cel::Bool(holds)) => Ok(holds),
            Err(ExecutionError::NoSuchKey(_)) => Err(Fault::AtRunTime),
            _ => Err(Fault::Unknown),
        }
    }
}

/// Like `pods`, `pods/eviction`, `*/scale`, `*` or `*/*`.
fn names(pattern: &str, plural: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        None => subresource.is_empty() && (pattern == "*" || pattern == plural),
        // `*/*` is whatever there is; `pods/*` are the parts of pods, and not pods.
        Some(("*", "*")) => true,
        Some((own, part)) => {
            (own == "*" || own == plural) && !subresource.is_empty() && (part == "*" || part == subresource)
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::ProtectionRule;
    use crate::cli::preview::events::User;
    use crate::cli::preview::state::Place;

    #[rstest]
    #[case("pods", "pods", "", true)]
    #[case("pods", "pods", "status", false)]
    #[case("pods/*", "pods", "status", true)]
    #[case("pods/*", "pods", "", false)]
    #[case("*", "pods", "", true)]
    #[case("*", "pods", "status", false)]
    #[case("*/*", "pods", "", true)]
    #[case("*/scale", "deployments", "scale", true)]
    #[case("*/scale", "deployments", "status", false)]
    fn a_resource_is_named_as_the_api_server_reads_it(
        #[case] pattern: &str,
        #[case] plural: &str,
        #[case] subresource: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(names(pattern, plural, subresource), expected);
    }

    /// Every action, with exceptions, a selector and a condition.
    fn rule() -> ProtectionRule {
        serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": {
            "resources": [
                {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"]},
                {"apiGroups": [""], "resources": ["pods", "secrets", "persistentvolumeclaims"]},
                {"apiGroups": ["batch"], "resources": ["jobs"]},
                {"apiGroups": ["example.com"], "resources": ["toys"]},
            ],
            "namespaceSelector": {"matchLabels": {"e": "p"}}, "objectSelector": {"matchLabels": {"l": "x"}},
            "except": [{"name": "pre-*"}, {"annotation": "helm.sh/hook"}],
            "actions": ["Delete", "Recreate", "ScaleToZero", "Evict", "Reparent", "Finalize", "DiscardData", "Unprotect"],
            "matchConditions": [{"name": "tier", "expression": "object.metadata.?labels['tier'].orValue('') != 'batch'"}],
            "approval": {"require": [{"anyOf": ["t"]}]}}}))
        .unwrap()
    }

    fn entries(rule: &ProtectionRule) -> Vec<Entry> {
        let place = entries::Place { namespace: "tagout-system".to_owned(), ..entries::Place::default() };
        let owners = [entries::Kind { group: "example.com".to_owned(), resource: "shops".to_owned() }];
        let own = entries::compile(rule, &owners, &place).webhooks.unwrap();
        own.into_iter().chain(entries::shared(&place)).filter_map(Entry::read).collect()
    }

    #[test]
    fn every_condition_of_every_entry_is_understood_here() {
        let mut conditions = Conditions::new();
        for entry in entries(&rule()) {
            for (name, expression) in &entry.conditions {
                let object = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "n", "labels": {}}, "spec": {"versions": []}});
                let asked = asked("UPDATE", Some(object.clone()), Some(object));
                let context = conditions.context(&asked);
                let evaluated = conditions.evaluate(expression, &context);
                assert!(!matches!(evaluated, Err(Fault::Unknown)), "{}: {name}: {expression}", entry.name);
            }
        }
    }

    fn asked(operation: &'static str, object: Option<Value>, old: Option<Value>) -> Asked {
        let place =
            Place { group: "apps".into(), plural: "deployments".into(), namespace: "n".into(), name: "api".into() };
        Asked {
            id: "i".to_owned(),
            operation,
            place,
            version: "v1".to_owned(),
            subresource: String::new(),
            title: "Deployment".to_owned(),
            object,
            old,
            user: User::default(),
            dry_run: false,
            field_manager: String::new(),
            assumed: false,
        }
    }

    fn deployment(change: &Value) -> Value {
        let mut object = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "api", "labels": {"l": "x"}},
            "spec": {"replicas": 2}});
        json_patch::merge(&mut object, change);
        object
    }

    #[rstest]
    #[case::a_deletion("DELETE", None, json!({}), "delete")]
    #[case::going("DELETE", None, json!({"metadata": {"deletionTimestamp": "2026-11-22T10:00:00Z"}}), "")]
    #[case::excepted("DELETE", None, json!({"metadata": {"name": "pre-1"}}), "")]
    #[case::another_label("DELETE", None, json!({"metadata": {"labels": {"l": "y"}}}), "")]
    #[case::condition("DELETE", None, json!({"metadata": {"labels": {"tier": "batch"}}}), "")]
    #[case::routine("UPDATE", Some(json!({"spec": {"replicas": 1}})), json!({}), "")]
    #[case::to_zero("UPDATE", Some(json!({"spec": {"replicas": 0}})), json!({}), "change")]
    #[case::leaving("UPDATE", Some(json!({"metadata": {"labels": {"l": null}}})), json!({}), "change")]
    #[case::condition_made_false("UPDATE", Some(json!({"metadata": {"labels": {"tier": "batch"}}})), json!({}), "conditions")]
    #[case::a_finalizer_is_taken("UPDATE", Some(json!({})), json!({"metadata": {"finalizers": ["f"]}}), "change")]
    fn a_request_meets_the_entries_that_the_api_server_would_call(
        #[case] operation: &'static str,
        #[case] new: Option<Value>,
        #[case] old: Value,
        #[case] expected: &str,
    ) {
        let mut state = State::default();
        let place = Place { plural: "namespaces".into(), name: "n".into(), ..Place::default() };
        state.put(place, json!({"metadata": {"labels": {"e": "p"}}}), false);
        let asked = asked(operation, new.map(|change| deployment(&change)), Some(deployment(&old)));
        let mut conditions = Conditions::new();
        let met = entries(&rule()).into_iter().filter(|entry| {
            entry.is_about(operation, "apps", "deployments", "")
                && entry.met(&asked, &state, &mut conditions) == Met::Yes
        });
        let prefixes: Vec<String> =
            met.map(|entry| entry.name.split('.').next().unwrap_or_default().to_owned()).collect();
        assert_eq!(prefixes.join(" "), expected);
    }
}
