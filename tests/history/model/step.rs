//! What may come of one operation.

use std::collections::BTreeSet;

use controlplane::User;

use super::super::operation::{Deleting, Draft, Edit, Operation, Owner, Precondition};
use super::super::world::{Action, Key, Kind, NAMES, Place, Target, Team};
use super::asking::{Answer, Request, is_follower};
use super::{Clause, Deletion, Model, Namespace, Object, Outcome, Papers, Race, Rule, Verdict};

impl Model {
    /// Every answer that the documentation allows: one, but for a few races that are named.
    pub fn outcomes(&self, operation: &Operation) -> Vec<Outcome> {
        match operation {
            Operation::Create { by, key, gold } => self.create(*by, *key, *gold),
            Operation::Delete { by, key, how } => self.delete(*by, *key, *how),
            Operation::DeleteCollection { by, kind, place, gold, dry_run } => {
                self.delete_collection(*by, *kind, *place, *gold, *dry_run)
            }
            Operation::CreateNamespace { by, place } => self.create_namespace(*by, *place),
            Operation::DeleteNamespace { by, place, dry_run } => vec![self.delete_namespace(*by, *place, *dry_run)],
            Operation::Select { by, place, inside } => vec![self.select(*by, *place, *inside)],
            Operation::Mark { by, key, gold } => vec![self.mark(*by, *key, *gold)],
            Operation::Scale { by, key, to, .. } => {
                let empties = |object: &Object| object.replicas > 0 && *to == 0;
                vec![self.update(*by, *key, Action::ScaleToZero, empties, |object| object.replicas = *to)]
            }
            Operation::Suspend { by, key, suspend } => {
                let stops = |object: &Object| !object.suspended && *suspend;
                vec![self.update(*by, *key, Action::ScaleToZero, stops, |object| object.suspended = *suspend)]
            }
            Operation::Own { by, key, owner } => vec![self.own(*by, *key, *owner)],
            Operation::Hold { by, key, hold } => vec![self.hold(*by, *key, *hold)],
            Operation::Empty { by, key } => {
                vec![self.update(
                    *by,
                    *key,
                    Action::DiscardData,
                    |object| object.filled,
                    |object| object.filled = false,
                )]
            }
            Operation::Fill { by, key } => {
                vec![self.update(*by, *key, Action::DiscardData, |_| false, |object| object.filled = true)]
            }
            Operation::Evict { by, key, dry_run } => vec![self.evict(*by, *key, *dry_run)],
            Operation::Approve { by, target, draft } => vec![self.approve(*by, *target, draft)],
            Operation::Present { target, .. } => vec![self.present(*target)],
            Operation::Withdraw { target, label, .. } => vec![self.withdraw(*target, *label)],
            Operation::Detach { by, target, draft } => vec![self.detach(*by, *target, draft)],
            Operation::Edit { by, rule, edit, approvers } => vec![self.edit(*by, *rule, *edit, approvers)],
            Operation::Kill => vec![self.stays(Verdict::Passes)],
        }
    }

    /// Nothing is changed by it.
    fn stays(&self, verdict: Verdict) -> Outcome {
        Outcome { verdict, after: self.clone(), race: None }
    }

    fn becomes(after: Self) -> Outcome {
        Outcome { verdict: Verdict::Passes, after, race: None }
    }

    fn denied(&self, action: Action, rules: &BTreeSet<usize>) -> Outcome {
        self.stays(Verdict::Denied(action, rules.iter().map(|rule| self.rules[*rule].name).collect()))
    }

    fn create(&self, by: User, key: Key, gold: bool) -> Vec<Outcome> {
        match self.namespaces.get(&key.place) {
            None => return vec![self.stays(Verdict::NotFound)],
            Some(namespace) if namespace.going => return vec![self.stays(Verdict::Terminating)],
            Some(_) => {}
        }
        let target = Target::Object(key);
        if self.objects.get(&key).is_some_and(|object| !object.going) {
            return vec![self.stays(Verdict::Exists)];
        }
        let answer = self.returning(by, target);
        let mut after = self.clone();
        if !self.objects.contains_key(&key) {
            let id = after.fresh();
            after.objects.insert(key, Object::new(id, gold));
        }
        self.made(after, self.objects.contains_key(&key), &answer)
    }

    fn made(&self, mut after: Self, exists: bool, answer: &Answer) -> Vec<Outcome> {
        let verdict = if exists { Verdict::Exists } else { Verdict::Passes };
        if answer.refused.is_empty() {
            after.ledger_takes(answer);
            return vec![Outcome { verdict, after, race: None }];
        }
        vec![self.denied(Action::Recreate, &answer.refused), Outcome { verdict, after, race: Some(Race::Away) }]
    }

    /// What making something of this name needs, if something of this name was destroyed.
    fn returning(&self, by: User, target: Target) -> Answer {
        let newest = self.memory.get(&target).and_then(|all| all.last());
        let Some(deleted) = newest else { return Answer::default() };
        let selected = match target {
            Target::Object(key) => self.namespaces.get(&key.place).is_some_and(|namespace| namespace.inside),
            Target::Namespace(_) => true,
        };
        let guards = |rule: &&usize| selected && self.rules[**rule].actions.contains(&Action::Recreate);
        let rules = deleted.rules.iter().filter(guards).copied().collect();
        let (action, along) = (Action::Recreate, BTreeSet::new());
        self.ask(&Request { action, target, id: deleted.id, requester: by, rules, along, deleted: Some(deleted) })
    }

    fn delete(&self, by: User, key: Key, how: Deleting) -> Vec<Outcome> {
        let Some(object) = self.objects.get(&key) else { return vec![self.stays(Verdict::NotFound)] };
        if how.precondition == Precondition::Other {
            return vec![self.stays(Verdict::Conflict)];
        }
        if object.going && self.says(Clause::Going) {
            return vec![self.stays(Verdict::Passes)];
        }
        let request = self.deletion(key, by);
        let answer = self.ask(&request);
        let mut after = self.clone();
        if !how.dry_run || !self.says(Clause::DryRun) {
            after.take(&request, &answer);
            if !how.dry_run {
                after.end(key);
                after.collect();
            }
        }
        let passes = Self::becomes(after);
        if answer.refused.is_empty() {
            return vec![passes];
        }
        let mut outcomes = vec![self.denied(Action::Delete, &answer.refused)];
        // Nobody is asked about the owner itself, and of what it owns Tagout may not have heard yet.
        if self.guarding(key, object, Action::Delete).is_empty() {
            let mut unasked = self.clone();
            if !how.dry_run {
                unasked.end(key);
                unasked.collect();
            }
            outcomes.push(Outcome { race: Some(Race::OwnersUnknown), ..Self::becomes(unasked) });
        }
        outcomes
    }

    fn delete_collection(&self, by: User, kind: Kind, place: Place, gold: bool, dry_run: bool) -> Vec<Outcome> {
        if !self.namespaces.contains_key(&place) {
            return vec![self.stays(Verdict::Passes)];
        }
        let mut paths = vec![Self::becomes(self.clone())];
        for name in NAMES {
            let key = Key { kind, place, name };
            if self.objects.get(&key).is_none_or(|object| gold && !object.gold) {
                continue;
            }
            let how = Deleting { dry_run, ..Deleting::default() };
            let next = |path: Outcome| {
                if path.verdict != Verdict::Passes {
                    return vec![path];
                }
                let gone = |one: Outcome| {
                    let verdict = if one.verdict == Verdict::NotFound { Verdict::Passes } else { one.verdict };
                    Outcome { verdict, race: path.race.or(one.race), after: one.after }
                };
                path.after.delete(by, key, how).into_iter().map(gone).collect()
            };
            paths = paths.into_iter().flat_map(next).collect();
        }
        paths
    }

    fn create_namespace(&self, by: User, place: Place) -> Vec<Outcome> {
        if self.namespaces.get(&place).is_some_and(|namespace| !namespace.going) {
            return vec![self.stays(Verdict::Exists)];
        }
        let exists = self.namespaces.contains_key(&place);
        let answer = self.returning(by, Target::Namespace(place));
        let mut after = self.clone();
        if !exists {
            let id = after.fresh();
            after.namespaces.insert(place, Namespace { id, inside: true, going: false, papers: Papers::default() });
        }
        self.made(after, exists, &answer)
    }

    fn delete_namespace(&self, by: User, place: Place, dry_run: bool) -> Outcome {
        let Some(namespace) = self.namespaces.get(&place) else { return self.stays(Verdict::NotFound) };
        if namespace.going {
            return self.stays(Verdict::Passes);
        }
        let along = self.inside(place);
        let mut rules = if self.says(Clause::WholeNamespace) { self.carried(&along) } else { BTreeSet::new() };
        let own = |(_, rule): &(usize, &Rule)| {
            rule.namespaces && !rule.gold && rule.actions.contains(&Action::Delete) && namespace.inside
        };
        rules.extend(self.rules.iter().enumerate().filter(own).map(|(at, _)| at));
        let (action, target, id) = (Action::Delete, Target::Namespace(place), namespace.id);
        let request = Request { action, target, id, requester: by, rules, along, deleted: None };
        let answer = self.ask(&request);
        if !answer.refused.is_empty() {
            return self.denied(Action::Delete, &answer.refused);
        }
        if dry_run {
            return self.stays(Verdict::Passes);
        }
        let mut after = self.clone();
        after.take(&request, &answer);
        after.namespaces.get_mut(&place).expect("it is there").going = true;
        for key in after.inside(place) {
            after.end(key);
        }
        after.settle(place);
        Self::becomes(after)
    }

    /// Writes down what is let pass.
    fn take(&mut self, request: &Request, answer: &Answer) {
        self.ledger_takes(answer);
        let written = |rule: &&usize| {
            let one = &self.rules[**rule];
            one.enforces && (one.tolerate.is_none() || answer.approved.contains(rule))
        };
        let rules: Vec<usize> = request.rules.iter().filter(written).copied().collect();
        if rules.is_empty() {
            return;
        }
        let along = request.along.iter().map(|key| self.objects[key].id).collect();
        let (id, requester) = (request.id, request.requester);
        let deletion = Deletion { id, requester, rules, statements: answer.statements.clone(), along };
        self.memory.entry(request.target).or_default().push(deletion);
    }

    fn ledger_takes(&mut self, answer: &Answer) {
        for entry in &answer.entries {
            self.ledger.retain(|one| (one.rule, one.id, one.action) != (entry.rule, entry.id, entry.action));
            self.ledger.push(entry.clone());
        }
    }

    /// An update of an object, which needs an approval of this action if it does that.
    fn update(
        &self,
        by: User,
        key: Key,
        action: Action,
        does: impl Fn(&Object) -> bool,
        change: impl Fn(&mut Object),
    ) -> Outcome {
        let Some(object) = self.objects.get(&key) else { return self.stays(Verdict::NotFound) };
        let rules = if does(object) { self.guarding(key, object, action) } else { BTreeSet::new() };
        self.changed(by, key, action, rules, change)
    }

    fn changed(
        &self,
        by: User,
        key: Key,
        action: Action,
        rules: BTreeSet<usize>,
        change: impl Fn(&mut Object),
    ) -> Outcome {
        let object = &self.objects[&key];
        let rules = if object.going { BTreeSet::new() } else { rules };
        let (target, along) = (Target::Object(key), BTreeSet::new());
        let answer = self.ask(&Request { action, target, id: object.id, requester: by, rules, along, deleted: None });
        if !answer.refused.is_empty() {
            return self.denied(action, &answer.refused);
        }
        let mut after = self.clone();
        change(after.objects.get_mut(&key).expect("it is there"));
        after.collect();
        Self::becomes(after)
    }

    fn mark(&self, by: User, key: Key, gold: bool) -> Outcome {
        let Some(object) = self.objects.get(&key) else { return self.stays(Verdict::NotFound) };
        let left = self.covering(key, object, Action::Unprotect);
        let left = left.into_iter().filter(|rule| object.gold && !gold && self.rules[*rule].gold);
        self.changed(by, key, Action::Unprotect, left.collect(), |object| object.gold = gold)
    }

    fn own(&self, by: User, key: Key, owner: Option<Owner>) -> Outcome {
        let Some(object) = self.objects.get(&key) else { return self.stays(Verdict::NotFound) };
        let new = owner.map(|owner| self.reference(owner.key, owner.real, owner.controller));
        let joins = new.filter(|new| !object.owners.iter().any(|old| old.id == new.id && old.key == new.key));
        let dead = new.is_some_and(|new| !self.lives(&new, key));
        let was_controller = |new: &super::Reference| {
            object.owners.iter().any(|old| old.controller && old.id == new.id && old.key == new.key)
        };
        let led = new.filter(|new| new.controller && !was_controller(new));
        let (action, rules) = if joins.is_some() && dead {
            (Action::Reparent, self.covering(key, object, Action::Reparent))
        } else if led.is_some() && is_follower(key.kind) && self.says(Clause::Controller) {
            (Action::Unprotect, self.covering(key, object, Action::Unprotect))
        } else {
            (Action::Reparent, BTreeSet::new())
        };
        self.changed(by, key, action, rules, |object| {
            object.owners = new.into_iter().collect();
            object.refused = false;
            object.may_go = false;
        })
    }

    fn hold(&self, by: User, key: Key, hold: bool) -> Outcome {
        let Some(object) = self.objects.get(&key) else { return self.stays(Verdict::NotFound) };
        if object.going && hold && !object.hold {
            return self.stays(Verdict::Invalid);
        }
        let going = object.going;
        let taken_off = |object: &Object| object.hold && !hold;
        let mut outcome = self.update(by, key, Action::Finalize, taken_off, |object| object.hold = hold);
        if going && !hold && outcome.verdict == Verdict::Passes {
            outcome.after.end(key);
            outcome.after.collect();
        }
        outcome
    }

    fn evict(&self, by: User, key: Key, dry_run: bool) -> Outcome {
        let Some(object) = self.objects.get(&key) else { return self.stays(Verdict::NotFound) };
        let rules = if object.going { BTreeSet::new() } else { self.guarding(key, object, Action::Evict) };
        let (action, target, along) = (Action::Evict, Target::Object(key), BTreeSet::new());
        let answer = self.ask(&Request { action, target, id: object.id, requester: by, rules, along, deleted: None });
        if !answer.refused.is_empty() {
            return self.denied(action, &answer.refused);
        }
        let mut after = self.clone();
        if !dry_run {
            after.end(key);
            after.collect();
        }
        Self::becomes(after)
    }

    fn select(&self, by: User, place: Place, inside: bool) -> Outcome {
        let Some(namespace) = self.namespaces.get(&place) else { return self.stays(Verdict::NotFound) };
        let leaves = namespace.inside && !inside && !namespace.going && self.says(Clause::NamespaceLeaves);
        let guards = |(_, rule): &(usize, &Rule)| leaves && rule.actions.contains(&Action::Unprotect);
        let rules = self.rules.iter().enumerate().filter(guards).map(|(at, _)| at).collect();
        let (action, target, along) = (Action::Unprotect, Target::Namespace(place), BTreeSet::new());
        let id = namespace.id;
        let answer = self.ask(&Request { action, target, id, requester: by, rules, along, deleted: None });
        if !answer.refused.is_empty() {
            return self.denied(action, &answer.refused);
        }
        let mut after = self.clone();
        after.namespaces.get_mut(&place).expect("it is there").inside = inside;
        after.collect();
        Self::becomes(after)
    }

    fn approve(&self, by: User, target: Target, draft: &Draft) -> Outcome {
        if self.id(target).is_none() {
            return self.stays(Verdict::NotFound);
        }
        if !self.accepts(by, target, draft) {
            return self.stays(Verdict::NotAccepted);
        }
        let mut after = self.clone();
        let statements = self.annotation(target, draft);
        after.papers_mut(target).expect("it is there").write(statements, draft.presented);
        Self::becomes(after)
    }

    fn present(&self, target: Target) -> Outcome {
        if self.id(target).is_none() {
            return self.stays(Verdict::NotFound);
        }
        if !self.accepts_label(target) {
            return self.stays(Verdict::NotAccepted);
        }
        let mut after = self.clone();
        after.papers_mut(target).expect("it is there").presented = true;
        Self::becomes(after)
    }

    fn withdraw(&self, target: Target, label: bool) -> Outcome {
        if self.id(target).is_none() {
            return self.stays(Verdict::NotFound);
        }
        let mut after = self.clone();
        let papers = after.papers_mut(target).expect("it is there");
        if label {
            papers.presented = false;
        } else {
            papers.statements = None;
        }
        Self::becomes(after)
    }

    fn detach(&self, by: User, target: Target, draft: &Draft) -> Outcome {
        if !self.accepts_beside(by, target, draft) {
            return self.stays(Verdict::NotAccepted);
        }
        let statement = self.statement(target, draft);
        let name = (draft.action, target, statement.about);
        if self.detached.contains_key(&name) {
            return self.stays(Verdict::Exists);
        }
        let mut after = self.clone();
        after.detached.insert(name, vec![statement]);
        Self::becomes(after)
    }

    fn edit(&self, by: User, at: usize, edit: Edit, approvers: &[User]) -> Outcome {
        let (old, new) = (&self.rules[at], self.rules[at].edited(edit));
        let mut after = self.clone();
        if !approvers.is_empty() && old.is_weaker(&new) {
            after.permitted.push((at, new.clone(), approvers.to_vec()));
        }
        let speak = |user: &User| old.require.iter().map(|(team, _)| (*user, *team)).collect::<Vec<_>>();
        let may = |people: &[User]| {
            let others: Vec<(User, Team)> = people
                .iter()
                .filter(|one| **one != by)
                .flat_map(speak)
                .filter(|(user, team)| team.has(*user))
                .collect();
            self.meet(old, &others)
        };
        let said: Vec<User> = after
            .permitted
            .iter()
            .filter(|(of, spec, _)| *of == at && *spec == new)
            .flat_map(|one| one.2.clone())
            .collect();
        if old.enforces && old.is_weaker(&new) && self.says(Clause::Loosen) && !may(&said) {
            let mut outcome = self.denied(Action::Loosen, &BTreeSet::from([at]));
            outcome.after.permitted = after.permitted;
            return outcome;
        }
        after.rules[at] = new;
        after.collect();
        Self::becomes(after)
    }
}

impl Object {
    fn new(id: super::Id, gold: bool) -> Self {
        Self {
            id,
            gold,
            owners: Vec::new(),
            hold: false,
            going: false,
            replicas: 1,
            suspended: false,
            filled: true,
            papers: Papers::default(),
            refused: false,
            may_go: false,
        }
    }
}

impl Rule {
    pub fn edited(&self, edit: Edit) -> Self {
        let mut new = self.clone();
        match edit {
            Edit::Count(count) => new.require[0].1 = count,
            Edit::Kind(kind, true) => drop(new.kinds.insert(kind)),
            Edit::Kind(kind, false) => drop(new.kinds.remove(&kind)),
            Edit::Action(action, true) => drop(new.actions.insert(action)),
            Edit::Action(action, false) => drop(new.actions.remove(&action)),
        }
        new
    }

    /// Fewer people, kinds or actions.
    fn is_weaker(&self, new: &Self) -> bool {
        new.require.iter().zip(&self.require).any(|(new, old)| new.1 < old.1)
            || !self.kinds.is_subset(&new.kinds)
            || !self.actions.is_subset(&new.actions)
    }
}
