//! Who acts on the control plane.

/// A person, a pipeline or an agent with a token of its own.
///
/// Everyone has every right they use: the story the tests tell is that of people who *may* delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Admin,
    Alice,
    Bob,
    /// A person outside the group that signs.
    Carol,
    Ci,
    Agent,
}

/// The groups that are bound to `cluster-admin`; `system:masters` needs no binding.
pub(crate) const GROUPS_WITH_EVERY_RIGHT: [&str; 3] = ["senior-sre", "developers", "ci"];

/// kwok speaks as a node does, so that the removal of a pod carries the name it has in a cluster.
pub(crate) const NODES_USER: &str = "system:node:node-1";

/// Kubernetes itself gives this name what it needs.
pub(crate) const PROXY_USER: &str = "system:kube-proxy";

pub(crate) const CONTROLLERS_USER: &str = "system:kube-controller-manager";

pub(crate) const SCHEDULER_USER: &str = "system:kube-scheduler";

impl User {
    pub const ALL: [Self; 6] = [Self::Admin, Self::Alice, Self::Bob, Self::Carol, Self::Ci, Self::Agent];

    /// The name the API server knows the user by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Alice => "alice@example.com",
            Self::Bob => "bob@example.com",
            Self::Carol => "carol@example.com",
            Self::Ci => "ci-deployer",
            Self::Agent => "agent-7",
        }
    }

    pub fn group(self) -> &'static str {
        match self {
            Self::Admin | Self::Agent => "system:masters",
            Self::Alice | Self::Bob => "senior-sre",
            Self::Carol => "developers",
            Self::Ci => "ci",
        }
    }
}

/// Everyone the API server knows by a token: the token is the name.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    everyone().into_iter().map(|(name, _)| name)
}

/// The file of `--token-auth-file`: token, user, uid, groups.
pub(crate) fn token_file() -> String {
    let line = |(name, group)| format!("{name},{name},{name},{group}\n");
    everyone().into_iter().map(line).collect::<Vec<_>>().concat()
}

fn everyone() -> Vec<(&'static str, &'static str)> {
    let mut everyone = User::ALL.map(|user| (user.name(), user.group())).to_vec();
    everyone.extend([(CONTROLLERS_USER, ""), (SCHEDULER_USER, ""), (PROXY_USER, ""), (NODES_USER, "system:nodes")]);
    everyone
}
