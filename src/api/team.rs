use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The people who may approve what rules protect.
///
/// Only people: service accounts, nodes and everything else whose name begins with `system:` never approve.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "tagout.dev",
    version = "v1alpha1",
    kind = "ApproverTeam",
    status = "ApproverTeamStatus",
    derive = "PartialEq",
    shortname = "ateam",
    category = "tagout",
    doc = "An ApproverTeam names the people who may approve what rules protect.",
    printcolumn(name = "Groups", type_ = "string", json_path = ".spec.groups"),
    printcolumn(name = "Members", type_ = "string", json_path = ".spec.members[*].user"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "True when Tagout has read the team as it is written"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')")
        .message("a team's name is at most 63 characters, a-z, 0-9 and '-'")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.groups) > 0 || size(self.members) > 0")
    .message("a team needs at least one group or member; delete the team to take its approvals away"))]
pub struct ApproverTeamSpec {
    /// Groups whose people may approve, as the API server's authentication names them, for example `oidc:senior-sre`.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(g, !g.startsWith('system:'))")
            .message("groups that begin with 'system:' are Kubernetes' own and hold machines; name a group of people")
    )]
    pub groups: Vec<String>,

    /// People who may approve whatever their groups.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["user".into()]))]
    pub members: Vec<Member>,

    /// Keys of this team that do not count any more, by fingerprint as `ssh-keygen -l` prints it.
    /// Adding one needs no approval.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(f, f.matches('^SHA256:[A-Za-z0-9+/]{43}$'))")
            .message("write a key's fingerprint, as ssh-keygen -l prints it: SHA256: and 43 letters")
    )]
    pub revoked_keys: Vec<String>,

    /// Approvals by people of this team that do not count any more. Adding one needs no approval.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["statement".into()]))]
    pub revoked: Vec<Revocation>,
}

/// A person.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The user name, as the API server's authentication gives it (`kubectl auth whoami`).
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("!self.startsWith('system:')")
        .message("names that begin with 'system:' are accounts of machines; name a person"))]
    pub user: String,

    /// The keys with which this person signs approvals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["publicKey".into()]))]
    pub keys: Vec<MemberKey>,
}

/// A public key of a person.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MemberKey {
    /// The key as ssh-keygen writes it to a file that ends in .pub: `sk-ssh-ed25519@openssh.com AAAA… comment`. Types:
    /// sk-ssh-ed25519, sk-ecdsa-sha2-nistp256 (hardware keys), ssh-ed25519, ecdsa-sha2-nistp256.
    #[schemars(length(min = 1, max = 1024))]
    pub public_key: String,

    /// Approvals dated earlier do not count. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_after: Option<Time>,

    /// Nothing counts from this moment on, and no approval dated later. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_before: Option<Time>,
}

/// An approval that does not count any more.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// The hash of the statement's text, as `kubectl tagout get approvals -o json` and `verify` print it.
    #[schemars(length(max = 80))]
    #[x_kube(validation = Rule::new("self.matches('^sha256:[0-9a-f]{64}$')").message("write sha256: and 64 hexadecimal digits"))]
    pub statement: String,

    /// When the statement ends by itself. From then on the entry can be removed without approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// What Tagout has made of the team.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ApproverTeamStatus {
    /// The generation of the team that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: Tagout has read the team as it is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl ApproverTeamSpec {
    pub fn has(&self, user: &str, groups: &[impl AsRef<str>]) -> bool {
        self.members.iter().any(|member| member.user == user)
            || groups.iter().any(|group| self.groups.iter().any(|own| own == group.as_ref()))
    }
}
