//! Everything that doctor looks at, read once, as its user.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role as OneRole, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{ListParams, PostParams};
use kube::core::{DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

use super::finding::{Check, Unread};
use super::own;
use super::provider::Provider;
use super::rbac::{Binding, Role};
use crate::api::{kind_name, kind_parts};
use crate::cli::approvals::{self, OpenApproval, Unlisted};
use crate::cli::cluster::{Setting, plain};
use crate::cli::connection::Cluster;
use crate::cli::kinds::Kinds;
use crate::cli::status::LockLine;
use crate::entries::{LOCKS, Origin, SHARED, origin};
use crate::guard::Rule;

/// The cluster as it is when doctor comes. What is absent could not be read, and [`Snapshot::unread`] says why.
pub struct Snapshot {
    pub setting: Setting,
    /// With all groups, Kubernetes' own too.
    pub groups: Vec<String>,
    /// The UID of the kube-system namespace.
    pub cluster: Option<String>,
    /// Where Tagout lives.
    pub home: String,
    pub roles: Option<Vec<Role>>,
    pub bindings: Option<Vec<Binding>>,
    pub outside: Outside,
    pub requests: Option<Vec<CertificateSigningRequest>>,
    /// What says in EKS who is whom.
    pub aws_auth: Option<String>,
    pub validating: Option<Vec<ValidatingWebhookConfiguration>>,
    pub mutating: Option<Vec<MutatingWebhookConfiguration>>,
    pub mutating_policies: Option<Vec<DynamicObject>>,
    pub mutating_bindings: Option<Vec<DynamicObject>>,
    pub lock: LockLine,
    /// The policies that keep Tagout, as far as they are there.
    pub policies: Vec<own::Found>,
    pub namespaces: Option<Vec<ObjectMeta>>,
    /// Of namespaces, by name: every object asks for those of its own.
    labels: BTreeMap<String, BTreeMap<String, String>>,
    /// By kind, what rules name; without the kinds that could not be listed.
    pub objects: BTreeMap<(String, String), Vec<Seen>>,
    pub approvals: Vec<OpenApproval>,
    pub apis: Option<Vec<APIService>>,
    /// Group and version of what can be deleted; absent where the API does not answer.
    pub deletable: Option<BTreeMap<(String, String), bool>>,
    pub server: Option<String>,
    /// Tagout's own.
    pub pods: Option<Vec<Pod>>,
    pub secrets_unseen: bool,
    pub unread: Vec<Unread>,
}

/// Signs that others than RBAC allow things, too.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Why the API server cannot list its user's rights in full.
    pub incomplete: Option<String>,
    /// Whether a user is allowed to delete whom nobody knows.
    pub allows_nobody: bool,
}

/// An object, without what is in it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: Vec<String>,
    pub owners: Vec<OwnerReference>,
}

const PAGE: u32 = 500;

/// More objects of one kind than this tell nothing new, and take long.
const MOST: usize = 50_000;

const LISTS_AT_ONCE: usize = 8;

impl Snapshot {
    pub async fn read(at: &Cluster) -> anyhow::Result<Self> {
        let client = &at.client;
        let setting = Setting::read(client).await?;
        let mut unread = Vec::new();
        let (validating, mutating, namespaces, roles, cluster_roles, bindings, cluster_bindings, requests, apis) = tokio::join!(
            pages(Api::<ValidatingWebhookConfiguration>::all(client.clone())),
            pages(Api::<MutatingWebhookConfiguration>::all(client.clone())),
            metadata(Api::<Namespace>::all(client.clone())),
            pages(Api::<OneRole>::all(client.clone())),
            pages(Api::<ClusterRole>::all(client.clone())),
            pages(Api::<RoleBinding>::all(client.clone())),
            pages(Api::<ClusterRoleBinding>::all(client.clone())),
            pages(Api::<CertificateSigningRequest>::all(client.clone())),
            pages(Api::<APIService>::all(client.clone())),
        );
        let mut keep = Keep(&mut unread);
        let validating = keep.of(Check::Admission, "validatingwebhookconfigurations", validating);
        let home = validating.iter().flatten().find_map(home).unwrap_or_else(|| "tagout-system".to_owned());
        let mutating = keep.of(Check::Admission, "mutatingwebhookconfigurations", mutating);
        let namespaces = keep.of(Check::Namespaces, "namespaces", namespaces);
        let roles = both(
            keep.of(Check::Access, "roles", roles).map(|all| all.into_iter().map(namespaced_role).collect()),
            keep.of(Check::Access, "clusterroles", cluster_roles)
                .map(|all| all.into_iter().map(cluster_role).collect()),
        );
        let bindings = both(
            keep.of(Check::Access, "rolebindings", bindings)
                .map(|all| all.into_iter().map(|one| binding(one.metadata, one.role_ref, one.subjects)).collect()),
            keep.of(Check::Access, "clusterrolebindings", cluster_bindings)
                .map(|all| all.into_iter().map(|one| binding(one.metadata, one.role_ref, one.subjects)).collect()),
        );
        let requests = keep.of(Check::Access, "certificatesigningrequests", requests);
        let apis = keep.of(Check::Versions, "apiservices", apis);

        let (pods_api, own_pods) = (Api::<Pod>::namespaced(client.clone(), &home), own_pods());
        let (groups, outside, aws_auth, pods, deletable, server, lock, locks, policies, policy_bindings) = tokio::join!(
            groups(client),
            outside(client),
            aws_auth(client),
            pods_api.list(&own_pods),
            deletable(client),
            client.apiserver_version(),
            LockLine::read(client),
            locks(client),
            dynamic(client, &setting.kinds, "mutatingadmissionpolicies"),
            dynamic(client, &setting.kinds, "mutatingadmissionpolicybindings"),
        );
        let groups = keep.of(Check::Access, "who asks", groups).unwrap_or_default();
        let outside = keep.of(Check::Access, "whether somebody unknown is allowed", outside).unwrap_or_default();
        let aws_auth = keep.of(Check::Access, "configmap kube-system/aws-auth", aws_auth).flatten();
        let pods = keep.of(Check::Versions, &format!("pods in {home}"), pods).map(|list| list.items);
        let deletable = keep.of(Check::Versions, "what the cluster serves", deletable);
        let server = keep.of(Check::Versions, "the API server's version", server).map(|info| info.git_version);
        let mutating_policies = keep.of(Check::Admission, "mutatingadmissionpolicies", policies);
        let mutating_bindings = keep.of(Check::Admission, "mutatingadmissionpolicybindings", policy_bindings);

        let everywhere = Cluster { client: client.clone(), namespace: at.namespace.clone(), namespace_given: false };
        let (approvals, unlisted) = approvals::open(&everywhere, &setting).await;
        let objects = objects(client, &setting, &mut unread).await;
        let secrets_unseen = remember_unlisted(&setting.kinds, unlisted, &mut unread);
        unread.extend(setting.protection.unreadable_teams.iter().map(|(name, reason)| Unread {
            check: Check::Teams,
            what: format!("approverteam {name}"),
            reason: reason.clone(),
        }));
        if let LockLine::Unknown { reason } = &lock
            && !reason.starts_with("the policy")
        {
            let what = "the policies that keep Tagout".to_owned();
            unread.push(Unread { check: Check::Tagout, what, reason: reason.clone() });
        }
        let uid = |all: &Vec<ObjectMeta>| {
            all.iter().find(|one| one.name.as_deref() == Some("kube-system")).and_then(|one| one.uid.clone())
        };
        Ok(Self {
            cluster: namespaces.as_ref().and_then(uid),
            labels: labels(namespaces.as_deref().unwrap_or_default()),
            setting,
            groups,
            home,
            roles,
            bindings,
            outside,
            requests,
            aws_auth,
            validating,
            mutating,
            mutating_policies,
            mutating_bindings,
            lock,
            policies: locks,
            namespaces,
            objects,
            approvals,
            apis,
            deletable,
            server,
            pods,
            secrets_unseen,
            unread,
        })
    }

    pub fn now(&self) -> Timestamp {
        self.setting.now
    }

    /// The rules that can be read, as they are in force.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.setting.rules().rules.values().flatten()
    }

    pub fn labels_of(&self, namespace: &str) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.labels.get(namespace).unwrap_or(&NONE)
    }

    /// Who runs this cluster, where that can be known.
    pub fn provider(&self) -> Option<Provider> {
        self.server.as_deref().and_then(Provider::of)
    }

    /// From which rule the API server's entry for one was made.
    pub fn origin(&self, rule: &str) -> Option<Origin> {
        let name = crate::entries::configuration_name(rule);
        self.validating.iter().flatten().find(|one| one.name_any() == name).and_then(origin)
    }
}

fn labels(namespaces: &[ObjectMeta]) -> BTreeMap<String, BTreeMap<String, String>> {
    let labels = |one: &ObjectMeta| (one.name.clone().unwrap_or_default(), one.labels.clone().unwrap_or_default());
    namespaces.iter().map(labels).collect()
}

/// Remembers of which kinds nobody can tell what is approved. Who may not list Secrets does not have to: returns whether
/// that is so, and forgets what else was said of it.
fn remember_unlisted(kinds: &Kinds, unlisted: Vec<Unlisted>, unread: &mut Vec<Unread>) -> bool {
    let mut secrets_unseen = false;
    for one in unlisted {
        let (plural, group) = kind_parts(&one.kind);
        if kinds.named(group, plural).is_empty() {
            // What the cluster does not have carries no approvals.
        } else if one.kind == "secrets" {
            secrets_unseen = true;
        } else {
            let what = format!("approvals on {}", one.kind);
            unread.push(Unread { check: Check::Approvals, what, reason: one.reason });
        }
    }
    unread.retain(|one| one.what != "secrets");
    secrets_unseen
}

/// Keeps what was read, and remembers what was not.
struct Keep<'u>(&'u mut Vec<Unread>);

impl Keep<'_> {
    fn of<T>(&mut self, check: Check, what: &str, read: kube::Result<T>) -> Option<T> {
        let remember = |error| {
            let reason = plain(error).to_string();
            self.0.push(Unread { check, what: what.to_owned(), reason });
        };
        read.map_err(remember).ok()
    }
}

fn home(configuration: &ValidatingWebhookConfiguration) -> Option<String> {
    let shared = configuration.name_any() == SHARED;
    let mut services = configuration.webhooks.iter().flatten().filter_map(|one| one.client_config.service.as_ref());
    services.next().filter(|_| shared).map(|service| service.namespace.clone())
}

async fn pages<K>(api: Api<K>) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let (mut all, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page.continue_token = Some(next),
            None => return Ok(all),
        }
    }
}

async fn metadata<K>(api: Api<K>) -> kube::Result<Vec<ObjectMeta>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let (mut all, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = api.list_metadata(&page).await?;
        all.extend(list.items.into_iter().map(|one: PartialObjectMeta<K>| one.metadata));
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) if all.len() < MOST => page.continue_token = Some(next),
            _ => return Ok(all),
        }
    }
}

fn both<T>(one: Option<Vec<T>>, other: Option<Vec<T>>) -> Option<Vec<T>> {
    let mut all = one?;
    all.extend(other?);
    Some(all)
}

fn namespaced_role(role: OneRole) -> Role {
    Role { namespace: role.metadata.namespace.clone(), name: role.name_any(), rules: role.rules.unwrap_or_default() }
}

fn cluster_role(role: ClusterRole) -> Role {
    Role { namespace: None, name: role.name_any(), rules: role.rules.unwrap_or_default() }
}

fn binding(
    metadata: ObjectMeta,
    role: k8s_openapi::api::rbac::v1::RoleRef,
    subjects: Option<Vec<k8s_openapi::api::rbac::v1::Subject>>,
) -> Binding {
    Binding { metadata, role_kind: role.kind, role: role.name, subjects: subjects.unwrap_or_default() }
}

async fn groups(client: &Client) -> kube::Result<Vec<String>> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    Ok(review.status.and_then(|status| status.user_info).and_then(|user| user.groups).unwrap_or_default())
}

async fn outside(client: &Client) -> kube::Result<Outside> {
    let rules: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some("kube-system".to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let status = rules.create(&PostParams::default(), &review).await?.status;
    let incomplete =
        status.filter(|status| status.incomplete).map(|status| status.evaluation_error.unwrap_or_default());
    // Nobody has this name; whoever allows it a deletion allows it to everybody.
    let asked = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some("nobody.doctor.tagout.dev".to_owned()),
            groups: Some(vec!["system:authenticated".to_owned()]),
            resource_attributes: Some(ResourceAttributes {
                verb: Some("delete".to_owned()),
                group: Some("apps".to_owned()),
                resource: Some("deployments".to_owned()),
                namespace: Some("kube-system".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let status = reviews.create(&PostParams::default(), &asked).await?.status;
    Ok(Outside { incomplete, allows_nobody: status.is_some_and(|status| status.allowed) })
}

/// What cannot be read of them, [`LockLine`] says.
async fn locks(client: &Client) -> Vec<own::Found> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let mut found = Vec::new();
    for name in LOCKS {
        if let (Ok(Some(policy)), Ok(Some(binding))) = (policies.get_opt(name).await, bindings.get_opt(name).await) {
            found.push((policy, binding));
        }
    }
    found
}

async fn aws_auth(client: &Client) -> kube::Result<Option<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let found = maps.get_opt("aws-auth").await?;
    Ok(found.and_then(|map| map.data).map(|data| data.into_values().collect::<Vec<_>>().join("\n")))
}

fn own_pods() -> ListParams {
    ListParams::default().labels("app.kubernetes.io/name=tagout")
}

async fn deletable(client: &Client) -> kube::Result<BTreeMap<(String, String), bool>> {
    let mut deletable = BTreeMap::new();
    for group in client.list_api_groups_aggregated().await?.items {
        let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
        for version in group.versions {
            // What the API server itself only remembers is not known.
            if version.freshness.as_deref() == Some("Stale") {
                continue;
            }
            let delete = |verbs: &[String]| verbs.iter().any(|verb| verb.starts_with("delete"));
            let offers = version.resources.iter().any(|resource| delete(&resource.verbs));
            deletable.insert((name.clone(), version.version.unwrap_or_default()), offers);
        }
    }
    Ok(deletable)
}

/// What older API servers do not have is none.
async fn dynamic(client: &Client, kinds: &Kinds, plural: &str) -> kube::Result<Vec<DynamicObject>> {
    let Some(kind) = kinds.named("admissionregistration.k8s.io", plural).into_iter().next() else {
        return Ok(Vec::new());
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource);
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Whatever rules name, without contents.
async fn objects(
    client: &Client,
    setting: &Setting,
    unread: &mut Vec<Unread>,
) -> BTreeMap<(String, String), Vec<Seen>> {
    let named: BTreeSet<_> = setting.rules().rules.values().flatten().flat_map(Rule::kinds).collect();
    let kinds = named.into_iter().flat_map(|(group, plural)| setting.kinds.named(group, plural));
    let mut lists = stream::iter(kinds)
        .map(|kind| async move {
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource);
            let mut all: Vec<Seen> = Vec::new();
            let mut page = ListParams::default().limit(PAGE);
            loop {
                match api.list_metadata(&page).await {
                    Err(error) => return (kind, Err(plain(error).to_string())),
                    Ok(list) => {
                        all.extend(list.items.into_iter().map(|one| seen(one.metadata)));
                        match list.metadata.continue_.filter(|next| !next.is_empty()) {
                            Some(_) if all.len() >= MOST => {
                                return (kind, Err(format!("there are more than {MOST} of them")));
                            }
                            Some(next) => page.continue_token = Some(next),
                            None => return (kind, Ok(all)),
                        }
                    }
                }
            }
        })
        .buffer_unordered(LISTS_AT_ONCE);
    let mut found = BTreeMap::new();
    while let Some((kind, list)) = lists.next().await {
        let (group, plural) = (kind.resource.group.clone(), kind.resource.plural.clone());
        match list {
            Ok(all) => drop(found.insert((group, plural), all)),
            Err(reason) => unread.push(Unread { check: Check::Rules, what: kind_name(&group, &plural), reason }),
        }
    }
    found
}

fn seen(metadata: ObjectMeta) -> Seen {
    Seen {
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default().into_keys().collect(),
        owners: metadata.owner_references.unwrap_or_default(),
    }
}
