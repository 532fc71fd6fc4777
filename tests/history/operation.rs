//! One thing that somebody tries.

use controlplane::User;

use super::world::{Action, Key, Kind, Place, Target, Team};

#[derive(Clone, Debug)]
pub enum Operation {
    Create {
        by: User,
        key: Key,
        gold: bool,
    },
    Delete {
        by: User,
        key: Key,
        how: Deleting,
    },
    DeleteCollection {
        by: User,
        kind: Kind,
        place: Place,
        gold: bool,
        dry_run: bool,
    },
    CreateNamespace {
        by: User,
        place: Place,
    },
    DeleteNamespace {
        by: User,
        place: Place,
        dry_run: bool,
    },
    /// Whether rules select the namespace.
    Select {
        by: User,
        place: Place,
        inside: bool,
    },
    Mark {
        by: User,
        key: Key,
        gold: bool,
    },
    Scale {
        by: User,
        key: Key,
        to: u8,
        route: Route,
    },
    Suspend {
        by: User,
        key: Key,
        suspend: bool,
    },
    Own {
        by: User,
        key: Key,
        owner: Option<Owner>,
    },
    Hold {
        by: User,
        key: Key,
        hold: bool,
    },
    Empty {
        by: User,
        key: Key,
    },
    Fill {
        by: User,
        key: Key,
    },
    Evict {
        by: User,
        key: Key,
        dry_run: bool,
    },
    Approve {
        by: User,
        target: Target,
        draft: Draft,
    },
    /// Only the label, which presents what an annotation says.
    Present {
        by: User,
        target: Target,
    },
    /// Takes the label off, or the annotation.
    Withdraw {
        by: User,
        target: Target,
        label: bool,
    },
    /// An `Approval` beside the object.
    Detach {
        by: User,
        target: Target,
        draft: Draft,
    },
    Edit {
        by: User,
        rule: usize,
        edit: Edit,
        approvers: Vec<User>,
    },
    /// One of Tagout's processes ends at once, and another begins.
    Kill,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Deleting {
    pub cascade: Cascade,
    pub dry_run: bool,
    pub precondition: Precondition,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cascade {
    #[default]
    Background,
    Foreground,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    #[default]
    None,
    /// The UID that it has.
    Own,
    /// One that it does not have.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Spec,
    Subresource,
}

/// The only owner that an object has from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name that the reference says.
    pub key: Key,
    /// Whether the reference has the UID of what has that name, or nobody's.
    pub real: bool,
    pub controller: bool,
}

/// What a statement says.
#[expect(clippy::struct_excessive_bools, reason = "each may be wrong by itself")]
#[derive(Clone, Debug)]
pub struct Draft {
    pub action: Action,
    pub approver: User,
    pub team: Team,
    pub about: About,
    pub life: Life,
    pub requester: Option<User>,
    pub delete_only: bool,
    pub break_glass: bool,
    pub reason: bool,
    /// About what is in the namespace.
    pub contents: bool,
    /// Names what goes along.
    pub names: bool,
    pub other_cluster: bool,
    pub other_epoch: bool,
    /// Beside those that are there already.
    pub beside: bool,
    /// With the label that presents it.
    pub presented: bool,
    /// By the field manager that says it is an act of its own.
    pub own_act: bool,
    /// Together with another change.
    pub smuggled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Current,
    /// What had the name before.
    Former,
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Good,
    Over,
    /// Longer than a rule allows.
    Long,
}

impl Draft {
    /// A good one, to be spoilt.
    pub fn of(action: Action, approver: User) -> Self {
        Self {
            action,
            approver,
            team: if approver == User::Carol { Team::Owners } else { Team::Approvers },
            about: About::Current,
            life: Life::Good,
            requester: None,
            delete_only: false,
            break_glass: false,
            reason: true,
            contents: false,
            names: true,
            other_cluster: false,
            other_epoch: false,
            beside: true,
            presented: true,
            own_act: true,
            smuggled: false,
        }
    }
}

/// A change of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// So many people.
    Count(u8),
    Kind(Kind, bool),
    Action(Action, bool),
}

impl Operation {
    /// The row of the report in which it is counted.
    pub fn row(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Delete { how: Deleting { dry_run: true, .. }, .. } => "delete, dry run",
            Self::Delete { how: Deleting { cascade: Cascade::Foreground, .. }, .. } => "delete, foreground",
            Self::Delete { how: Deleting { precondition: Precondition::None, .. }, .. } => "delete",
            Self::Delete { .. } => "delete, with a precondition",
            Self::DeleteCollection { .. } => "delete a collection",
            Self::CreateNamespace { .. } => "create a namespace",
            Self::DeleteNamespace { .. } => "delete a namespace",
            Self::Select { inside: true, .. } => "label a namespace into the rules",
            Self::Select { .. } => "label a namespace out of the rules",
            Self::Mark { gold: true, .. } => "label an object into a rule",
            Self::Mark { .. } => "label an object out of a rule",
            Self::Scale { to: 0, route: Route::Spec, .. } => "scale to 0",
            Self::Scale { to: 0, .. } => "scale to 0 by */scale",
            Self::Scale { .. } => "scale to 1",
            Self::Suspend { suspend: true, .. } => "suspend",
            Self::Suspend { .. } => "resume",
            Self::Own { owner: None, .. } => "take owners off",
            Self::Own { owner: Some(Owner { controller: true, .. }), .. } => "give a controller",
            Self::Own { .. } => "give an owner",
            Self::Hold { hold: true, .. } => "put a finalizer on",
            Self::Hold { .. } => "take a finalizer off",
            Self::Empty { .. } => "empty the data",
            Self::Fill { .. } => "fill the data",
            Self::Evict { .. } => "evict",
            Self::Approve { draft: Draft { break_glass: true, .. }, .. } => "break glass",
            Self::Approve { draft: Draft { contents: true, .. }, .. } => "approve the contents of a namespace",
            Self::Approve { .. } => "approve",
            Self::Present { .. } => "present an annotation",
            Self::Withdraw { .. } => "withdraw an approval",
            Self::Detach { .. } => "approve beside the object",
            Self::Edit { .. } => "change a rule",
            Self::Kill => "kill a replica",
        }
    }

    pub fn by(&self) -> User {
        match self {
            Self::Create { by, .. }
            | Self::Delete { by, .. }
            | Self::DeleteCollection { by, .. }
            | Self::CreateNamespace { by, .. }
            | Self::DeleteNamespace { by, .. }
            | Self::Select { by, .. }
            | Self::Mark { by, .. }
            | Self::Scale { by, .. }
            | Self::Suspend { by, .. }
            | Self::Own { by, .. }
            | Self::Hold { by, .. }
            | Self::Empty { by, .. }
            | Self::Fill { by, .. }
            | Self::Evict { by, .. }
            | Self::Approve { by, .. }
            | Self::Present { by, .. }
            | Self::Withdraw { by, .. }
            | Self::Detach { by, .. }
            | Self::Edit { by, .. } => *by,
            Self::Kill => User::Admin,
        }
    }
}
