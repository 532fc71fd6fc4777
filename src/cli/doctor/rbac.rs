//! What roles and bindings allow, as the API server's RBAC reads them.

use k8s_openapi::api::rbac::v1::{PolicyRule, Subject};
use kube::core::ObjectMeta;
use serde::Serialize;

use crate::api::SYSTEM_PREFIX;

/// A Role or `ClusterRole`, as it is stored: what aggregates others holds what they say.
#[derive(Debug, Clone, Default)]
pub struct Role {
    /// Absent: of the whole cluster.
    pub namespace: Option<String>,
    pub name: String,
    pub rules: Vec<PolicyRule>,
}

/// A `RoleBinding` or `ClusterRoleBinding`.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    pub metadata: ObjectMeta,
    pub role_kind: String,
    pub role: String,
    pub subjects: Vec<Subject>,
}

/// Who holds a right.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

/// What a binding gives to a holder.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    pub binding: &'a Binding,
    pub role: &'a Role,
}

/// Of what names a rule speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names<'a> {
    All,
    Only(&'a [String]),
}

impl Binding {
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }

    pub fn kind(&self) -> &'static str {
        if self.metadata.namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" }
    }

    /// The role it names, if there is one: a Role is looked for in the binding's own namespace, and a
    /// `ClusterRoleBinding` names none.
    pub fn role<'r>(&self, roles: &'r [Role]) -> Option<&'r Role> {
        let home = match self.role_kind.as_str() {
            "ClusterRole" => None,
            "Role" if self.namespace().is_some() => self.namespace(),
            _ => return None,
        };
        roles.iter().find(|role| role.name == self.role && role.namespace.as_deref() == home)
    }
}

impl Holder {
    pub fn of(subject: &Subject, binding: &Binding) -> Option<Self> {
        match subject.kind.as_str() {
            "User" => Some(Self::user(&subject.name)),
            "Group" => Some(Self::Group(subject.name.clone())),
            // Without a namespace it is one of the binding's own; in a ClusterRoleBinding it is nobody.
            "ServiceAccount" => {
                let own = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
                let namespace = own.or(binding.namespace())?;
                Some(Self::ServiceAccount { namespace: namespace.to_owned(), name: subject.name.clone() })
            }
            _ => None,
        }
    }

    /// A service account has a user's name too, by which a binding may call it.
    pub fn user(name: &str) -> Self {
        match name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
            Some((namespace, name)) => Self::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() },
            None => Self::User(name.to_owned()),
        }
    }

    /// As findings name it.
    pub fn object(&self) -> String {
        match self {
            Self::User(name) => format!("User/{name}"),
            Self::Group(name) => format!("Group/{name}"),
            Self::ServiceAccount { namespace, name } => format!("ServiceAccount/{namespace}/{name}"),
        }
    }

    /// Which service accounts it is, by namespace and name; without a name all of the namespace.
    pub fn accounts(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::ServiceAccount { namespace, name } => Some((namespace, Some(name))),
            Self::Group(name) => Some((name.strip_prefix("system:serviceaccounts:")?, None)),
            Self::User(_) => None,
        }
    }

    /// Whether it is a person or people, as far as names tell.
    pub fn is_people(&self) -> bool {
        match self {
            Self::User(name) | Self::Group(name) => !name.starts_with(SYSTEM_PREFIX),
            Self::ServiceAccount { .. } => false,
        }
    }
}

/// Whom each binding gives what. Those without a role give nothing yet.
pub fn grants<'a>(bindings: &'a [Binding], roles: &'a [Role]) -> Vec<(Holder, Grant<'a>)> {
    let mut grants = Vec::new();
    for binding in bindings {
        let Some(role) = binding.role(roles) else { continue };
        let holders = binding.subjects.iter().filter_map(|subject| Holder::of(subject, binding));
        grants.extend(holders.map(|holder| (holder, Grant { binding, role })));
    }
    grants
}

/// Whether a rule allows a verb on a resource, written `pods` or `pods/exec`, and of which names.
pub fn allows<'r>(rule: &'r PolicyRule, verb: &str, group: &str, resource: &str) -> Option<Names<'r>> {
    let has = |list: &Option<Vec<String>>, what: &str| list.iter().flatten().any(|own| own == "*" || own == what);
    let verbs = rule.verbs.iter().any(|own| own == "*" || own == verb);
    let below = resource.split_once('/').map(|(_, below)| format!("*/{below}"));
    let named = rule.resources.iter().flatten().any(|own| own == "*" || own == resource || below.as_ref() == Some(own));
    if !verbs || !has(&rule.api_groups, group) || !named {
        return None;
    }
    match rule.resource_names.as_deref() {
        None | Some([]) => Some(Names::All),
        // Such requests have no name. A list or watch has one where it asks by field for metadata.name.
        Some(_) if verb == "deletecollection" || (verb == "create" && below.is_none()) => None,
        Some(names) => Some(Names::Only(names)),
    }
}

/// Whether a role may do everything in the cluster.
pub fn is_everything(role: &Role) -> bool {
    let star = |list: &Option<Vec<String>>| list.iter().flatten().any(|own| own == "*");
    role.rules.iter().any(|rule| {
        rule.verbs.iter().any(|verb| verb == "*")
            && star(&rule.api_groups)
            && star(&rule.resources)
            && rule.resource_names.as_ref().is_none_or(Vec::is_empty)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn rule(value: &Value) -> PolicyRule {
        serde_json::from_value(value.clone()).expect("a rule")
    }

    #[rstest]
    #[case::a_star_includes_impersonate(json!({"verbs": ["*"], "apiGroups": [""], "resources": ["users"]}), "impersonate", "", "users", true)]
    #[case::and_bind(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "bind", "rbac.authorization.k8s.io", "clusterroles", true)]
    #[case::and_escalate(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "escalate", "rbac.authorization.k8s.io", "roles", true)]
    #[case::and_approve(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "approve", "certificates.k8s.io", "signers", true)]
    #[case::and_sign(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "sign", "certificates.k8s.io", "signers", true)]
    #[case::all_resources_have_subresources(json!({"verbs": ["create"], "apiGroups": [""], "resources": ["*"]}), "create", "", "pods/exec", true)]
    #[case::a_subresource_of_all(json!({"verbs": ["update"], "apiGroups": ["apps"], "resources": ["*/scale"]}), "update", "apps", "deployments/scale", true)]
    #[case::all_subresources_of_one_is_nothing(json!({"verbs": ["create"], "apiGroups": [""], "resources": ["pods/*"]}), "create", "", "pods/exec", false)]
    #[case::a_resource_is_not_its_subresource(json!({"verbs": ["create"], "apiGroups": [""], "resources": ["pods"]}), "create", "", "pods/exec", false)]
    #[case::nor_the_other_way(json!({"verbs": ["create"], "apiGroups": [""], "resources": ["pods/exec"]}), "create", "", "pods", false)]
    #[case::another_group(json!({"verbs": ["create"], "apiGroups": ["apps"], "resources": ["*"]}), "create", "", "pods", false)]
    #[case::impersonation_of_uids(json!({"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["uids"]}), "impersonate", "authentication.k8s.io", "uids", true)]
    #[case::impersonation_of_extras(json!({"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"]}), "impersonate", "authentication.k8s.io", "userextras/scopes", true)]
    #[case::a_path_is_no_resource(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}), "get", "", "secrets", false)]
    #[case::no_group(json!({"verbs": ["*"], "resources": ["*"]}), "get", "", "secrets", false)]
    fn a_rule_allows_what_the_api_server_says_it_does(
        #[case] given: Value,
        #[case] verb: &str,
        #[case] group: &str,
        #[case] resource: &str,
        #[case] allowed: bool,
    ) {
        assert_eq!(allows(&rule(&given), verb, group, resource).is_some(), allowed);
    }

    #[rstest]
    #[case::creation("create", "secrets", false)]
    #[case::a_collection("deletecollection", "secrets", false)]
    #[case::a_list_by_a_field("list", "secrets", true)]
    #[case::a_watch_by_a_field("watch", "secrets", true)]
    #[case::a_deletion("delete", "secrets", true)]
    #[case::getting("get", "secrets", true)]
    #[case::a_token("create", "serviceaccounts/token", true)]
    #[case::impersonation("impersonate", "users", true)]
    #[case::binding("bind", "clusterroles", true)]
    fn names_limit_what_has_a_name_in_the_request(#[case] verb: &str, #[case] resource: &str, #[case] matches: bool) {
        let rule = rule(&json!({"verbs": [verb], "apiGroups": ["*"], "resources": [resource], "resourceNames": ["x"]}));
        let names = ["x".to_owned()];
        assert_eq!(allows(&rule, verb, "", resource), matches.then_some(Names::Only(&names)));
    }

    #[rstest]
    #[case(json!({"kind": "User", "name": "alice"}), Some("User/alice"))]
    #[case(json!({"kind": "User", "name": "system:serviceaccount:ci:runner"}), Some("ServiceAccount/ci/runner"))]
    #[case(json!({"kind": "ServiceAccount", "name": "runner", "namespace": "ci"}), Some("ServiceAccount/ci/runner"))]
    #[case(json!({"kind": "Group", "name": "system:authenticated"}), Some("Group/system:authenticated"))]
    #[case(json!({"kind": "ServiceAccount", "name": "runner"}), None)]
    #[case(json!({"kind": "ServiceAccount", "name": "runner", "namespace": ""}), None)]
    #[case(json!({"kind": "Robot", "name": "runner"}), None)]
    fn a_subject_is_called_by_one_name(#[case] subject: Value, #[case] object: Option<&str>) {
        let subject = serde_json::from_value(subject).expect("a subject");
        let holder = Holder::of(&subject, &Binding::default());
        assert_eq!(holder.map(|holder| holder.object()).as_deref(), object);
    }

    #[rstest]
    #[case(json!({"kind": "ServiceAccount", "name": "runner"}))]
    #[case(json!({"kind": "ServiceAccount", "name": "runner", "namespace": ""}))]
    fn an_account_without_a_namespace_is_one_of_the_bindings_own(#[case] subject: Value) {
        let subject = serde_json::from_value(subject).expect("a subject");
        let metadata = ObjectMeta { namespace: Some("ci".to_owned()), ..ObjectMeta::default() };
        let holder = Holder::of(&subject, &Binding { metadata, ..Binding::default() });
        assert_eq!(holder.map(|holder| holder.object()).as_deref(), Some("ServiceAccount/ci/runner"));
    }

    #[test]
    fn a_binding_finds_its_role_where_the_api_server_looks() {
        let role = |namespace: Option<&str>| Role {
            namespace: namespace.map(str::to_owned),
            name: "r".into(),
            ..Role::default()
        };
        let roles = [role(Some("a")), role(None)];
        let find = |namespace: Option<&str>, kind: &str| {
            let metadata = ObjectMeta { namespace: namespace.map(str::to_owned), ..ObjectMeta::default() };
            let binding = Binding { metadata, role_kind: kind.into(), role: "r".into(), ..Binding::default() };
            binding.role(&roles).map(|role| role.namespace.clone())
        };
        assert_eq!(find(Some("a"), "Role"), Some(Some("a".to_owned())));
        assert_eq!(find(Some("b"), "Role"), None);
        assert_eq!(find(Some("b"), "ClusterRole"), Some(None));
        assert_eq!(find(None, "Role"), None);
    }
}
