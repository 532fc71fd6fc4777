use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One way to destroy something, whatever the verb.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// DELETE of the object, alone or as part of a collection, and of what takes it along: its namespace, its owner, the
    /// definition of its kind, the volume behind a claim.
    Delete,
    /// CREATE of what was destroyed not long ago without anybody's approval, or for good.
    Recreate,
    /// Whatever leaves a workload without pods: replicas set to 0 by any route, suspending it, placing it on nodes that
    /// there are not, deleting the ReplicaSet of a paused Deployment.
    ScaleToZero,
    /// Eviction of a pod. Only where a rule names it: drains evict.
    Evict,
    /// An owner that is not there or is going: the garbage collector would then delete the object.
    Reparent,
    /// A finalizer taken off an object that is not going.
    Finalize,
    /// What makes a later, harmless looking deletion destroy data: reclaim, retention and deletion policies, a volume's
    /// claim, all data of a Secret or ConfigMap.
    DiscardData,
    /// A change by which the object or its namespace is not protected any more, by whatever route.
    Unprotect,
    /// A rule or team becomes weaker. Guarded always, whatever rules say.
    Loosen,
    /// What makes Tagout work is changed, by a user and for a time: its configurations, what runs in its namespace. A rule
    /// that names it says who decides; Tagout locks itself while one does.
    Unlock,
}

impl Action {
    /// What a rule guards against that does not say it: everything but what daily work does too.
    pub const DEFAULT: [Self; 7] = [
        Self::Delete,
        Self::Recreate,
        Self::ScaleToZero,
        Self::Reparent,
        Self::Finalize,
        Self::DiscardData,
        Self::Unprotect,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Recreate => "Recreate",
            Self::ScaleToZero => "ScaleToZero",
            Self::Evict => "Evict",
            Self::Reparent => "Reparent",
            Self::Finalize => "Finalize",
            Self::DiscardData => "DiscardData",
            Self::Unprotect => "Unprotect",
            Self::Loosen => "Loosen",
            Self::Unlock => "Unlock",
        }
    }
}
