//! The entries of one rule: what it names, and what else would destroy that.

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, RuleWithOperations, ValidatingWebhook};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::selector::selects;
use super::{Place, as_stored, conditions, outside, returns, rule, webhook};
use crate::actions::{self, discard_data, finalize, scale_to_zero, unprotect};
use crate::api::{Action, Mode, ProtectionRuleSpec, RuleFailurePolicy};

/// An owner's kind, as a webhook rule names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub group: String,
    pub resource: String,
}

/// How the API server asks: by an entry that has looked at the object itself, or by one that could not.
const BESIDE: &str = "/beside";
const CONDITIONS: &str = "/conditions";

struct Rule<'a> {
    name: &'a str,
    spec: &'a ProtectionRuleSpec,
    place: &'a Place,
}

pub(super) fn webhooks(
    name: &str,
    spec: &ProtectionRuleSpec,
    owners: &[Kind],
    place: &Place,
) -> Vec<ValidatingWebhook> {
    let rule = Rule { name, spec, place };
    let mut all: Vec<ValidatingWebhook> = rule.deletion().into_iter().collect();
    all.extend(rule.claims());
    all.extend(rule.changes());
    all.extend(rule.conditions());
    all.extend(rule.scale());
    all.extend(rule.replica_sets());
    all.extend(rule.evictions());
    all.extend(rule.namespaces());
    all.extend(rule.contents());
    all.extend(rule.definitions());
    all.extend(rule.volumes());
    all.extend(rule.owners(owners));
    all.extend(rule.returns(owners));
    all
}

/// What is asked beside what the rule names, for its status.
pub fn also_asks_about(spec: &ProtectionRuleSpec, owners: &[Kind]) -> Vec<String> {
    let place = Place::default();
    let rule = Rule { name: "", spec, place: &place };
    let guards = |action: Action| spec.actions.contains(&action);
    let mut said = Vec::new();
    let mut say = |is: bool, what: &str| said.extend(is.then(|| what.to_owned()));
    say(rule.contents().is_some(), "deletion of its namespaces");
    say(rule.namespaces().is_some(), "labels and finalizers of its namespaces");
    say(rule.evictions().is_some(), "eviction of its pods");
    say(rule.scale().is_some(), "scale of its workloads");
    say(rule.replica_sets().is_some(), "ReplicaSets of its Deployments");
    say(!rule.definitions().is_empty(), "definitions of its kinds");
    say(!rule.volumes().is_empty(), "volumes of its claims");
    say(rule.returns(owners).is_some(), "creation of its kinds");
    for owner in owners {
        say(
            guards(Action::Delete),
            &format!("deletion of {}, found as owners", crate::api::kind_name(&owner.group, &owner.resource)),
        );
    }
    said
}

impl Rule<'_> {
    fn guards(&self, action: Action) -> bool {
        self.spec.actions.contains(&action)
    }

    fn names(&self, group: &str, resource: &str) -> bool {
        self.spec.resources.iter().any(|named| {
            named.api_groups.iter().any(|own| own == group) && named.resources.iter().any(|own| own == resource)
        })
    }

    /// Whether it chooses single objects: then what is asked beside them is asked about everything there is.
    fn chooses_objects(&self) -> bool {
        as_stored(&self.spec.object_selector) != LabelSelector::default()
    }

    /// An entry about what the rule names, as the API server evaluates it.
    fn entry(&self, prefix: &str, rules: Vec<RuleWithOperations>, only: Vec<MatchCondition>) -> ValidatingWebhook {
        let Self { name, spec, place } = self;
        let mut all = only;
        if self.chooses_objects() {
            // The API server also looks at the labels that an update would leave.
            all.push(own("selected", selects(&as_stored(&spec.object_selector), STANDING)));
        }
        if !spec.except.is_empty() {
            all.push(own("except", conditions::not_excepted(&spec.except)));
        }
        all.extend(spec.match_conditions.iter().map(|one| MatchCondition {
            name: one.name.clone(),
            expression: conditions::bound(name, &one.name, &one.expression),
        }));
        ValidatingWebhook {
            rules: Some(rules),
            namespace_selector: Some(outside(&place.namespace, &spec.namespace_selector)),
            object_selector: Some(as_stored(&spec.object_selector)),
            match_conditions: Some(all),
            failure_policy: Some(self.failure_policy()),
            ..webhook(&format!("{prefix}.{name}.tagout.dev"), format!("/v1/rules/{name}"), place)
        }
    }

    /// An entry about something beside what the rule names, of which only the namespace can be told.
    fn beside(&self, prefix: &str, rules: Vec<RuleWithOperations>, only: &str) -> ValidatingWebhook {
        let Self { name, spec, place } = self;
        ValidatingWebhook {
            rules: Some(rules),
            namespace_selector: Some(outside(&place.namespace, &spec.namespace_selector)),
            match_conditions: Some(vec![own(prefix, only.to_owned())]),
            failure_policy: Some(self.failure_policy()),
            ..webhook(&format!("{prefix}.{name}.tagout.dev"), format!("/v1/rules/{name}{BESIDE}"), place)
        }
    }

    fn failure_policy(&self) -> String {
        match (self.spec.mode, self.spec.failure_policy) {
            (Mode::Enforce, RuleFailurePolicy::Fail) => "Fail",
            // A rule that would refuse nothing must not refuse because Tagout is away.
            (Mode::Audit | Mode::Warn, _) | (_, RuleFailurePolicy::Ignore) => "Ignore",
        }
        .to_owned()
    }

    /// With Tagout away, what concerns a few objects that could be anywhere must not stop everything everywhere.
    fn open_where_it_asks_about_everything(&self, entry: ValidatingWebhook) -> ValidatingWebhook {
        if self.chooses_objects() {
            ValidatingWebhook { failure_policy: Some("Ignore".into()), ..entry }
        } else {
            entry
        }
    }

    fn deletion(&self) -> Option<ValidatingWebhook> {
        let named = |one: &crate::api::ResourceRule| rule(&["DELETE"], &one.api_groups, &one.resources);
        let mut only = vec![own("not-terminating", NOT_TERMINATING.to_owned())];
        if self.names("", "persistentvolumeclaims") {
            only.push(own("not-ephemeral", conditions::NOT_EPHEMERAL.to_owned()));
        }
        if self.names("batch", "jobs") {
            only.push(own("not-over", conditions::NOT_A_JOB_WHOSE_TIME_IS_OVER.to_owned()));
        }
        if self.names("", "pods") && self.spec.owned != crate::api::Owned::Include {
            only.push(own("not-controlled", conditions::NOT_A_CONTROLLED_POD.to_owned()));
        }
        let entry = || self.entry("delete", self.spec.resources.iter().map(named).collect(), only);
        match (self.guards(Action::Delete), self.guards(Action::Recreate)) {
            (true, _) => Some(entry()),
            // What is only remembered is refused by nobody.
            (false, true) => Some(ValidatingWebhook { failure_policy: Some("Ignore".into()), ..entry() }),
            (false, false) => None,
        }
    }

    /// What may be a return of something that was destroyed. By which labels that was chosen does not matter now: another
    /// label is no escape.
    fn returns(&self, owners: &[Kind]) -> Option<ValidatingWebhook> {
        let Self { name, spec, place } = self;
        let creations = |groups: &[String], resources: &[String]| rule(&["CREATE"], groups, resources);
        let mut rules: Vec<_> = spec.resources.iter().map(|one| creations(&one.api_groups, &one.resources)).collect();
        let kinds = owners.iter();
        rules.extend(
            kinds.map(|kind| creations(std::slice::from_ref(&kind.group), std::slice::from_ref(&kind.resource))),
        );
        let mut only = vec![own("not-made-by-kubernetes", conditions::NOT_MADE_BY_KUBERNETES.to_owned())];
        if self.names("", "pods") && spec.owned != crate::api::Owned::Include {
            only.push(own("not-controlled", conditions::NOT_BORN_CONTROLLED.to_owned()));
        }
        // A name is the same for whatever returns under it; an annotation is not.
        let by_name: Vec<_> = spec.except.iter().filter(|one| one.annotation.is_none()).cloned().collect();
        if !by_name.is_empty() {
            only.push(own("except", conditions::not_excepted_now(&by_name)));
        }
        self.guards(Action::Recreate).then(|| ValidatingWebhook {
            rules: Some(rules),
            namespace_selector: Some(outside(&place.namespace, &spec.namespace_selector)),
            match_conditions: Some(only),
            ..returns(&format!("return.{name}.tagout.dev"), place)
        })
    }

    /// Claims that would look like those of pods' ephemeral volumes, which no rule keeps.
    fn claims(&self) -> Option<ValidatingWebhook> {
        let claims = ["persistentvolumeclaims".to_owned(), "persistentvolumeclaims/*".to_owned()];
        let updates = vec![rule(&["UPDATE"], &[String::new()], &claims)];
        let only = vec![own("becomes-ephemeral", conditions::BECOMES_EPHEMERAL.to_owned())];
        self.names("", "persistentvolumeclaims").then(|| self.entry("claims", updates, only))
    }

    /// Updates that destroy or unprotect, by any subresource.
    fn changes(&self) -> Option<ValidatingWebhook> {
        let mut any: Vec<String> = self
            .spec
            .actions
            .iter()
            .filter_map(|action| actions::condition(*action))
            .map(|one| format!("({one})"))
            .collect();
        if self.guards(Action::Unprotect) {
            if self.chooses_objects() {
                any.push(format!("!({})", selects(&self.spec.object_selector, "object")));
            }
            if !self.spec.except.is_empty() {
                any.push(format!("!({})", conditions::not_excepted_now(&self.spec.except)));
            }
        }
        if any.is_empty() {
            return None;
        }
        Some(self.update("change", own("change", any.join(" ||\n"))))
    }

    /// An entry about updates of what the rule names, by any subresource but one: a `Scale` is another kind of object, and
    /// has an entry of its own.
    fn update(&self, prefix: &str, only: MatchCondition) -> ValidatingWebhook {
        let with_parts = |plural: &String| [plural.clone(), format!("{plural}/*")];
        let named = |one: &crate::api::ResourceRule| {
            rule(&["UPDATE"], &one.api_groups, &one.resources.iter().flat_map(with_parts).collect::<Vec<_>>())
        };
        let only = vec![
            own("not-terminating", NOT_TERMINATING.to_owned()),
            own("not-scale", "object.kind != 'Scale'".to_owned()),
            only,
        ];
        self.entry(prefix, self.spec.resources.iter().map(named).collect(), only)
    }

    /// Updates after which the rule's own conditions hold no more: only the API server can tell.
    fn conditions(&self) -> Option<ValidatingWebhook> {
        if !self.guards(Action::Unprotect) || self.spec.match_conditions.is_empty() {
            return None;
        }
        let still =
            self.spec.match_conditions.iter().map(|one| format!("({}\n)", conditions::bound_now(&one.expression)));
        let entry = self.update("conditions", own("leaves", format!("!({})", still.collect::<Vec<_>>().join(" && "))));
        let path = format!("/v1/rules/{}{CONDITIONS}", self.name);
        Some(ValidatingWebhook {
            // A condition that fails on the object as it would be must not refuse a routine write.
            failure_policy: Some("Ignore".into()),
            ..ValidatingWebhook { client_config: webhook("", path, self.place).client_config, ..entry }
        })
    }

    fn scale(&self) -> Option<ValidatingWebhook> {
        if !self.guards(Action::ScaleToZero) {
            return None;
        }
        let scales = |one: &crate::api::ResourceRule| {
            let named: Vec<_> = one.resources.iter().map(|plural| format!("{plural}/scale")).collect();
            rule(&["UPDATE"], &one.api_groups, &named)
        };
        let scales: Vec<_> = self.spec.resources.iter().filter(|one| may_scale(one)).map(scales).collect();
        let entry =
            |scales| self.open_where_it_asks_about_everything(self.beside("scale", scales, scale_to_zero::SCALE));
        (!scales.is_empty()).then(|| entry(scales))
    }

    fn replica_sets(&self) -> Option<ValidatingWebhook> {
        let wanted = self.guards(Action::ScaleToZero) && self.names("apps", "deployments");
        let deletions = || vec![rule(&["DELETE"], &["apps".to_owned()], &["replicasets".to_owned()])];
        let entry = || self.beside("replicasets", deletions(), scale_to_zero::REPLICA_SET);
        wanted.then(|| self.open_where_it_asks_about_everything(entry()))
    }

    fn evictions(&self) -> Option<ValidatingWebhook> {
        let wanted = self.guards(Action::Evict) && self.names("", "pods");
        let creations = || vec![rule(&["CREATE"], &[String::new()], &["pods/eviction".to_owned()])];
        wanted.then(|| self.open_where_it_asks_about_everything(self.beside("evict", creations(), "true")))
    }

    /// Namespaces that would leave the rule, or leave behind what is in them. Not chosen by their labels: those that the
    /// API server would look at are the new ones.
    fn namespaces(&self) -> Option<ValidatingWebhook> {
        let selector = as_stored(&self.spec.namespace_selector);
        let mut any = Vec::new();
        if self.guards(Action::Unprotect) && selector != LabelSelector::default() {
            any.push(format!("({} && !({}))", selects(&selector, "oldObject"), selects(&selector, "object")));
        }
        if self.guards(Action::Finalize) {
            any.push(format!("({} && {})", selects(&selector, "oldObject"), finalize::NAMESPACE));
        }
        let updates = vec![rule(&["UPDATE"], &[String::new()], &["namespaces".to_owned(), "namespaces/*".to_owned()])];
        let only = format!("{NOT_TERMINATING} && ({})", any.join(" || "));
        (!any.is_empty()).then(|| ValidatingWebhook {
            namespace_selector: Some(outside(&self.place.namespace, &LabelSelector::default())),
            ..self.beside("namespaces", updates, &only)
        })
    }

    /// Namespaces that hold what the rule is about.
    fn contents(&self) -> Option<ValidatingWebhook> {
        let spec = self.spec;
        let narrows = self.chooses_objects() || !spec.except.is_empty() || !spec.match_conditions.is_empty();
        let asked_already = self.names("", "namespaces") && !narrows;
        let deletions = || vec![rule(&["DELETE"], &[String::new()], &["namespaces".to_owned()])];
        let entry = || self.open_where_it_asks_about_everything(self.beside("contents", deletions(), NOT_TERMINATING));
        (self.guards(Action::Delete) && !asked_already && spec.resources.iter().any(may_be_in_a_namespace)).then(entry)
    }

    /// The definitions of the custom kinds that the rule names: with them go all their objects, and nobody is asked.
    fn definitions(&self) -> Vec<ValidatingWebhook> {
        let group = ["apiextensions.k8s.io".to_owned()];
        let own_definitions = self.names(&group[0], "customresourcedefinitions");
        let named: Vec<String> = self.spec.resources.iter().flat_map(definition_names).collect();
        if named.is_empty() && !own_definitions {
            return Vec::new();
        }
        let named = if own_definitions { "true".to_owned() } else { format!("({})", named.join(" || ")) };
        let everywhere = |entry: ValidatingWebhook| ValidatingWebhook {
            namespace_selector: Some(LabelSelector::default()),
            ..entry
        };
        let mut all = Vec::new();
        if self.guards(Action::Delete) && !own_definitions {
            let deletions = vec![rule(&["DELETE"], &group, &["customresourcedefinitions".to_owned()])];
            all.push(everywhere(self.beside("definition", deletions, &format!("{NOT_TERMINATING} && {named}"))));
        }
        if self.guards(Action::Unprotect) {
            let parts = ["customresourcedefinitions".to_owned(), "customresourcedefinitions/*".to_owned()];
            let only =
                format!("{NOT_TERMINATING} && {named} && ({} || ({}))", unprotect::DEFINITION, conditions::renames());
            all.push(everywhere(self.beside("redefine", vec![rule(&["UPDATE"], &group, &parts)], &only)));
        }
        all
    }

    /// The volumes behind the claims that the rule names.
    fn volumes(&self) -> Vec<ValidatingWebhook> {
        if !self.names("", "persistentvolumeclaims") {
            return Vec::new();
        }
        let core = [String::new()];
        let volumes = "persistentvolumes".to_owned();
        let everywhere = |entry: ValidatingWebhook| ValidatingWebhook {
            namespace_selector: Some(LabelSelector::default()),
            ..self.open_where_it_asks_about_everything(entry)
        };
        let mut all = Vec::new();
        if self.guards(Action::Delete) {
            let bound = format!("{NOT_TERMINATING} && oldObject.?status.?phase.orValue('') == 'Bound'");
            all.push(everywhere(self.beside(
                "volumes",
                vec![rule(&["DELETE"], &core, std::slice::from_ref(&volumes))],
                &bound,
            )));
        }
        if self.guards(Action::DiscardData) {
            let updates = vec![rule(&["UPDATE"], &core, &[volumes.clone(), format!("{volumes}/*")])];
            let only = format!("{NOT_TERMINATING} && ({})", discard_data::VOLUME);
            all.push(everywhere(self.beside("volume-data", updates, &only)));
            // The volume controller says so of every claim that goes, and must be able to while Tagout is away.
            let only = format!("{NOT_TERMINATING} && {}", discard_data::VOLUME_STATUS);
            let released = everywhere(self.beside(
                "volume-phase",
                vec![rule(&["UPDATE"], &core, &[format!("{volumes}/status")])],
                &only,
            ));
            all.push(ValidatingWebhook { failure_policy: Some("Ignore".into()), ..released });
        }
        all
    }

    /// The kinds of owners that were found above what the rule protects.
    fn owners(&self, owners: &[Kind]) -> Option<ValidatingWebhook> {
        let deletions = owners
            .iter()
            .map(|kind| rule(&["DELETE"], std::slice::from_ref(&kind.group), std::slice::from_ref(&kind.resource)));
        let deletions: Vec<_> = deletions.collect();
        let wanted = self.guards(Action::Delete) && !deletions.is_empty();
        wanted.then(|| self.open_where_it_asks_about_everything(self.beside("owners", deletions, NOT_TERMINATING)))
    }
}

/// The object as it stands.
const STANDING: &str = "oldObject";
const NOT_TERMINATING: &str = "!has(oldObject.metadata.deletionTimestamp)";

fn own(name: &str, expression: String) -> MatchCondition {
    MatchCondition { name: format!("tagout.dev/{name}"), expression }
}

/// Built-in kinds that are in no namespace.
const CLUSTER_SCOPED: [&str; 8] = [
    "customresourcedefinitions",
    "namespaces",
    "clusterroles",
    "clusterrolebindings",
    "storageclasses",
    "priorityclasses",
    "ingressclasses",
    "runtimeclasses",
];

fn may_be_in_a_namespace(named: &crate::api::ResourceRule) -> bool {
    named.resources.iter().any(|plural| !CLUSTER_SCOPED.contains(&plural.as_str()))
}

/// Kinds that have replicas: some built-in ones, and whatever custom kinds may have.
fn may_scale(named: &crate::api::ResourceRule) -> bool {
    let built_in = |group: &String| !group.contains('.') || group.ends_with(".k8s.io");
    let scales = |plural: &String| ["deployments", "statefulsets", "replicasets"].contains(&plural.as_str());
    !named.api_groups.iter().all(built_in) || named.resources.iter().any(scales)
}

/// CEL about the definitions of custom kinds.
fn definition_names(named: &crate::api::ResourceRule) -> Vec<String> {
    let custom = named.api_groups.iter().filter(|group| group.contains('.'));
    let of_group = |group: &String| {
        let one = |plural: &String| match plural.as_str() {
            "*" => format!("oldObject.metadata.name.endsWith({})", conditions::literal(&format!(".{group}"))),
            plural => format!("oldObject.metadata.name == {}", conditions::literal(&format!("{plural}.{group}"))),
        };
        named.resources.iter().map(one).collect::<Vec<_>>()
    };
    custom.flat_map(of_group).collect()
}
