use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Budget, Freeze, Period};

/// Which objects are protected, from which actions, and who may approve an exception.
///
/// Each rule becomes its own ValidatingWebhookConfiguration, `tagout-NAME`: what no rule names never leaves the API
/// server. Namespaces and objects are chosen by label, before anything is sent.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tagout.dev",
    version = "v1alpha1",
    kind = "ProtectionRule",
    status = "ProtectionRuleStatus",
    derive = "PartialEq",
    shortname = "prule",
    category = "tagout",
    doc = "A ProtectionRule says which objects are protected, from which actions, and who may approve an exception.",
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Audit, Warn or Enforce"
    ),
    printcolumn(
        name = "Approvers",
        type_ = "string",
        json_path = ".spec.approval.require[*].anyOf[*]",
        description = "Teams that may approve"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "True when the rule is right as it is written"
    ),
    printcolumn(
        name = "Enforced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Enforced')].status",
        description = "True when the API server refuses by this version of the rule"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')")
        .message("a rule's name is at most 63 characters, a-z, 0-9 and '-': it becomes part of a webhook's name"),
    validation = Rule::new("!has(self.spec.ceiling) || self.spec.actions.exists(action, action == 'Delete')")
        .message("a ceiling counts deletions: name the action Delete, too")
)]
#[serde(rename_all = "camelCase")]
pub struct ProtectionRuleSpec {
    /// What happens to a request that lacks approval. `Enforce` refuses it. `Warn` lets it pass and tells the caller.
    /// `Audit` lets it pass and only writes it to the API server's audit log and to Tagout's log and metrics.
    /// Default: Enforce.
    #[serde(default)]
    pub mode: Mode,

    /// The kinds that are protected, as in RBAC and webhook rules: plural names by API group.
    #[schemars(length(min = 1, max = 32))]
    pub resources: Vec<ResourceRule>,

    /// Only objects in namespaces with these labels; for a Namespace, its own labels. Cluster-scoped objects other than
    /// Namespaces always match. Absent or empty: every namespace but Tagout's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace_selector: LabelSelector,

    /// Only objects with these labels. Absent or empty: every object.
    #[serde(default, skip_serializing_if = "is_default")]
    pub object_selector: LabelSelector,

    /// What the rule leaves out. One matching entry is enough; within an entry everything that is said must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub except: Vec<Exception>,

    /// CEL conditions for what selectors and `except` cannot say; all must be true for the rule to apply. `object` and
    /// `oldObject` both mean the object as it stands before the request. `request` and `authorizer` cannot be used: an
    /// exemption by user name can be forged. Write `object.metadata.?labels['tier'].orValue('')`, not
    /// `object.metadata.labels['tier']`: a missing key is an error, and then the API server refuses the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub match_conditions: Vec<MatchCondition>,

    /// The actions that need approval. Written in when the rule is created, so that an action which a later version of
    /// Tagout knows never joins an existing rule by itself. Default: all but Evict, which drains do too.
    #[serde(default = "default_actions")]
    #[schemars(length(min = 1, max = 9))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(action, action != 'Loosen')")
            .message("Loosen cannot be named: every rule and team that is in force is guarded against it already")
    )]
    pub actions: Vec<Action>,

    /// What holds for objects that a living controller owns and would make anew. Default: Auto.
    #[serde(default, skip_serializing_if = "is_default")]
    pub owned: Owned,

    /// Deletions and evictions that need no approval because little goes. Absent: every one needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerate: Option<Tolerate>,

    /// How much may go without approval in a window: deletions, returns and evictions of namespaced objects. Absent:
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowance: Option<Budget>,

    /// How much may be deleted at all in a window, approved or not. What is above it waits, or breaks glass. Absent: any
    /// number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Budget>,

    /// For how long it is remembered what was destroyed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recreation: Recreation,

    /// Times in which nothing passes but an emergency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub freeze: Vec<Freeze>,

    /// Who may approve, how that is proven, and for how long an approval is good.
    pub approval: ApprovalTerms,

    /// What the API server does when Tagout cannot be reached: `Fail` refuses what it would have been asked about,
    /// `Ignore` lets it pass. Rules in mode Audit or Warn always behave as `Ignore`. Default: Fail.
    #[serde(default)]
    pub failure_policy: RuleFailurePolicy,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    Audit,
    Warn,
    #[default]
    Enforce,
}

/// Whether a rule covers what another object controls. Objects without a living controller are always covered.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owned {
    /// Pods, Jobs, Secrets, ConfigMaps, Services and Ingresses follow their living controller, which makes them anew.
    /// Everything else is covered.
    #[default]
    Auto,
    /// Whatever has a living controller follows it, workloads and claims too: for operators that delete and recreate them.
    Follow,
    /// Nothing follows.
    Include,
}

/// What is too small to ask a person about.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Tolerate {
    /// How many protected objects may go with one request, the object itself included. Only for namespaced objects, and
    /// only where everything that would go could be counted.
    #[schemars(range(min = 1, max = 1000), extend("format" = "int32"))]
    pub objects: u32,
}

/// The memory behind `Recreate`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Recreation {
    /// For how long after its deletion an object may not be made anew under the same name without approval, as a Go
    /// duration; at most 720h. Default: 24h.
    #[serde(default = "default_recreation_window")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s') && duration(self) <= duration('720h')"
    ).message("write a Go duration longer than 0s and at most 720h, like 24h"))]
    pub window: Period,
}

impl Default for Recreation {
    fn default() -> Self {
        Self { window: default_recreation_window() }
    }
}

/// How a statement is known to be its approver's.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// The API server's own authentication of whoever wrote the statement.
    #[default]
    Identity,
    /// A signature by a key that the team lists for the approver.
    Signature,
    /// A signature by a hardware key that somebody touched for it.
    HardwareKey,
}

impl Proof {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "Identity",
            Self::Signature => "Signature",
            Self::HardwareKey => "HardwareKey",
        }
    }
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleFailurePolicy {
    #[default]
    Fail,
    Ignore,
}

/// Kinds by API group and plural name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.apiGroups.all(g, g.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$'))")
        .message("name each API group ('' is the core group): '*' would protect everything by accident"),
    validation = Rule::new("self.resources.all(r, r.matches('^([*]|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$'))")
        .message("resources are plural names in lower case, like 'deployments'; subresources are covered by themselves"),
    validation = Rule::new(
        "!self.resources.exists(r, r == '*') || self.apiGroups.all(g, g.contains('.') && !g.endsWith('.k8s.io'))"
    ).message("'*' is for API groups of custom resources; name the kinds of a built-in group one by one"),
    validation = Rule::new(
        "!self.apiGroups.exists(g, !g.contains('.') || g.endsWith('.k8s.io')) || !self.resources.exists(r, r in \
         ['replicasets', 'replicationcontrollers', 'controllerrevisions', 'events', 'leases', 'endpoints', \
         'endpointslices', 'nodes', 'csinodes', 'persistentvolumes', 'volumeattachments', 'certificatesigningrequests', \
         'ipaddresses'])"
    ).message("controllers delete replicasets, controllerrevisions, events, leases, endpoints, nodes, persistentvolumes \
         and the like as daily work; protect what owns them: deployments, statefulsets, daemonsets, cronjobs, services, \
         persistentvolumeclaims (which protect the volumes behind them)"),
    validation = Rule::new("!self.apiGroups.exists(g, g == 'admissionregistration.k8s.io')")
        .message("the API server asks no webhook about webhook configurations and admission policies; guard them by RBAC"),
    validation = Rule::new("!self.apiGroups.exists(g, g == 'tagout.dev')")
        .message("rules and teams cannot be named by a rule: removing Tagout must stay possible; guard them by RBAC")
)]
pub struct ResourceRule {
    /// API groups; the core group is "".
    #[schemars(length(min = 1, max = 8), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub api_groups: Vec<String>,

    /// Plural names in lower case, like `deployments`. `*` means every kind of the groups, for groups of custom
    /// resources only.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resources: Vec<String>,
}

/// Objects that a rule leaves out.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.name) || has(self.annotation)")
        .message("say what to leave out: name: \"preview-*\", or annotation: example.com/key"),
    validation = Rule::new("!has(self.name) || self.name.matches('^[-A-Za-z0-9._:*]+$')")
        .message("a name is letters, digits, '-', '.', '_', ':' and '*' for any run of characters"),
    validation = Rule::new("!has(self.name) || !self.name.matches('^[*]+$')")
        .message("this would leave out everything; to switch a rule off use mode: Audit")
)]
pub struct Exception {
    /// Objects with this name; `*` stands for any run of characters, also none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,

    /// Objects that carry an annotation with this key, whatever its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = Rule::new("self.matches('^([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')")
        .message("an annotation's key is 'name' or 'prefix.example.com/name'"))]
    pub annotation: Option<String>,
}

/// A condition in CEL.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct MatchCondition {
    /// A name for messages, unique within the rule.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("a condition's name is a-z, 0-9 and '-'"))]
    pub name: String,

    /// The CEL expression; true means that the rule applies.
    #[schemars(length(min = 1, max = 2048))]
    pub expression: String,
}

/// Who may approve, and for how long.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.requireVerification) || !self.requireVerification || self.proof == 'HardwareKey'")
    .message("requireVerification is about hardware keys: it needs proof: HardwareKey"))]
pub struct ApprovalTerms {
    /// How an approval is known to be its author's, at least. `Identity`: the API server authenticated the person who
    /// wrote it; whoever may impersonate that person can write it too. `Signature`: signed with a key that the team
    /// lists for that person. `HardwareKey`: signed with a hardware key that was touched for this very approval.
    /// Default: Identity.
    #[serde(default)]
    pub proof: Proof,

    /// With proof `HardwareKey`: the key must also have verified its user, by PIN or fingerprint. Default: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require_verification: bool,

    /// Every entry must be met, each by people of its own: nobody counts twice.
    #[schemars(length(min = 1, max = 8))]
    pub require: Vec<Requirement>,

    /// Nobody approves their own request. Default: true.
    #[serde(default = "yes")]
    pub separate_from_requester: bool,

    /// The longest life of an approval, as a Go duration such as 30m or 2h; at most 168h. Default: 30m.
    #[serde(default = "default_valid_for")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s') && duration(self) <= duration('168h')"
    ).message("write a Go duration longer than 0s and at most 168h, like 30m or 2h"))]
    pub valid_for: Period,

    /// Who may pass this rule alone in an emergency: one person, with a reason, and with no weaker proof than the rule
    /// asks. Recorded and announced louder than anything else. Default: nobody.
    #[serde(default, skip_serializing_if = "is_default")]
    pub break_glass: BreakGlass,
}

/// The way through in an emergency.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlass {
    /// Names of ApproverTeams; one person of any of them is enough.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub any_of: Vec<String>,
}

/// People of one or several teams.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// Names of ApproverTeams; people of any of them count.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub any_of: Vec<String>,

    /// How many different people are needed. Default: 1.
    #[serde(default = "one")]
    // Kubernetes knows no format `uint8`, and warns of it on every apply.
    #[schemars(range(min = 1, max = 8), extend("format" = "int32"))]
    pub count: u8,
}

/// What Tagout has made of the rule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProtectionRuleStatus {
    /// The generation of the rule that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The cluster's identity, which approvals name: the UID of its kube-system namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,

    /// What approvals with proof Identity must name: it is replaced whenever somebody could have planted one. Absent
    /// while Tagout makes sure that nobody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,

    /// What else the API server asks Tagout about for this rule, because what the rule covers goes with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub also_asks_about: Vec<String>,

    /// Kinds that the rule names and of which no deletion is remembered or counted, since Tagout may not read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub not_remembered: Vec<String>,

    /// What is used of the rule's budgets, the fullest first; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetStatus>,

    /// The freeze that lasts, or else the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeStatus>,

    /// `Ready`: the rule is right as it is written. `Enforced`: the API server refuses by this version of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How much of a budget is used.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BudgetStatus {
    /// `allowance` or `ceiling`.
    pub budget: String,
    /// Whose it is: a requester or a namespace; absent where it is the whole rule's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// How many places are taken.
    #[schemars(extend("format" = "int32"))]
    pub used: u32,
    /// How many places there are.
    #[schemars(extend("format" = "int32"))]
    pub count: u32,
    /// When the next place is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub next_free: Option<Timestamp>,
}

/// A freeze that lasts, or that comes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FreezeStatus {
    /// Whether it lasts now.
    pub frozen: bool,
    /// When that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changes: Option<Timestamp>,
    /// What whoever is refused reads.
    pub reason: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn yes() -> bool {
    true
}

fn one() -> u8 {
    1
}

fn default_actions() -> Vec<Action> {
    Action::DEFAULT.to_vec()
}

fn default_recreation_window() -> Period {
    Period::new("24h")
}

fn default_valid_for() -> Period {
    Period::new("30m")
}
