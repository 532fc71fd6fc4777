//! A workload is left without pods.
//!
//! By its replicas, by a `Scale` (which has neither labels nor, at 0, replicas), by suspending it, by numbering a
//! StatefulSet's pods anew, or by placing it where no node is. About what people made, never about the ReplicaSets of
//! a rollout; but the ReplicaSet of a Deployment that would not make it anew stands for the Deployment.

use std::collections::BTreeMap;

use super::{Part, Question, Seen, Write, changed};
use crate::api::Action;

pub const CONDITION: &str = "(oldObject.?spec.?replicas.orValue(0) != object.?spec.?replicas.orValue(0) && \
     object.?spec.?replicas.orValue(0) == 0) || \
     (object.apiVersion.startsWith('batch/') && ((object.?spec.?suspend.orValue(false) == true && \
     oldObject.?spec.?suspend.orValue(false) != true) || (object.?spec.?parallelism.orValue(1) == 0 && \
     oldObject.?spec.?parallelism.orValue(1) != 0))) || \
     (object.apiVersion.startsWith('apps/') && (object.?spec.?ordinals != oldObject.?spec.?ordinals || \
     object.?spec.?strategy != oldObject.?spec.?strategy || \
     object.?spec.?template.?spec.?nodeSelector != oldObject.?spec.?template.?spec.?nodeSelector || \
     object.?spec.?template.?spec.?affinity != oldObject.?spec.?template.?spec.?affinity))";

/// A `Scale` that comes to nothing.
pub const SCALE: &str = "has(oldObject.spec) && oldObject.spec.?replicas.orValue(0) != 0 && \
     object.?spec.?replicas.orValue(0) == 0";

/// A ReplicaSet that has pods to lose. Its Deployment may have let go of it, or been made to.
pub const REPLICA_SET: &str = "!has(oldObject.metadata.deletionTimestamp) && oldObject.spec.?replicas.orValue(0) != 0";

/// Where a pod template asks its pods to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    labels: BTreeMap<String, String>,
    /// One of these terms has to hold; none: every node will do.
    terms: Vec<Term>,
}

/// All of these have to hold.
type Term = Vec<Requirement>;

#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct Requirement {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

pub(super) fn seen(write: &Write) -> Option<Seen> {
    let (old, new) = (write.old.at("spec"), write.new.at("spec"));
    let replicas = |part: Part, absent| part.at("replicas").number().unwrap_or(absent);
    let zero = |what: &str, unless| Some(Seen { action: Action::ScaleToZero, what: what.to_owned(), unless });
    if write.subresource == "scale" {
        return if replicas(old, 0) != 0 && replicas(new, 0) == 0 {
            zero("its replicas would be 0", None)
        } else {
            None
        };
    }
    // A kind that has none of it is left alone; one whose operator reads absence as a default is too.
    if replicas(old, 0) != 0 && replicas(new, 1) == 0 {
        return zero("its replicas would be 0", None);
    }
    if write.group == "batch" {
        if new.at("suspend").flag() && !old.at("suspend").flag() {
            return zero("it would be suspended", None);
        }
        if new.at("parallelism").number() == Some(0) && old.at("parallelism").number() != Some(0) {
            return zero("it would run nothing", None);
        }
    }
    if write.is("apps", "statefulsets") && changed(write, "spec.ordinals") {
        return zero("pods of it would be replaced by others, with claims of their own", None);
    }
    let watched = ["spec.template.spec.nodeSelector", "spec.template.spec.affinity", "spec.strategy"];
    if loses_pods_before_others_run(write) && watched.iter().any(|path| changed(write, path)) {
        let placement = Placement::read(new.at("template.spec"));
        if placement != Placement::default() {
            return zero("no node is as it asks", Some(Question::NodeFits(Box::new(placement))));
        }
    }
    None
}

/// Whether old pods go before new ones run.
fn loses_pods_before_others_run(write: &Write) -> bool {
    let spec = write.new.at("spec");
    let unavailable = spec.at("strategy.rollingUpdate.maxUnavailable");
    let replicas = spec.at("replicas").number().unwrap_or(1);
    // Percentages are rounded down, so only the whole is all.
    let all = unavailable.text() == "100%" || unavailable.number().is_some_and(|number| number >= replicas);
    let deployment = write.is("apps", "deployments") && (all || spec.at("strategy.type").text() == "Recreate");
    deployment || write.is("apps", "daemonsets") || write.is("apps", "statefulsets")
}

impl Placement {
    fn read(pod: Part) -> Self {
        let terms = pod.at("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        let term = |term: Part| {
            // What is said about fields is the node's name, which no label tells: such a term is not relied upon.
            if term.at("matchFields").is_set() { None } else { term.at("matchExpressions").read::<Term>() }
        };
        Self {
            labels: pod.at("nodeSelector").read().unwrap_or_default(),
            terms: terms.list().into_iter().map(|one| term(one).unwrap_or_else(never)).collect(),
        }
    }

    /// Whether a node with these labels is as it asks.
    pub fn fits(&self, node: &BTreeMap<String, String>) -> bool {
        let selected = self.labels.iter().all(|(key, value)| node.get(key) == Some(value));
        selected && (self.terms.is_empty() || self.terms.iter().any(|term| term.iter().all(|one| one.holds(node))))
    }
}

/// A term of which not everything is understood.
fn never() -> Term {
    vec![Requirement { key: String::new(), operator: String::new(), values: Vec::new() }]
}

impl Requirement {
    fn holds(&self, node: &BTreeMap<String, String>) -> bool {
        let value = node.get(&self.key);
        let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
        let compared = || number(value).zip(number(self.values.first()));
        match self.operator.as_str() {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compared().is_some_and(|(value, bound)| value > bound),
            "Lt" => compared().is_some_and(|(value, bound)| value < bound),
            _ => false,
        }
    }
}
