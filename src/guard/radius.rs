//! The blast radius: what goes when one object, the root, is deleted.
//!
//! It is worked out from what was listed, as Kubernetes itself goes about it: a namespace takes its contents along, a
//! definition its instances, a claim its volume, and an owner what nobody else owns. Where the listing leaves a doubt,
//! more goes rather than less.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::{Owner, Subject};

/// One object, as it was listed: without its contents.
#[derive(Debug, Clone)]
pub struct Listed {
    pub subject: Subject<'static>,
    /// Like `Deployment`.
    pub kind: String,
    pub owners: Vec<Owner>,
    /// Whether its own deletion is under way already: it keeps nothing it owns alive.
    pub terminating: bool,
    pub state: ListedState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedState {
    Plain,
    Pod {
        ready: bool,
        finished: bool,
    },
    Volume {
        /// Namespace and name of the claim it is bound to.
        claim: Option<(String, String)>,
        /// Whether it outlives its claim (reclaim policy `Retain`).
        kept: bool,
        capacity: String,
    },
}

/// What was found out for a root.
#[derive(Debug, Default, Clone)]
pub struct Found {
    pub objects: Vec<Listed>,
    /// Kinds like `deployments.apps` that could not be listed, or not to the end, with the reason.
    pub unlisted: BTreeMap<String, String>,
    /// The UIDs of the ready pods behind a Service, by its namespace and name. What is ready and no pod has an empty
    /// UID here, and never goes.
    pub behind: BTreeMap<(String, String), Vec<String>>,
}

/// Everything that goes with a root; the root itself is not in it.
#[derive(Debug, Default, Clone)]
pub struct Radius {
    /// In the order of kind, namespace and name.
    pub going: Vec<Going>,
    /// What could not be listed, with the reason: there may be more than is known.
    pub unlisted: BTreeMap<String, String>,
    /// Services that stay, and all of whose ready pods go.
    pub bare_services: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct Going {
    pub listed: Listed,
    /// The index in `going` of what takes it along; nothing if that is the root.
    pub with: Option<usize>,
}

impl Radius {
    pub fn grow(root: &Subject, found: Found) -> Self {
        let objects = each_once(root, found.objects);
        let taken = Spread::new(root, &objects).spread();
        let mut places = vec![None; objects.len()];
        for (place, object) in (0..objects.len()).filter(|object| taken[*object].is_some()).enumerate() {
            places[object] = Some(place);
        }
        let going: Vec<Going> = objects
            .into_iter()
            .zip(taken)
            .filter_map(|(listed, by)| Some(Going { listed, with: by?.and_then(|object| places[object]) }))
            .collect();
        let bare_services = bare_services(root, &going, found.behind);
        Self { going, unlisted: found.unlisted, bare_services }
    }

    /// Whether everything was listed: otherwise there may be more than is known.
    pub fn is_complete(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// How many of each Kind are removed, in the order of their names. Volumes that are kept are not counted.
    pub fn counts(&self) -> Vec<(String, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for going in self.going.iter().filter(|going| !is_volume(&going.listed, true)) {
            *counts.entry(&going.listed.kind).or_default() += 1;
        }
        counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
    }

    pub fn ready_pods(&self) -> usize {
        self.going.iter().filter(|going| matches!(going.listed.state, ListedState::Pod { ready: true, .. })).count()
    }

    /// Volumes whose data is destroyed.
    pub fn lost_volumes(&self) -> impl Iterator<Item = &Listed> {
        self.volumes(false)
    }

    /// Volumes that lose their claim and keep their data.
    pub fn kept_volumes(&self) -> impl Iterator<Item = &Listed> {
        self.volumes(true)
    }

    fn volumes(&self, kept: bool) -> impl Iterator<Item = &Listed> {
        self.going.iter().map(|going| &going.listed).filter(move |listed| is_volume(listed, kept))
    }
}

/// The objects but the root, in their order. An object that two groups serve was listed twice and counts once.
fn each_once(root: &Subject, mut objects: Vec<Listed>) -> Vec<Listed> {
    objects.retain(|listed| {
        let subject = &listed.subject;
        (subject.uid.is_empty() || subject.uid != root.uid) && name(subject) != name(root)
    });
    objects.sort_by(|one, other| order(one).cmp(&order(other)));
    let mut uids = HashSet::with_capacity(objects.len());
    let mut names = HashSet::new();
    let first: Vec<bool> = objects
        .iter()
        .map(|listed| match &*listed.subject.uid {
            // Some aggregated servers give none.
            "" => names.insert(name(&listed.subject)),
            uid => uids.insert(uid),
        })
        .collect();
    objects.into_iter().zip(first).filter_map(|(listed, first)| first.then_some(listed)).collect()
}

fn order(listed: &Listed) -> (&str, [&str; 4], &str) {
    let [group, resource, namespace, name] = name(&listed.subject);
    (&listed.kind, [group, resource, namespace, name], &listed.subject.uid)
}

fn name<'s>(subject: &'s Subject) -> [&'s str; 4] {
    [&subject.group, &subject.resource, &subject.namespace, &subject.name]
}

fn is_core(subject: &Subject, resource: &str) -> bool {
    subject.group.is_empty() && subject.resource == resource
}

fn is_volume(listed: &Listed, that_is_kept: bool) -> bool {
    matches!(listed.state, ListedState::Volume { kept, .. } if kept == that_is_kept)
}

/// What takes an object along: another one, or the root. Without it the object stays.
type Taken = Option<Option<usize>>;

/// Deletion on its way from the root. Objects are numbered as they are sorted, and every edge is walked once.
struct Spread<'o> {
    root: &'o Subject<'o>,
    objects: &'o [Listed],
    in_namespace: HashMap<&'o str, Vec<usize>>,
    of_kind: HashMap<(&'o str, &'o str), Vec<usize>>,
    /// By the UID of an owner.
    dependents: HashMap<&'o str, Vec<usize>>,
    /// By the namespace and name of a claim.
    volumes: HashMap<(&'o str, &'o str), Vec<usize>>,
    by_uid: HashMap<&'o str, usize>,
    /// How many owners of each object stay, as far as is known yet.
    staying_owners: Vec<usize>,
    taken: Vec<Taken>,
    /// What goes, and whose own radius has not been looked at. Nothing is the root.
    next: VecDeque<Option<usize>>,
}

impl<'o> Spread<'o> {
    fn new(root: &'o Subject<'o>, objects: &'o [Listed]) -> Self {
        let mut spread = Self {
            root,
            objects,
            in_namespace: HashMap::new(),
            of_kind: HashMap::new(),
            dependents: HashMap::new(),
            volumes: HashMap::new(),
            by_uid: HashMap::with_capacity(objects.len()),
            staying_owners: vec![0; objects.len()],
            taken: vec![None; objects.len()],
            next: VecDeque::from([None]),
        };
        for (at, Listed { subject, owners, state, .. }) in objects.iter().enumerate() {
            spread.by_uid.insert(&subject.uid, at);
            spread.of_kind.entry((&subject.group, &subject.resource)).or_default().push(at);
            if !subject.namespace.is_empty() {
                spread.in_namespace.entry(&subject.namespace).or_default().push(at);
            }
            for owner in owners.iter().filter(|owner| !owner.uid.is_empty()) {
                let dependents = spread.dependents.entry(&owner.uid).or_default();
                // One object may name the same owner several times.
                if dependents.last() != Some(&at) {
                    dependents.push(at);
                }
            }
            if let ListedState::Volume { claim: Some((namespace, name)), .. } = state {
                spread.volumes.entry((namespace, name)).or_default().push(at);
            }
        }
        for (uid, dependents) in &spread.dependents {
            let Some(owner) = spread.by_uid.get(uid) else { continue };
            for dependent in dependents {
                spread.staying_owners[*dependent] += usize::from(holds(&objects[*owner], &objects[*dependent]));
            }
        }
        spread
    }

    fn spread(mut self) -> Vec<Taken> {
        while let Some(by) = self.next.pop_front() {
            for at in self.contents(by) {
                self.take(at, by);
            }
            for at in self.volumes(by, false) {
                self.take(at, by);
            }
            self.take_dependents(by);
        }
        // A volume that outlives its claim is not deleted, so nothing goes with it.
        for by in std::iter::once(None).chain((0..self.objects.len()).map(Some)) {
            if by.is_none_or(|object| self.taken[object].is_some()) {
                for volume in self.volumes(by, true) {
                    self.taken[volume].get_or_insert(by);
                }
            }
        }
        self.taken
    }

    fn subject(&self, object: Option<usize>) -> &'o Subject<'o> {
        object.map_or(self.root, |at| &self.objects[at].subject)
    }

    fn take(&mut self, at: usize, by: Option<usize>) {
        if self.taken[at].is_none() {
            self.taken[at] = Some(by);
            self.next.push_back(Some(at));
        }
    }

    /// What is in a namespace, or what a definition defines.
    fn contents(&mut self, of: Option<usize>) -> Vec<usize> {
        let subject = self.subject(of);
        if subject.is_namespace() {
            return self.in_namespace.remove(&*subject.name).unwrap_or_default();
        }
        if subject.group != "apiextensions.k8s.io" || subject.resource != "customresourcedefinitions" {
            return Vec::new();
        }
        let Some((plural, group)) = subject.name.split_once('.') else { return Vec::new() };
        self.of_kind.remove(&(group, plural)).unwrap_or_default()
    }

    /// The volumes bound to a claim.
    fn volumes(&self, claim: Option<usize>, kept: bool) -> Vec<usize> {
        let claim = self.subject(claim);
        if !is_core(claim, "persistentvolumeclaims") {
            return Vec::new();
        }
        let volumes = self.volumes.get(&(&*claim.namespace, &*claim.name)).into_iter().flatten().copied();
        volumes.filter(|volume| is_volume(&self.objects[*volume], kept)).collect()
    }

    fn take_dependents(&mut self, of: Option<usize>) {
        for at in self.dependents.remove(&*self.subject(of).uid).unwrap_or_default() {
            let held = of.is_some_and(|owner| holds(&self.objects[owner], &self.objects[at]));
            self.staying_owners[at] -= usize::from(held);
            if self.staying_owners[at] == 0 {
                self.take(at, of);
            }
        }
    }
}

/// Whether an owner keeps its dependent alive as long as it stays itself. The garbage collector looks it up by kind and
/// name: a reference with another name, or into another namespace, leads nowhere, whatever its UID.
fn holds(owner: &Listed, dependent: &Listed) -> bool {
    let subject = &owner.subject;
    let within_reach = subject.namespace.is_empty() || subject.namespace == dependent.subject.namespace;
    let named = |reference: &Owner| {
        reference.uid == subject.uid && reference.kind == owner.kind && reference.name == subject.name
    };
    !owner.terminating && within_reach && dependent.owners.iter().any(named)
}

fn bare_services(
    root: &Subject,
    going: &[Going],
    behind: BTreeMap<(String, String), Vec<String>>,
) -> Vec<(String, String)> {
    let subjects = || going.iter().map(|going| &going.listed.subject).chain([root]);
    let uids: HashSet<&str> = subjects().map(|subject| &*subject.uid).filter(|uid| !uid.is_empty()).collect();
    let services: HashSet<(&str, &str)> = subjects()
        .filter(|subject| is_core(subject, "services"))
        .map(|subject| (&*subject.namespace, &*subject.name))
        .collect();
    behind
        .into_iter()
        .filter(|((namespace, name), pods)| {
            !services.contains(&(namespace.as_str(), name.as_str()))
                && !pods.is_empty()
                && pods.iter().all(|pod| uids.contains(pod.as_str()))
        })
        .map(|(service, _)| service)
        .collect()
}

#[cfg(test)]
#[path = "radius_tests.rs"]
mod tests;
