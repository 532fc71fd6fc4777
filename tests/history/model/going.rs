//! What goes with what, and what the garbage collector makes of it.

use std::collections::BTreeSet;

use super::super::world::{Action, Key, Kind, Place, Target};
use super::asking::{Request, is_follower};
use super::{Clause, Deletion, Id, Model, NOBODY, Object, Reference};

impl Model {
    /// Whether an owner lives, as rules see it.
    pub(super) fn lives(&self, owner: &Reference, of: Key) -> bool {
        owner.key.place == of.place && self.objects.get(&owner.key).is_some_and(|one| one.id == owner.id && !one.going)
    }

    /// Whether it still keeps what it owns from the garbage collector.
    fn stands(&self, owner: &Reference, of: Key) -> bool {
        owner.key.place == of.place && self.objects.get(&owner.key).is_some_and(|one| one.id == owner.id)
    }

    /// What nothing would hold any more, without this.
    pub(super) fn along(&self, root: Key) -> BTreeSet<Key> {
        let mut going = BTreeSet::from([root]);
        loop {
            let is_gone = |owner: &Reference, of: Key| {
                !self.lives(owner, of) || going.contains(&owner.key) && self.objects[&owner.key].id == owner.id
            };
            let joins = |(key, object): &(&Key, &Object)| {
                !object.going
                    && !going.contains(key)
                    && object.owners.iter().any(|owner| self.lives(owner, **key) && going.contains(&owner.key))
                    && object.owners.iter().all(|owner| is_gone(owner, **key))
            };
            let more: Vec<Key> = self.objects.iter().filter(joins).map(|(key, _)| *key).collect();
            if more.is_empty() {
                break;
            }
            going.extend(more);
        }
        going.remove(&root);
        going
    }

    /// What is in a namespace and not going yet.
    pub(super) fn inside(&self, place: Place) -> BTreeSet<Key> {
        let here = self.objects.iter().filter(|(key, object)| key.place == place && !object.going);
        here.map(|(key, _)| *key).collect()
    }

    /// Every rule of everything protected that goes along has a say.
    pub(super) fn carried(&self, along: &BTreeSet<Key>) -> BTreeSet<usize> {
        let rules = along.iter().flat_map(|key| self.covering(*key, &self.objects[key], Action::Delete));
        if self.says(Clause::GoesAlong) { rules.collect() } else { BTreeSet::new() }
    }

    /// It is deleted; something may still hold it.
    pub(super) fn end(&mut self, key: Key) {
        let Some(object) = self.objects.get_mut(&key) else { return };
        object.going = true;
        if object.hold {
            return;
        }
        let id = object.id;
        self.objects.remove(&key);
        self.former.insert(Target::Object(key), id);
        self.settle(key.place);
    }

    /// A namespace goes when nothing is in it any more.
    pub(super) fn settle(&mut self, place: Place) {
        let empty = !self.objects.keys().any(|key| key.place == place);
        if let Some(namespace) = self.namespaces.get(&place)
            && namespace.going
            && empty
        {
            self.former.insert(Target::Namespace(place), namespace.id);
            self.namespaces.remove(&place);
        }
    }

    /// The garbage collector takes what no owner holds any more, or is refused.
    pub(super) fn collect(&mut self) {
        loop {
            let orphaned = |(key, object): &(&Key, &Object)| {
                !object.going && !object.owners.is_empty() && !object.owners.iter().any(|one| self.stands(one, **key))
            };
            let orphans: Vec<Key> = self.objects.iter().filter(orphaned).map(|(key, _)| *key).collect();
            let mut ended = false;
            for key in orphans {
                let passes = self.collector_passes(key);
                let Some(object) = self.objects.get_mut(&key) else { continue };
                match (passes, object.refused) {
                    (true, true) => object.may_go = true,
                    (true, false) => {
                        self.end(key);
                        ended = true;
                    }
                    (false, _) => object.refused = true,
                }
            }
            if !ended {
                return;
            }
        }
    }

    fn collector_passes(&self, key: Key) -> bool {
        if !self.says(Clause::Collector) || self.namespaces.get(&key.place).is_some_and(|namespace| namespace.going) {
            return true;
        }
        let object = &self.objects[&key];
        let rules = self.guarding(key, object, Action::Delete);
        let rules: Vec<usize> = rules.into_iter().filter(|rule| self.rules[*rule].enforces).collect();
        let along = self.along(key);
        let tolerated = |rule: &usize| self.rules[*rule].tolerate.is_some_and(|most| along.len() < most);
        rules.iter().all(|rule| tolerated(rule) || self.is_explained(key, object, *rule))
    }

    /// Whether the deletion of a root was approved, and this with it.
    fn is_explained(&self, key: Key, object: &Object, rule: usize) -> bool {
        let follows_by_itself =
            key.kind == Kind::Pod || is_follower(key.kind) && object.owners.iter().any(|one| one.controller);
        let explains = |(target, deletion): (&Target, &Deletion)| {
            let root_is_gone = self.id(*target) != Some(deletion.id) || self.is_going(*target);
            root_is_gone && deletion.along.contains(&object.id) && {
                let names = |named: &Option<BTreeSet<Id>>| named.as_ref().is_some_and(|ids| ids.contains(&object.id));
                let said: Vec<_> = deletion
                    .statements
                    .iter()
                    .filter(|one| !one.draft.contents || one.draft.break_glass)
                    .filter(|one| one.draft.break_glass || follows_by_itself || names(&one.protects))
                    .cloned()
                    .collect();
                self.would_satisfy(&said, deletion, rule)
            }
        };
        self.memory.iter().flat_map(|(target, all)| all.iter().map(move |one| (target, one))).any(explains)
    }

    /// The request to delete an object.
    pub(super) fn deletion(&self, key: Key, requester: controlplane::User) -> Request<'_> {
        let object = &self.objects[&key];
        let along = self.along(key);
        let mut rules = self.guarding(key, object, Action::Delete);
        rules.extend(self.carried(&along));
        Request {
            action: Action::Delete,
            target: Target::Object(key),
            id: object.id,
            requester,
            rules,
            along,
            deleted: None,
        }
    }

    /// What a reference says of this name.
    pub fn reference(&self, key: Key, real: bool, controller: bool) -> Reference {
        let id = self.objects.get(&key).filter(|_| real).map_or(NOBODY, |object| object.id);
        Reference { key, id, controller }
    }
}
