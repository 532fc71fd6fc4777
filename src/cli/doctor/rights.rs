//! Which rights matter, and who has them.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::finding::Severity;
use super::rbac::{Grant, Names, allows};
use crate::api::GROUP;

/// A right that matters, by a short name that never changes.
#[derive(Debug)]
pub struct Right {
    pub code: &'static str,
    pub severity: Severity,
    /// What one may.
    pub words: &'static str,
    place: Where,
    asks: &'static [Ask],
}

/// Where it has to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In the whole cluster: of what stands in no namespace, nothing else gives it.
    Cluster,
    /// In a namespace where Kubernetes' own controllers or Tagout live, or everywhere.
    Guarded,
    /// In Tagout's own namespace, or everywhere.
    Home,
}

#[derive(Debug)]
struct Ask {
    verbs: &'static [&'static str],
    group: &'static str,
    resources: &'static [&'static str],
    /// Which names matter where a rule names some.
    named: fn(&str) -> bool,
}

const fn ask(
    verbs: &'static [&'static str],
    group: &'static str,
    resources: &'static [&'static str],
    named: fn(&str) -> bool,
) -> Ask {
    Ask { verbs, group, resources, named }
}

const WRITE: &[&str] = &["create", "patch", "update", "delete", "deletecollection"];
const CHANGE: &[&str] = &["create", "patch", "update"];
const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whoever changes what is there already, if only one of that name, has it run as any account of its namespace.
const PODS: &[&str] = &["pods", "replicationcontrollers", "pods/ephemeralcontainers"];
const WORKLOADS: &[&str] = &["deployments", "statefulsets", "daemonsets", "replicasets"];

/// Since Kubernetes 1.35 impersonation has narrower verbs beside the old one.
const IMPERSONATE: &[&str] =
    &["impersonate", "impersonate:user-info", "impersonate:serviceaccount", "impersonate:arbitrary-node"];

/// A key of one's own choice stands behind the slash.
const ANY_EXTRA: &str = "userextras/KEY";

pub static RIGHTS: &[Right] = &[
    Right {
        code: "impersonate",
        severity: Severity::Danger,
        words: "impersonate others",
        place: Where::Cluster,
        asks: &[
            ask(IMPERSONATE, "", &["users", "groups", "serviceaccounts"], any),
            ask(IMPERSONATE, AUTHENTICATION, &["users", "groups", "serviceaccounts", "uids", "nodes"], any),
            ask(IMPERSONATE, AUTHENTICATION, &["userextras", ANY_EXTRA], any),
        ],
    },
    Right {
        code: "controllers",
        severity: Severity::Danger,
        words: "become accounts of controllers: their tokens, Secrets or pods",
        place: Where::Guarded,
        asks: &[
            ask(IMPERSONATE, "", &["serviceaccounts"], any),
            ask(IMPERSONATE, AUTHENTICATION, &["serviceaccounts"], any),
            ask(&["create"], "", &["serviceaccounts/token"], any),
            ask(&["get", "list", "watch", "create", "patch", "update"], "", &["secrets"], of_tagout),
            ask(CHANGE, "", PODS, any),
            ask(&["create", "get"], "", &["pods/exec", "pods/attach"], any),
            ask(CHANGE, "apps", WORKLOADS, any),
            ask(CHANGE, "batch", &["jobs", "cronjobs"], any),
        ],
    },
    Right {
        code: "webhooks",
        severity: Severity::Danger,
        words: "write webhook configurations",
        place: Where::Cluster,
        asks: &[
            ask(WRITE, ADMISSION, &["validatingwebhookconfigurations"], of_tagout),
            ask(CHANGE, ADMISSION, &["mutatingwebhookconfigurations"], any),
        ],
    },
    Right {
        code: "policies",
        severity: Severity::Danger,
        words: "write admission policies or their bindings",
        place: Where::Cluster,
        asks: &[
            ask(WRITE, ADMISSION, &["validatingadmissionpolicies", "validatingadmissionpolicybindings"], of_tagout),
            ask(CHANGE, ADMISSION, &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"], any),
        ],
    },
    Right {
        code: "grant",
        severity: Severity::Danger,
        words: "give rights that they do not have (bind, escalate)",
        place: Where::Guarded,
        asks: &[ask(&["bind", "escalate"], RBAC, &["clusterroles", "roles"], any)],
    },
    Right {
        code: "certificates",
        severity: Severity::Danger,
        words: "have certificates issued in others' names",
        place: Where::Cluster,
        asks: &[
            ask(&["update", "patch"], CERTIFICATES, &["certificatesigningrequests/approval"], any),
            ask(&["update", "patch"], CERTIFICATES, &["certificatesigningrequests/status"], any),
            ask(&["approve", "sign"], CERTIFICATES, &["signers"], for_clients),
        ],
    },
    Right {
        code: "nodes",
        severity: Severity::Danger,
        words: "act as nodes or reach into what runs there",
        place: Where::Cluster,
        asks: &[
            ask(&["create", "get", "update", "patch", "delete"], "", &["nodes/proxy"], any),
            ask(&["create", "update", "patch"], "", &["nodes", "nodes/status"], any),
        ],
    },
    Right {
        code: "join",
        severity: Severity::Danger,
        words: "become any node, for the certificates they ask for are approved by themselves",
        place: Where::Cluster,
        asks: &[ask(&["create"], CERTIFICATES, &["certificatesigningrequests/nodeclient"], any)],
    },
    Right {
        code: "rules",
        severity: Severity::Warning,
        words: "write rules and teams",
        place: Where::Cluster,
        asks: &[ask(WRITE, GROUP, &["protectionrules", "approverteams"], any)],
    },
    Right {
        code: "records",
        severity: Severity::Warning,
        words: "write what Tagout itself remembers or says",
        place: Where::Cluster,
        asks: &[
            ask(WRITE, GROUP, &["deletionrecords", "ledgers"], any),
            ask(&["patch", "update"], GROUP, &["protectionrules/status", "approverteams/status"], any),
        ],
    },
    Right {
        code: "approvals",
        severity: Severity::Warning,
        words: "take away or put signed approvals in Approvals",
        place: Where::Cluster,
        asks: &[ask(WRITE, GROUP, &["approvals", "approvals/status"], any)],
    },
    Right {
        code: "definitions",
        severity: Severity::Warning,
        words: "write the definitions of Tagout's kinds",
        place: Where::Cluster,
        asks: &[ask(
            WRITE,
            "apiextensions.k8s.io",
            &["customresourcedefinitions", "customresourcedefinitions/status"],
            is_own_definition,
        )],
    },
    Right {
        code: "apiservices",
        severity: Severity::Warning,
        words: "have API groups served by others",
        place: Where::Cluster,
        asks: &[ask(WRITE, "apiregistration.k8s.io", &["apiservices"], any)],
    },
    Right {
        code: "roles",
        severity: Severity::Warning,
        words: "write roles and bindings",
        place: Where::Guarded,
        asks: &[ask(WRITE, RBAC, &["clusterroles", "clusterrolebindings", "roles", "rolebindings"], any)],
    },
    Right {
        code: "reach",
        severity: Severity::Warning,
        words: "reach Tagout's pods",
        place: Where::Home,
        asks: &[ask(&["create", "get"], "", &["services/proxy", "pods/proxy", "pods/portforward"], any)],
    },
];

/// What makes one a service account of a namespace.
static BECOME: &[Ask] = &[
    ask(IMPERSONATE, "", &["serviceaccounts"], any),
    ask(IMPERSONATE, AUTHENTICATION, &["serviceaccounts"], any),
    ask(&["create"], "", &["serviceaccounts/token"], any),
    ask(&["get", "list", "watch", "create"], "", &["secrets"], none),
    ask(CHANGE, "", PODS, any),
    ask(&["create", "get"], "", &["pods/exec", "pods/attach"], any),
    ask(CHANGE, "apps", WORKLOADS, any),
    ask(CHANGE, "batch", &["jobs", "cronjobs"], any),
    // Whoever gives themselves any right there has these.
    ask(&["bind", "escalate"], RBAC, &["clusterroles", "roles"], any),
];

/// A right somebody was found to have.
#[derive(Debug, Clone)]
pub struct Hit {
    pub right: &'static Right,
    /// `impersonate users`
    pub by: String,
}

/// What a grant gives of what matters. `home` is Tagout's own namespace.
pub fn hits(grant: &Grant, home: &str) -> Vec<Hit> {
    let namespace = grant.binding.namespace();
    let applies = |place: Where| match (namespace, place) {
        (None, _) => true,
        (Some(_), Where::Cluster) => false,
        (Some(namespace), Where::Guarded) => namespace == home || namespace == "kube-system",
        (Some(namespace), Where::Home) => namespace == home,
    };
    let found = |right: &'static Right| {
        let ask = right.asks.iter().find_map(|ask| ask.given(grant))?;
        Some(Hit { right, by: ask })
    };
    RIGHTS.iter().filter(|right| applies(right.place)).filter_map(found).collect()
}

/// By what a grant makes its holder this service account, or without a name any of the namespace.
pub fn becomes(grant: &Grant, namespace: &str, account: Option<&str>) -> Option<String> {
    let here = grant.binding.namespace().is_none_or(|own| own == namespace);
    let of = |ask: &Ask| {
        // Where a rule names accounts, it has to be this one.
        let accounts = ask.resources.iter().any(|resource| resource.starts_with("serviceaccounts"));
        let named = |names: &Names| match names {
            Names::All => true,
            Names::Only(names) if accounts => account.is_none_or(|own| names.iter().any(|name| name == own)),
            Names::Only(names) => names.iter().any(|name| (ask.named)(name)),
        };
        ask.first(grant, named)
    };
    BECOME.iter().filter(|_| here).find_map(of)
}

impl Ask {
    fn given(&self, grant: &Grant) -> Option<String> {
        self.first(grant, |names| match names {
            Names::All => true,
            Names::Only(names) => names.iter().any(|name| (self.named)(name)),
        })
    }

    fn first(&self, grant: &Grant, counts: impl Fn(&Names) -> bool) -> Option<String> {
        for rule in &grant.role.rules {
            for resource in self.resources {
                let extra = if *resource == ANY_EXTRA { extra(rule) } else { None };
                let resource = extra.as_deref().unwrap_or(resource);
                let allowed =
                    |verb: &&&str| allows(rule, verb, self.group, resource).is_some_and(|names| counts(&names));
                if let Some(verb) = self.verbs.iter().find(allowed) {
                    return Some(format!("{verb} {resource}"));
                }
            }
        }
        None
    }
}

/// An extra of a user that a rule names.
fn extra(rule: &PolicyRule) -> Option<String> {
    let key = |own: &String| own.strip_prefix("userextras/").or_else(|| own.strip_prefix("*/")).map(str::to_owned);
    rule.resources.iter().flatten().find_map(key).map(|key| format!("userextras/{key}"))
}

fn any(_: &str) -> bool {
    true
}

/// What is named is known to be something else.
fn none(_: &str) -> bool {
    false
}

fn of_tagout(name: &str) -> bool {
    name == "tagout" || name.starts_with("tagout-")
}

fn is_own_definition(name: &str) -> bool {
    name.split_once('.').is_some_and(|(_, group)| group == GROUP)
}

/// Of the API server's signers, those whose certificates it takes for users.
fn for_clients(signer: &str) -> bool {
    signer == "*"
        || signer == "kubernetes.io/*"
        || matches!(signer, "kubernetes.io/kube-apiserver-client" | "kubernetes.io/kube-apiserver-client-kubelet")
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;
