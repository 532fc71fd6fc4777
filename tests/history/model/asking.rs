//! What an action needs, and whether it has it.

use std::collections::BTreeSet;

use controlplane::User;

use super::super::world::{Action, Key, Kind, Target, Team};
use super::{Clause, Deletion, Entry, Id, Limit, Model, Object, Per, Rule, Statement};

/// What is asked for.
pub(super) struct Request<'m> {
    pub action: Action,
    pub target: Target,
    pub id: Id,
    pub requester: User,
    /// The rules that have a say.
    pub rules: BTreeSet<usize>,
    /// What goes with it.
    pub along: BTreeSet<Key>,
    /// Of a return: what is remembered.
    pub deleted: Option<&'m Deletion>,
}

/// What comes of it.
#[derive(Default)]
pub(super) struct Answer {
    /// Those that refuse it.
    pub refused: BTreeSet<usize>,
    pub entries: Vec<Entry>,
    /// What was said and counted.
    pub statements: Vec<Statement>,
    /// The rules that people satisfied.
    pub approved: BTreeSet<usize>,
}

impl Model {
    pub(super) fn ask(&self, request: &Request) -> Answer {
        let mut answer = Answer::default();
        for &rule in request.rules.iter().filter(|&&rule| self.enforces(rule)) {
            self.ask_rule(request, rule, &mut answer);
        }
        if let Some(clause) = Clause::of(request.action).filter(|clause| !self.says(*clause)) {
            debug_assert_eq!(self.without, Some(clause));
            answer.refused.clear();
        }
        answer
    }

    fn enforces(&self, rule: usize) -> bool {
        self.rules[rule].enforces || !self.says(Clause::Enforced)
    }

    fn ask_rule(&self, request: &Request, at: usize, answer: &mut Answer) {
        let rule = &self.rules[at];
        let said = self.said(request.target, request.action, request.id);
        let mut counting: Vec<Statement> =
            said.into_iter().filter(|one| self.counts(one, request, rule)).cloned().collect();
        let glass = counting.iter().any(|one| one.draft.break_glass);
        let mut for_good = false;
        if let Some(deleted) = request.deleted {
            // Who approved that it goes approved that it returns.
            let earlier = deleted.statements.iter().filter(|one| self.counted(one, deleted, rule));
            let (last, lasting): (Vec<_>, Vec<_>) = earlier.partition(|one| one.draft.delete_only);
            for_good = !last.is_empty() && self.says(Clause::ForGood);
            let lasting = if self.says(Clause::ForGood) { lasting } else { [last, lasting].concat() };
            if self.says(Clause::ApprovedReturns) {
                let met = lasting.iter().any(|one| one.draft.break_glass) || self.met(rule, &lasting);
                if met {
                    return;
                }
            }
        }
        let approved = glass || self.met(rule, &counting.iter().collect::<Vec<_>>());
        let mut entry = Entry {
            rule: at,
            action: request.action,
            id: request.id,
            requester: request.requester,
            place: request.target.place(),
            approved,
            allowance: false,
        };
        if approved {
            answer.approved.insert(at);
            answer.statements.append(&mut counting);
        } else if for_good || !self.lets_pass_unasked(request, rule, &mut entry) {
            answer.refused.insert(at);
            return;
        }
        if let Some(ceiling) = rule.ceiling.filter(|_| request.action == Action::Delete && self.says(Clause::Ceiling))
            && !glass
            && !self.has_place(ceiling, &entry, |_| true)
        {
            answer.refused.insert(at);
            return;
        }
        let counted = rule.ceiling.is_some() && request.action == Action::Delete;
        if counted || entry.allowance {
            answer.entries.push(entry);
        }
    }

    /// Without anybody's approval.
    fn lets_pass_unasked(&self, request: &Request, rule: &Rule, entry: &mut Entry) -> bool {
        if matches!(request.target, Target::Namespace(_))
            || !matches!(request.action, Action::Delete | Action::Evict | Action::Recreate)
        {
            return false;
        }
        if let Some(tolerated) = rule.tolerate.filter(|_| self.says(Clause::Tolerate)) {
            let own = request.target.key().into_iter().chain(request.along.iter().copied());
            let objects = own.filter(|key| {
                self.objects.get(key).is_none_or(|object| rule.covers(key.kind, object.gold, request.action))
            });
            if request.action == Action::Recreate || objects.count() <= tolerated {
                return true;
            }
        }
        if let Some(allowance) = rule.allowance.filter(|_| self.says(Clause::Allowance)) {
            entry.allowance = true;
            return request.along.is_empty() && self.has_place(allowance, entry, |other| other.allowance);
        }
        false
    }

    fn has_place(&self, limit: Limit, entry: &Entry, counts: impl Fn(&Entry) -> bool) -> bool {
        let same = |other: &&Entry| {
            other.rule == entry.rule
                && match limit.per {
                    Per::Requester => other.requester == entry.requester,
                    Per::Namespace => other.place == entry.place,
                    Per::Rule => true,
                }
        };
        let taken: BTreeSet<_> =
            self.ledger.iter().filter(same).filter(|other| counts(other)).map(|one| (one.id, one.action)).collect();
        taken.contains(&(entry.id, entry.action)) || taken.len() < limit.count
    }

    /// What people say of it: on itself, beside it, and on its namespace.
    fn said(&self, target: Target, action: Action, id: Id) -> Vec<&Statement> {
        let presented = |target: Target| {
            let papers = self.papers(target).filter(|papers| papers.presented || !self.says(Clause::Presented));
            papers.and_then(|papers| papers.statements.as_ref()).into_iter().flatten()
        };
        // Of what is to return, nothing is there that could carry anything.
        let own = presented(target).filter(|_| action != Action::Recreate);
        let mut said: Vec<&Statement> = own.collect();
        said.extend(self.detached.get(&(action, target, id)).into_iter().flatten());
        if matches!(target, Target::Object(_)) && matches!(action, Action::Delete | Action::Recreate) {
            let above = presented(Target::Namespace(target.place()));
            said.extend(above.filter(|one| one.draft.contents || !self.says(Clause::ContentsOnly)));
        }
        said
    }

    fn counts(&self, statement: &Statement, request: &Request, rule: &Rule) -> bool {
        let draft = &statement.draft;
        let above = statement.target != request.target;
        let about =
            if above { self.id(statement.target) == Some(statement.about) } else { statement.about == request.id };
        let scope = above == draft.contents || !self.says(Clause::ContentsOnly);
        let own = draft.approver == request.requester
            && request.action != Action::Recreate
            && !draft.break_glass
            && self.says(Clause::Separate);
        let names = request.action != Action::Delete
            || draft.contents
            || draft.break_glass
            || !self.says(Clause::Names)
            || self.names(statement, request);
        (draft.action == request.action || !self.says(Clause::SameAction))
            && (about || !self.says(Clause::Incarnation))
            && scope
            && self.is_good(statement, rule)
            && (draft.requester.is_none_or(|only| only == request.requester) || !self.says(Clause::Requester))
            && !own
            && names
    }

    /// Whether what was said at a deletion satisfies a rule.
    pub(super) fn would_satisfy(&self, said: &[Statement], deleted: &Deletion, rule: usize) -> bool {
        let rule = &self.rules[rule];
        let counted: Vec<&Statement> = said.iter().filter(|one| self.counted(one, deleted, rule)).collect();
        counted.iter().any(|one| one.draft.break_glass) || self.met(rule, &counted)
    }

    /// As of the time of the deletion.
    fn counted(&self, statement: &Statement, deleted: &Deletion, rule: &Rule) -> bool {
        let own = statement.draft.approver == deleted.requester
            && !statement.draft.break_glass
            && self.says(Clause::Separate);
        self.is_good(statement, rule) && !own
    }

    fn is_good(&self, statement: &Statement, rule: &Rule) -> bool {
        use super::super::operation::Life;
        let draft = &statement.draft;
        let asked = if draft.break_glass {
            rule.break_glass == Some(draft.team) && draft.reason && self.says(Clause::BreakGlass)
        } else {
            rule.require.iter().any(|(team, _)| *team == draft.team)
        };
        (draft.life != Life::Over || !self.says(Clause::Expiry))
            && (draft.life != Life::Long || !self.says(Clause::Longest))
            && asked
    }

    fn names(&self, statement: &Statement, request: &Request) -> bool {
        let compared = self.compared(&request.along);
        statement.protects.as_ref().map_or(compared.is_empty(), |named| compared.is_subset(named))
    }

    /// Of what goes along, what an approval has to name: what is protected, and does not come and go by itself.
    pub(super) fn compared(&self, along: &BTreeSet<Key>) -> BTreeSet<Id> {
        let protected = |key: &&Key| {
            let object = &self.objects[*key];
            let controlled = object.owners.iter().any(|owner| owner.controller);
            key.kind != Kind::Pod
                && !(is_follower(key.kind) && controlled)
                && !self.covering(**key, object, Action::Delete).is_empty()
        };
        along.iter().filter(protected).map(|key| self.objects[key].id).collect()
    }

    /// The rules about an object, wherever it is by itself.
    pub(super) fn covering(&self, key: Key, object: &Object, action: Action) -> BTreeSet<usize> {
        if !self.namespaces.get(&key.place).is_some_and(|namespace| namespace.inside) {
            return BTreeSet::new();
        }
        let covers = |(_, rule): &(usize, &Rule)| rule.covers(key.kind, object.gold, action);
        self.rules.iter().enumerate().filter(covers).map(|(at, _)| at).collect()
    }

    /// The same, without what the rule leaves to a controller that lives.
    pub(super) fn guarding(&self, key: Key, object: &Object, action: Action) -> BTreeSet<usize> {
        let follows = is_follower(key.kind)
            && object.owners.iter().any(|owner| owner.controller && self.lives(owner, key))
            && self.says(Clause::Follows);
        if follows { BTreeSet::new() } else { self.covering(key, object, action) }
    }

    /// Whether these people are enough, each counted once.
    fn met(&self, rule: &Rule, said: &[&Statement]) -> bool {
        let people: Vec<(User, Team)> =
            said.iter().filter(|one| !one.draft.break_glass).map(|one| (one.draft.approver, one.draft.team)).collect();
        self.meet(rule, &people)
    }

    pub(super) fn meet(&self, rule: &Rule, people: &[(User, Team)]) -> bool {
        let count = |count: u8| if self.says(Clause::Quorum) { count } else { 1 };
        let places: Vec<Team> =
            rule.require.iter().flat_map(|(team, many)| vec![*team; usize::from(count(*many))]).collect();
        fill(&places, people, &mut Vec::new())
    }
}

/// Whether each place can be taken by somebody of its own.
fn fill(places: &[Team], people: &[(User, Team)], taken: &mut Vec<User>) -> bool {
    let Some((team, rest)) = places.split_first() else { return true };
    people.iter().filter(|(_, of)| of == team).any(|(user, _)| {
        if taken.contains(user) {
            return false;
        }
        taken.push(*user);
        let filled = fill(rest, people, taken);
        taken.pop();
        filled
    })
}

/// What `owned: Auto` leaves to its controller.
pub(super) fn is_follower(kind: Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::Secret | Kind::ConfigMap | Kind::Service)
}
