//! The sentences of the documentation that the model is made of. Without one of them it is a wrong model, and the real
//! Tagout has to disagree with it within a few hundred operations: otherwise histories do not try what the sentence says.

use super::super::world::Action;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clause {
    Quorum,
    Separate,
    Requester,
    Expiry,
    Longest,
    Incarnation,
    SameAction,
    Names,
    ContentsOnly,
    Presented,
    Author,
    Member,
    OwnAct,
    NothingElse,
    Cluster,
    Epoch,
    Reason,
    BreakGlass,
    GoesAlong,
    WholeNamespace,
    Going,
    Follows,
    Controller,
    Collector,
    ScaleToZero,
    Evict,
    Reparent,
    Finalize,
    DiscardData,
    Unprotect,
    NamespaceLeaves,
    Recreate,
    ApprovedReturns,
    ForGood,
    Ceiling,
    Allowance,
    Tolerate,
    DryRun,
    Enforced,
    Loosen,
}

impl Clause {
    pub const ALL: [Self; 40] = [
        Self::Quorum,
        Self::Separate,
        Self::Requester,
        Self::Expiry,
        Self::Longest,
        Self::Incarnation,
        Self::SameAction,
        Self::Names,
        Self::ContentsOnly,
        Self::Presented,
        Self::Author,
        Self::Member,
        Self::OwnAct,
        Self::NothingElse,
        Self::Cluster,
        Self::Epoch,
        Self::Reason,
        Self::BreakGlass,
        Self::GoesAlong,
        Self::WholeNamespace,
        Self::Going,
        Self::Follows,
        Self::Controller,
        Self::Collector,
        Self::ScaleToZero,
        Self::Evict,
        Self::Reparent,
        Self::Finalize,
        Self::DiscardData,
        Self::Unprotect,
        Self::NamespaceLeaves,
        Self::Recreate,
        Self::ApprovedReturns,
        Self::ForGood,
        Self::Ceiling,
        Self::Allowance,
        Self::Tolerate,
        Self::DryRun,
        Self::Enforced,
        Self::Loosen,
    ];

    /// Where it stands, and in which words.
    pub fn sentence(self) -> (&'static str, &'static str) {
        match self {
            Self::Quorum => ("approvals.md", "Everybody counts once, whatever the order"),
            Self::Separate => ("rules.md", "nobody approves their own request."),
            Self::Requester => ("approvals.md", "the only user who may act on it"),
            Self::Expiry => ("checks.md", "it expired at …"),
            Self::Longest => ("rules.md", "longest life of an approval"),
            Self::Incarnation => ("approvals.md", "one that is made anew under the same name is not approved"),
            Self::SameAction => ("approvals.md", "an approval of one action is none of another"),
            Self::Names => {
                ("approvals.md", "An approval that names nothing counts only where nothing protected goes along.")
            }
            Self::ContentsOnly => (
                "approvals.md",
                "now or later, and of what goes with it, one by one or by `helm uninstall`, and not of the Namespace itself",
            ),
            Self::Presented => ("checks.md", "An annotation without the label does not count"),
            Self::Author => ("checks.md", "approve in your own name"),
            Self::Member => ("checks.md", "you are not in team …"),
            Self::OwnAct => ("checks.md", "an approval is given by an act of its own and this write was not one"),
            Self::NothingElse => ("checks.md", "a write that approves changes nothing else"),
            Self::Cluster => ("checks.md", "the statement names another cluster"),
            Self::Epoch => ("checks.md", "the statement names a time (its epoch) that is over"),
            Self::Reason => ("checks.md", "a statement that breaks glass says why; give a reason"),
            Self::BreakGlass => ("approvals.md", "one of their people passes it alone in an emergency"),
            Self::GoesAlong => {
                ("rules.md", "a deletion needs what every rule of every protected object that would go along needs")
            }
            Self::WholeNamespace => (
                "rules.md",
                "A rule about what is in namespaces is also asked when a Namespace is deleted with something of that in it.",
            ),
            Self::Going => ("rules.md", "What is already being deleted is asked about no more"),
            Self::Follows => ("rules.md", "free while the controller lives"),
            Self::Controller => {
                ("rules.md", "a pod, Secret, ConfigMap, Service or Ingress gets a controller that it did not have")
            }
            Self::Collector => ("rules.md", "the dependent stays, and the collector is refused"),
            Self::ScaleToZero => ("rules.md", "a workload is left without pods: `spec.replicas` falls to 0"),
            Self::Evict => ("rules.md", "a pod is evicted."),
            Self::Reparent => (
                "rules.md",
                "owner references are written so that an owner which joins is not there, is going or has another UID",
            ),
            Self::Finalize => ("rules.md", "a finalizer is taken off an object that is not being deleted"),
            Self::DiscardData => ("rules.md", "of a Secret or ConfigMap no key that had a value keeps one"),
            Self::Unprotect => ("rules.md", "no rule, or one rule less, would cover it: a label comes off"),
            Self::NamespaceLeaves => ("rules.md", "labels leave the rule"),
            Self::Recreate => (
                "rules.md",
                "something is made under the name of what was destroyed not long ago, and nobody approved that it returns",
            ),
            Self::ApprovedReturns => ("rules.md", "who approves that something goes approves that it returns"),
            Self::ForGood => ("approvals.md", "it is free only if the others alone satisfy the rule"),
            Self::Ceiling => ("rules.md", "every deletion, approved, tolerated and by allowance"),
            Self::Allowance => ("rules.md", "how much may go without approval in a time"),
            Self::Tolerate => ("rules.md", "so few protected objects, 1 to 1000, may go with one request unasked"),
            Self::DryRun => ("rules.md", "Dry-runs look and take nothing."),
            Self::Enforced => ("rules.md", "`Warn` lets it pass"),
            Self::Loosen => ("rules.md", "what makes a rule or team weaker is an action of its own, `Loosen`"),
        }
    }

    /// The one by which an action is refused at all.
    pub fn of(action: Action) -> Option<Self> {
        match action {
            Action::ScaleToZero => Some(Self::ScaleToZero),
            Action::Evict => Some(Self::Evict),
            Action::Reparent => Some(Self::Reparent),
            Action::Finalize => Some(Self::Finalize),
            Action::DiscardData => Some(Self::DiscardData),
            Action::Unprotect => Some(Self::Unprotect),
            Action::Recreate => Some(Self::Recreate),
            Action::Loosen => Some(Self::Loosen),
            Action::Delete => None,
        }
    }
}
