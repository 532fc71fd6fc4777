//! What keeps Tagout itself as it is: policies that the API server evaluates by itself, with Tagout away too.
//!
//! Webhooks never see webhook configurations, and one that guarded the namespace it runs in could not come back.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
    Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::conditions::literal;
use super::{COMPILED_BY, COMPILER, Place, owned};

/// What the policies leave to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leave {
    /// Users for whom it is unlocked.
    pub unlocked: Vec<String>,
    /// Users who write the certificates' Secrets as their work, as a manager of certificates does.
    pub secret_writers: Vec<String>,
    /// Further Secrets that Tagout rests on: those with certificates.
    pub secrets: Vec<String>,
}

/// A policy with what puts it in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Lock {
    pub policy: ValidatingAdmissionPolicy,
    pub binding: ValidatingAdmissionPolicyBinding,
}

/// The policy about what stands outside of any namespace.
const CLUSTER: &str = "tagout";
/// And that about what stands in Tagout's own.
const HOME: &str = "tagout-home";
pub const LOCKS: [&str; 2] = [CLUSTER, HOME];

/// What is said to whoever is refused: an administrator knows what to do, an agent what not to.
const REFUSED: &str = "this would change what guards the cluster. Stop here and hand this to a person. Upgrades of \
                       Tagout begin with: kubectl tagout unlock";

/// By which pods and what belongs to them come, change and go in any namespace. By name: not whoever runs as some account
/// of kube-system.
const CONTROLLERS: [&str; 21] = [
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "device-taint-eviction-controller",
    "disruption-controller",
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "job-controller",
    "node-controller",
    "pod-garbage-collector",
    "replicaset-controller",
    "replication-controller",
    "root-ca-cert-publisher",
    "service-account-controller",
    "service-controller",
    "statefulset-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
];

/// Programs with a name of their own. The second is every controller, where these share their credentials.
const COMPONENTS: [&str; 2] = ["system:kube-scheduler", "system:kube-controller-manager"];

/// The Secrets by which Tagout knows what counts.
const MEMORY: [&str; 4] = ["tagout-authorities", "tagout-epoch", "tagout-settled", "tagout-unlocks"];

/// The Secret of the authority that the chart has cert-manager make.
const AUTHORITY: &str = "tagout-ca";

/// The chart's roles and bindings of the whole cluster.
const ROLES: [&str; 5] = ["tagout", "tagout-view", "tagout-viewer", "tagout-approver", "tagout-crds"];

/// The policies with their bindings.
pub fn locks(place: &Place, leave: &Leave) -> Vec<Lock> {
    vec![cluster(place, leave), home(place, leave)]
}

/// What guards those policies and their bindings, for the API server's own files: nobody who only sends requests changes
/// it. The names say so: the API server keeps everybody else from taking such ones.
pub fn static_lock(namespace: &str, exempt: &[String]) -> Lock {
    const NAME: &str = "tagout-locks.static.k8s.io";
    let place = Place { namespace: namespace.to_owned(), ..Place::default() };
    let kinds = &["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    let resources = vec![rule(&["CREATE", "UPDATE", "DELETE"], "admissionregistration.k8s.io", kinds)];
    let own = format!("{IT}.all(it, it.metadata.name in {})", list(&LOCKS.map(str::to_owned)));
    let leave = Leave { unlocked: exempt.to_vec(), ..Leave::default() };
    let free = "variables.unlocked || variables.tagout || variables.same";
    let mut lock = lock(NAME, &place, resources, LabelSelector::default(), own, who(&place, &leave), free);
    // They belong to nobody in the cluster.
    let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
    lock.policy.metadata = metadata.clone();
    lock.binding.metadata = metadata;
    lock
}

fn cluster(place: &Place, leave: &Leave) -> Lock {
    let resources = vec![
        rule(&["CREATE", "UPDATE", "DELETE"], "admissionregistration.k8s.io", &["validatingwebhookconfigurations"]),
        rule(&["CREATE", "UPDATE", "DELETE"], "rbac.authorization.k8s.io", &["clusterroles", "clusterrolebindings"]),
        rule(&["DELETE"], "", &["namespaces"]),
        rule(&["UPDATE"], "", &["namespaces/finalize"]),
    ];
    // A collection is deleted without a name in the request, so the object's counts.
    let own = format!(
        "{IT}.all(it, request.resource.resource == 'namespaces' ? it.metadata.name == {} : request.resource.resource == \
         'validatingwebhookconfigurations' ? (it.metadata.name == 'tagout' || it.metadata.name.startsWith('tagout-')) : \
         it.metadata.name in {})",
        literal(&place.namespace),
        list(&ROLES.map(str::to_owned)),
    );
    // A namespace that is going may go.
    let free = "variables.unlocked || variables.same || (request.resource.resource == 'validatingwebhookconfigurations' && \
                variables.tagout) || (request.?subResource.orValue('') == 'finalize' && has(oldObject.metadata.deletionTimestamp))";
    lock(CLUSTER, place, resources, LabelSelector::default(), own, who(place, leave), free)
}

fn home(place: &Place, leave: &Leave) -> Lock {
    let write = &["CREATE", "UPDATE", "DELETE"];
    let change = &["CREATE", "UPDATE"];
    let resources = vec![
        // Pods may be deleted: they come again.
        rule(change, "", &["pods", "pods/ephemeralcontainers", "pods/resize", "pods/status"]),
        rule(write, "", &["services", "services/status", "endpoints", "configmaps", "secrets", "serviceaccounts"]),
        rule(write, "", &["replicationcontrollers", "replicationcontrollers/*"]),
        rule(write, "apps", &["deployments", "replicasets", "statefulsets", "daemonsets"]),
        rule(write, "apps", &["deployments/*", "replicasets/*", "statefulsets/*", "daemonsets/*"]),
        rule(write, "batch", &["jobs", "jobs/status", "cronjobs", "cronjobs/status"]),
        rule(write, "discovery.k8s.io", &["endpointslices"]),
        rule(write, "policy", &["poddisruptionbudgets"]),
        // By which pods could be kept from coming again. Whoever wants them to come may take these away.
        rule(change, "", &["resourcequotas", "limitranges"]),
        rule(change, "autoscaling", &["horizontalpodautoscalers"]),
        rule(write, "rbac.authorization.k8s.io", &["roles", "rolebindings"]),
        rule(&["CREATE"], "", &["serviceaccounts/token"]),
        rule(&["CONNECT"], "", &["pods/exec", "pods/attach", "pods/proxy", "services/proxy"]),
    ];
    let only = LabelSelector {
        match_labels: Some([("kubernetes.io/metadata.name".to_owned(), place.namespace.clone())].into()),
        match_expressions: None,
    };
    // The first release is written by whoever installs Tagout, when this is in force already; what it says later, an upgrade
    // would take for granted. What others put into every namespace is their business: only what Tagout rests on is held,
    // and whatever runs pods, which could carry Tagout's labels and read its Secrets.
    let own = format!(
        "request.operation == 'CONNECT' || request.?subResource.orValue('') == 'token' || {IT}.all(it, request.resource.resource == \
         'configmaps' ? it.metadata.name == 'kube-root-ca.crt' : request.resource.resource == 'secrets' ? \
         (it.metadata.name in {} || it.metadata.name.startsWith('tagout-') || it.?type.orValue('') == \
         'kubernetes.io/service-account-token' || (it.metadata.name.startsWith('sh.helm.release.v1.') && \
         !(it.metadata.name.endsWith('.v1') && it.metadata.?labels.?status.orValue('') == 'pending-install'))) && \
         !(request.operation == 'DELETE' && it.metadata.name == 'tagout-epoch') : \
         request.resource.resource in ['services', 'serviceaccounts', 'roles', 'rolebindings', 'poddisruptionbudgets'] ? \
         (it.metadata.name == 'tagout' || it.metadata.name.startsWith('tagout-')) : true)",
        list(&leave.secrets),
    );
    let free = "request.operation == 'CONNECT' ? false : request.?subResource.orValue('') == 'token' ? variables.node : \
                variables.same || (request.operation == 'DELETE' && has(namespaceObject.metadata.deletionTimestamp)) || \
                (variables.memory ? variables.tagout : (variables.unlocked || variables.harmlessStatus || \
                variables.restart || variables.noted || (request.resource.resource == 'secrets' ? (variables.tagout || \
                variables.writesSecrets) : (variables.kubernetes || variables.kubelet))))";
    let mut variables = who(place, leave);
    variables.push(variable("writesSecrets", writes_secrets(leave)));
    // What a kubelet does: it says how pods are, and of its own, which it has from files, that they are there. Whoever
    // impersonates one is kept from all else by nobody but this; and Tagout's Service finds none of those.
    variables.push(variable(
        "kubelet",
        format!(
            "variables.node && request.resource.resource == 'pods' && ({SUBRESOURCE} == 'status' ? {} : ({SUBRESOURCE} == \
             '' && request.operation == 'CREATE' && 'kubernetes.io/config.mirror' in \
             object.metadata.?annotations.orValue({{}}) && \
             object.metadata.?labels[?'app.kubernetes.io/name'].orValue('') != 'tagout'))",
            same(&METADATA)
        ),
    ));
    // By what a status says, nothing is destroyed; by labels and owners that come along with it, or a pod's address, it is.
    variables.push(variable(
        "harmlessStatus",
        format!(
            "request.operation == 'UPDATE' && request.?subResource.orValue('') == 'status' && {} && object.?status.?podIP == \
             oldObject.?status.?podIP && object.?status.?podIPs == oldObject.?status.?podIPs",
            same(&METADATA)
        ),
    ));
    // What Tagout remembers decides who is let: whoever is let for a time could be let for ever.
    variables.push(variable(
        "memory",
        format!(
            "request.resource.resource == 'secrets' && {IT}.all(it, it.metadata.name in {})",
            list(&MEMORY.map(str::to_owned))
        ),
    ));
    // What networks and schedulers note on pods.
    variables.push(variable(
        "noted",
        format!(
            "request.operation == 'UPDATE' && request.resource.resource == 'pods' && {SUBRESOURCE} == '' && {}",
            same(&[&METADATA[..], &["?spec"]].concat())
        ),
    ));
    // What kubectl rollout restart does, and nothing beside: controllers and injectors act on annotations.
    variables.push(variable(
        "restart",
        format!(
            "request.operation == 'UPDATE' && request.resource.resource == 'deployments' && {SUBRESOURCE} == '' && {} && \
             [object.?spec.?template.?metadata.?annotations.orValue({{}})].all(now, \
             [oldObject.?spec.?template.?metadata.?annotations.orValue({{}})].all(before, now.all(key, key == {RESTARTED} || \
             (key in before && before[key] == now[key])) && before.all(key, key == {RESTARTED} || key in now)))",
            same(&[&METADATA[..], &["metadata.?annotations"], &DEPLOYMENT[..]].concat())
        ),
    ));
    lock(HOME, place, resources, only, own, variables, free)
}

/// A manager of certificates writes those, and for each of the chart's the key that is to come: cert-manager has it, until the
/// certificate is there, in a Secret with that label and the certificate's name, a dash and five letters of those from
/// which the API server makes names. No memory of Tagout's and no release of Helm's can be named so.
fn writes_secrets(leave: &Leave) -> String {
    let certificates: Vec<String> = leave.secrets.iter().cloned().chain([AUTHORITY.to_owned()]).collect();
    format!(
        "{} && {IT}.all(it, it.?type.orValue('') != 'kubernetes.io/service-account-token' && (it.metadata.name in {} || \
         (it.metadata.?labels[?'cert-manager.io/next-private-key'].orValue('') == 'true' && \
         it.metadata.name.matches('^tagout-(ca-)?[bcdfghjklmnpqrstvwxz2456789]{{5}}$'))))",
        among(&leave.secret_writers),
        list(&certificates)
    )
}

/// The object, in a list: as it stands, or as it is to be made.
const IT: &str = "[oldObject != null ? oldObject : object]";

/// What of an object is its own, beside its contents.
const METADATA: [&str; 3] = ["metadata.?labels", "metadata.?ownerReferences", "metadata.?finalizers"];

/// What a Deployment says beside the metadata of its pods.
const DEPLOYMENT: [&str; 11] = [
    "?spec.?replicas",
    "?spec.?selector",
    "?spec.?strategy",
    "?spec.?paused",
    "?spec.?minReadySeconds",
    "?spec.?revisionHistoryLimit",
    "?spec.?progressDeadlineSeconds",
    "?spec.?template.?spec",
    "?spec.?template.?metadata.?name",
    "?spec.?template.?metadata.?labels",
    "?spec.?template.?metadata.?finalizers",
];

const SUBRESOURCE: &str = "request.?subResource.orValue('')";
const RESTARTED: &str = "'kubectl.kubernetes.io/restartedAt'";

/// The contents of every kind that is held.
const CONTENTS: [&str; 18] = [
    "?spec",
    "?data",
    "?binaryData",
    "?type",
    "?immutable",
    "?rules",
    "?roleRef",
    "?subjects",
    "?aggregationRule",
    "?webhooks",
    "?endpoints",
    "?addressType",
    "?ports",
    "?subsets",
    "?secrets",
    "?imagePullSecrets",
    "?automountServiceAccountToken",
    "?status",
];

fn same(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("object.{field} == oldObject.{field}")).collect::<Vec<_>>().join(" && ")
}

/// Who asks. For Tagout's own account the name alone is not enough: its pods' tokens say which pod it is.
fn who(place: &Place, leave: &Leave) -> Vec<Variable> {
    let account = format!("system:serviceaccount:{}:tagout", place.namespace);
    let controllers = CONTROLLERS.iter().map(|name| format!("system:serviceaccount:kube-system:{name}"));
    let kubernetes: Vec<String> = COMPONENTS.iter().map(|name| (*name).to_owned()).chain(controllers).collect();
    // Whoever writes all Secrets anew, for another key of encryption say, changes nothing.
    let nothing = [&METADATA[..], &["metadata.?annotations"], &CONTENTS[..]].concat();
    vec![
        variable("unlocked", among(&leave.unlocked)),
        variable(
            "tagout",
            format!(
                "{} && 'authentication.kubernetes.io/pod-uid' in request.userInfo.?extra.orValue({{}})",
                among(&[account])
            ),
        ),
        variable("kubernetes", among(&kubernetes)),
        variable(
            "node",
            "request.userInfo.username.startsWith('system:node:') && 'system:nodes' in \
             request.userInfo.?groups.orValue([])"
                .to_owned(),
        ),
        variable("same", format!("request.operation == 'UPDATE' && {}", same(&nothing))),
    ]
}

fn among(users: &[String]) -> String {
    format!("request.userInfo.username in {}", list(users))
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn lock(
    name: &str,
    place: &Place,
    resource_rules: Vec<NamedRuleWithOperations>,
    namespace_selector: LabelSelector,
    own: String,
    variables: Vec<Variable>,
    free: &str,
) -> Lock {
    let compiled = BTreeMap::from([(COMPILED_BY.to_owned(), COMPILER.to_string())]);
    let metadata = ObjectMeta { name: Some(name.to_owned()), annotations: Some(compiled), ..owned(place) };
    let policy = ValidatingAdmissionPolicy {
        metadata: metadata.clone(),
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_conditions: Some(vec![MatchCondition { name: "tagout.dev/own".to_owned(), expression: own }]),
            match_constraints: Some(MatchResources {
                exclude_resource_rules: None,
                match_policy: Some("Equivalent".to_owned()),
                namespace_selector: Some(namespace_selector),
                object_selector: Some(LabelSelector::default()),
                resource_rules: Some(resource_rules),
            }),
            variables: Some(variables),
            validations: Some(vec![validation(free)]),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        status: None,
    };
    let binding = ValidatingAdmissionPolicyBinding {
        metadata,
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(name.to_owned()),
            validation_actions: Some(vec!["Deny".to_owned()]),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        }),
    };
    Lock { policy, binding }
}

/// Whether a later version of Tagout compiled it.
pub fn is_newer(found: &ObjectMeta) -> bool {
    let by = found.annotations.as_ref().and_then(|all| all.get(COMPILED_BY)).and_then(|text| text.parse::<u32>().ok());
    by.is_some_and(|compiler| compiler > COMPILER)
}

fn rule(operations: &[&str], group: &str, resources: &[&str]) -> NamedRuleWithOperations {
    let texts = |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect());
    NamedRuleWithOperations {
        api_groups: texts(&[group]),
        api_versions: texts(&["*"]),
        operations: texts(operations),
        resource_names: None,
        resources: texts(resources),
        scope: Some("*".to_owned()),
    }
}

fn validation(expression: &str) -> Validation {
    Validation {
        expression: expression.to_owned(),
        message: Some(REFUSED.to_owned()),
        message_expression: None,
        reason: Some("Forbidden".to_owned()),
    }
}

fn variable(name: &str, expression: String) -> Variable {
    Variable { name: name.to_owned(), expression }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec_of(name: &str, leave: &Leave) -> ValidatingAdmissionPolicySpec {
        let all = locks(&Place { namespace: "tagout-system".to_owned(), ..Place::default() }, leave);
        let lock = all.into_iter().find(|lock| lock.policy.metadata.name.as_deref() == Some(name));
        lock.expect("it is one of them").policy.spec.expect("a spec")
    }

    fn expression(policy: &str, name: &str, leave: &Leave) -> String {
        let variables = spec_of(policy, leave).variables.into_iter().flatten();
        variables.into_iter().find(|variable| variable.name == name).expect("it is there").expression
    }

    fn unlocked_for(user: &str) -> String {
        expression(CLUSTER, "unlocked", &Leave { unlocked: vec![user.to_owned()], ..Leave::default() })
    }

    #[test]
    fn the_name_of_a_user_cannot_become_code() {
        assert_eq!(unlocked_for("ci"), r#"request.userInfo.username in ["ci"]"#);
        assert_eq!(
            unlocked_for("x\"] || true || \"\n\\"),
            r#"request.userInfo.username in ["x\"] || true || \"\n\\"]"#
        );
    }

    #[test]
    fn who_writes_certificates_writes_their_secrets_and_no_other() {
        let leave = Leave {
            secret_writers: vec!["cm\"".to_owned()],
            secrets: vec!["tagout-provided\"".to_owned()],
            ..Leave::default()
        };
        let writes = expression(HOME, "writesSecrets", &leave);
        assert!(writes.starts_with(r#"request.userInfo.username in ["cm\""] && "#), "{writes}");
        assert!(writes.contains(r#"it.metadata.name in ["tagout-provided\"", "tagout-ca"]"#), "{writes}");
        assert!(writes.contains("it.?type.orValue('') != 'kubernetes.io/service-account-token' && ("), "{writes}");
        for memory in MEMORY {
            assert!(!writes.contains(memory), "{writes}");
        }
        let nobody = expression(HOME, "writesSecrets", &Leave::default());
        assert!(nobody.starts_with("request.userInfo.username in [] && "), "{nobody}");
    }

    #[test]
    fn a_node_is_let_for_tokens_and_for_what_a_kubelet_writes_alone() {
        let spec = spec_of(HOME, &Leave::default());
        let free = &spec.validations.as_ref().expect("validations")[0].expression;
        assert_eq!(free.matches("variables.node").count(), 1, "{free}");
        assert!(free.contains("== 'token' ? variables.node :"), "{free}");
        let kubelet = expression(HOME, "kubelet", &Leave::default());
        assert!(kubelet.starts_with("variables.node && request.resource.resource == 'pods' && ("), "{kubelet}");
        let cluster = spec_of(CLUSTER, &Leave::default());
        assert!(!cluster.validations.expect("validations")[0].expression.contains("variables.node"));
    }

    #[test]
    fn a_later_version_is_told_by_its_mark() {
        let marked = |text: &str| ObjectMeta {
            annotations: Some([(COMPILED_BY.to_owned(), text.to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert!(is_newer(&marked(&(COMPILER + 1).to_string())));
        for other in [COMPILER.to_string(), "x".to_owned(), String::new()] {
            assert!(!is_newer(&marked(&other)), "{other}");
        }
        assert!(!is_newer(&ObjectMeta::default()));
    }
}
