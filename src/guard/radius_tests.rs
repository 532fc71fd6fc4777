use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::{collection, prop_assert, prop_assert_eq};

use super::*;

/// `kind/namespace/name` with the UID `name`; kinds are named as in the core group, or with their group.
fn subject(kind: &str, namespace: &str, name: &str) -> Subject<'static> {
    let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
    Subject {
        group: group.to_owned().into(),
        resource: resource.to_owned().into(),
        namespace: namespace.to_owned().into(),
        name: name.to_owned().into(),
        uid: name.to_owned().into(),
        ..Subject::default()
    }
}

fn listed(kind: &str, namespace: &str, name: &str) -> Listed {
    let subject = subject(kind, namespace, name);
    Listed { subject, kind: kind.to_owned(), owners: Vec::new(), terminating: false, state: ListedState::Plain }
}

impl Listed {
    fn owned_by(mut self, kind: &str, name: &str) -> Self {
        let text = str::to_owned;
        let owner =
            Owner { api_version: text("v1"), kind: text(kind), name: text(name), uid: text(name), controller: false };
        self.owners.push(owner);
        self
    }

    fn in_state(self, state: ListedState) -> Self {
        Self { state, ..self }
    }
}

fn pod(namespace: &str, name: &str, ready: bool) -> Listed {
    listed("pods", namespace, name).in_state(ListedState::Pod { ready, finished: false })
}

fn volume(name: &str, claim: Option<(&str, &str)>, kept: bool) -> Listed {
    let claim = claim.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    listed("persistentvolumes", "", name).in_state(ListedState::Volume { claim, kept, capacity: "1Gi".to_owned() })
}

fn grow(root: &Subject, objects: impl Into<Vec<Listed>>) -> Radius {
    Radius::grow(root, Found { objects: objects.into(), ..Found::default() })
}

/// Who goes, each with what takes it along.
fn gone(radius: &Radius) -> Vec<(&str, &str)> {
    let name = |at: usize| &*radius.going[at].listed.subject.name;
    radius.going.iter().map(|going| (&*going.listed.subject.name, going.with.map_or("the root", name))).collect()
}

#[test]
fn a_namespace_takes_its_contents_along_and_nothing_else() {
    let root = subject("namespaces", "", "shop");
    let objects = [
        listed("configmaps", "shop", "b"),
        listed("configmaps", "other", "c"),
        listed("nodes", "", "shop-node"),
        listed("configmaps", "shop", "a"),
    ];
    assert_eq!(gone(&grow(&root, objects)), [("a", "the root"), ("b", "the root")]);
}

#[test]
fn a_definition_takes_its_instances_in_every_namespace_and_what_they_own() {
    let root = subject("customresourcedefinitions.apiextensions.k8s.io", "", "databases.example.com");
    let objects = [
        listed("databases.example.com", "a", "db-a"),
        listed("databases.example.com", "b", "db-b"),
        listed("databases.example.org", "b", "another"),
        listed("statefulsets.apps", "a", "set").owned_by("databases.example.com", "db-a"),
    ];
    let expected = [("db-a", "the root"), ("db-b", "the root"), ("set", "db-a")];
    assert_eq!(gone(&grow(&root, objects)), expected);
}

#[test]
fn a_namespace_or_definition_that_is_owned_takes_its_own_along_too() {
    let root = subject("tenants.example.com", "", "tenant");
    let objects = [
        listed("namespaces", "", "shop").owned_by("Tenant", "tenant"),
        listed("secrets", "shop", "key"),
        listed("customresourcedefinitions.apiextensions.k8s.io", "", "toys.example.com").owned_by("Tenant", "tenant"),
        listed("toys.example.com", "other", "toy"),
    ];
    let expected =
        [("toys.example.com", "the root"), ("shop", "the root"), ("key", "shop"), ("toy", "toys.example.com")];
    assert_eq!(gone(&grow(&root, objects)), expected);
}

#[test]
fn owners_take_their_dependents_along_over_any_number_of_steps() {
    let root = subject("deployments.apps", "n", "web");
    let objects = [
        pod("n", "web-1-a", true).owned_by("replicasets.apps", "web-1"),
        pod("n", "web-1-b", false).owned_by("replicasets.apps", "web-1"),
        listed("replicasets.apps", "n", "web-1").owned_by("Deployment", "web"),
        pod("n", "bare", true),
    ];
    let radius = grow(&root, objects);
    assert_eq!(gone(&radius), [("web-1-a", "web-1"), ("web-1-b", "web-1"), ("web-1", "the root")]);
    assert_eq!(radius.counts(), [("pods".to_owned(), 2), ("replicasets.apps".to_owned(), 1)]);
    assert_eq!(radius.ready_pods(), 1);
}

#[test]
fn an_owner_that_stays_keeps_what_it_owns() {
    let root = subject("a", "n", "root");
    let shared = || listed("x", "n", "shared").owned_by("a", "root").owned_by("b", "other");
    assert!(gone(&grow(&root, [shared(), listed("b", "n", "other")])).is_empty());

    let both_go = grow(&root, [shared(), listed("b", "n", "other").owned_by("a", "root")]);
    assert_eq!(gone(&both_go), [("other", "the root"), ("shared", "other")]);
    assert_eq!(gone(&grow(&root, [shared()])), [("shared", "the root")], "an owner that nobody listed is gone");
}

#[test]
fn an_owner_that_the_collector_would_not_find_keeps_nothing() {
    let root = subject("a", "n", "root");
    let dependent = || listed("x", "n", "dependent").owned_by("a", "root").owned_by("b", "other");
    let elsewhere = listed("b", "another", "other");
    let terminating = Listed { terminating: true, ..listed("b", "n", "other") };
    let other_kind = Listed { kind: "c".to_owned(), ..listed("b", "n", "other") };
    let mut other_name = listed("b", "n", "misnamed");
    other_name.subject.uid = "other".into();
    for owner in [elsewhere, terminating, other_kind, other_name] {
        assert_eq!(gone(&grow(&root, [dependent(), owner.clone()])), [("dependent", "the root")], "{owner:?}");
    }
    let cluster_scoped = listed("b", "", "other");
    assert!(gone(&grow(&root, [dependent(), cluster_scoped])).is_empty());
}

#[test]
fn owners_in_a_circle_hold_each_other_and_never_hang() {
    let root = subject("a", "n", "root");
    let circle = |entry: Listed| {
        [entry.owned_by("x", "two"), listed("x", "n", "two").owned_by("x", "one"), listed("x", "n", "self")]
    };
    assert!(gone(&grow(&root, circle(listed("x", "n", "one")))).is_empty());
    assert!(gone(&grow(&root, circle(listed("x", "n", "one").owned_by("a", "root")))).is_empty());
    assert!(gone(&grow(&root, [listed("x", "n", "self").owned_by("x", "self").owned_by("a", "root")])).is_empty());

    let namespace = subject("namespaces", "", "n");
    assert_eq!(grow(&namespace, circle(listed("x", "n", "one"))).going.len(), 3);
}

#[test]
fn an_owner_named_twice_is_one_owner() {
    let root = subject("a", "n", "root");
    let twice = listed("x", "n", "x").owned_by("b", "other").owned_by("b", "other").owned_by("a", "root");
    assert!(gone(&grow(&root, [twice.clone(), listed("b", "n", "other")])).is_empty());
    let both_go = grow(&root, [twice, listed("b", "n", "other").owned_by("a", "root")]);
    assert_eq!(both_go.going.len(), 2);
}

#[test]
fn a_claim_takes_its_volume_along_which_is_destroyed_or_kept() {
    let root = subject("persistentvolumeclaims", "n", "data");
    let objects = [
        volume("lost", Some(("n", "data")), false),
        volume("kept", Some(("n", "data")), true),
        volume("of another", Some(("m", "data")), false),
        volume("free", None, false),
    ];
    let radius = grow(&root, objects);
    assert_eq!(gone(&radius), [("kept", "the root"), ("lost", "the root")]);
    let names = |listed: &Listed| listed.subject.name.to_string();
    assert_eq!(radius.lost_volumes().map(names).collect::<Vec<_>>(), ["lost"]);
    assert_eq!(radius.kept_volumes().map(names).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(radius.counts(), [("persistentvolumes".to_owned(), 1)]);
}

#[test]
fn a_claim_that_goes_with_its_namespace_takes_its_volume_along() {
    let objects = [listed("persistentvolumeclaims", "n", "data"), volume("disk", Some(("n", "data")), false)];
    let radius = grow(&subject("namespaces", "", "n"), objects);
    assert_eq!(gone(&radius), [("data", "the root"), ("disk", "data")]);
}

#[test]
fn a_volume_that_is_kept_takes_nothing_along() {
    let root = subject("persistentvolumeclaims", "n", "data");
    let attached = |kept| {
        [volume("disk", Some(("n", "data")), kept), listed("x", "", "attached").owned_by("persistentvolumes", "disk")]
    };
    assert_eq!(grow(&root, attached(false)).going.len(), 2);
    assert_eq!(grow(&root, attached(true)).going.len(), 1);
}

#[test]
fn a_volume_takes_its_claim_nowhere() {
    let root = subject("persistentvolumes", "", "disk");
    assert!(gone(&grow(&root, [listed("persistentvolumeclaims", "n", "data")])).is_empty());
}

#[test]
fn the_root_and_what_is_listed_twice_count_once() {
    let root = subject("namespaces", "", "n");
    let mut twin = listed("ingresses.extensions", "n", "one");
    twin.kind = "ingresses.networking.k8s.io".to_owned();
    let objects = [
        listed("namespaces", "", "n"),
        listed("ingresses.networking.k8s.io", "n", "one"),
        twin,
        listed("ingresses.networking.k8s.io", "n", "one"),
    ];
    assert_eq!(gone(&grow(&root, objects)), [("one", "the root")]);
}

#[test]
fn objects_without_a_uid_are_told_apart_by_name_and_own_nothing() {
    let root = Subject { uid: "".into(), ..subject("a", "n", "root") };
    let nameless = |name: &str| {
        let mut listed = listed("x", "n", name).owned_by("a", "");
        listed.subject.uid = "".into();
        listed
    };
    assert!(gone(&grow(&root, [nameless("one"), nameless("two")])).is_empty());
    let namespace = subject("namespaces", "", "n");
    assert_eq!(grow(&namespace, [nameless("one"), nameless("two"), nameless("two")]).going.len(), 2);
}

#[test]
fn a_service_is_bare_when_all_its_ready_pods_go_and_it_stays() {
    let root = subject("deployments.apps", "n", "web");
    let behind = [
        ("all", vec!["one", "two"]),
        ("some", vec!["one", "stays"]),
        ("none", vec![]),
        ("elsewhere", vec!["one", ""]),
        ("goes", vec!["one"]),
    ];
    let service = |name: &str| ("n".to_owned(), name.to_owned());
    let found = Found {
        objects: vec![
            pod("n", "one", true).owned_by("Deployment", "web"),
            pod("n", "two", true).owned_by("Deployment", "web"),
            pod("n", "stays", true),
            listed("services", "n", "goes").owned_by("Deployment", "web"),
        ],
        behind: behind.map(|(name, pods)| (service(name), pods.into_iter().map(str::to_owned).collect())).into(),
        ..Found::default()
    };
    assert_eq!(Radius::grow(&root, found.clone()).bare_services, [service("all")]);
    let bare_pod = Radius::grow(&subject("pods", "n", "one"), found.clone());
    assert_eq!(bare_pod.bare_services, [service("goes")], "the root is a pod too");
    assert!(Radius::grow(&subject("services", "n", "all"), found).bare_services.is_empty());
}

#[test]
fn what_could_not_be_listed_makes_a_radius_incomplete() {
    let unlisted = BTreeMap::from([("secrets".to_owned(), "Tagout may not list secrets".to_owned())]);
    let radius = Radius::grow(&subject("namespaces", "", "n"), Found { unlisted, ..Found::default() });
    assert!(!radius.is_complete());
    assert!(grow(&subject("namespaces", "", "n"), []).is_complete());
}

#[test]
fn a_hundred_thousand_objects_in_one_chain_or_one_namespace_are_quick() {
    let chain: Vec<Listed> = (0..100_000)
        .map(|at: u32| listed("x", "n", &format!("{:06}", at + 1)).owned_by("x", &format!("{at:06}")))
        .collect();
    let began = Instant::now();
    let radius = grow(&subject("x", "n", "000000"), chain.clone());
    assert_eq!(radius.going.len(), 100_000);
    assert_eq!(radius.going[99_999].with, Some(99_998));
    assert_eq!(grow(&subject("namespaces", "", "n"), chain).going.len(), 100_000);
    // Quadratic time would be hours.
    assert!(began.elapsed() < Duration::from_mins(5), "{:?}", began.elapsed());
}

/// A small world in which everything may own everything.
fn worlds() -> impl Strategy<Value = Vec<Listed>> {
    let kind = prop_oneof![
        Just("namespaces"),
        Just("customresourcedefinitions.apiextensions.k8s.io"),
        Just("persistentvolumeclaims"),
        Just("persistentvolumes"),
        Just("toys.example.com"),
        Just("pods"),
    ];
    let owners = collection::vec(0..12_usize, 0..3);
    let one = (kind, any::<[bool; 4]>(), owners);
    collection::vec(one, 1..10).prop_map(|world| {
        let kinds: Vec<&str> = world.iter().map(|(kind, ..)| *kind).collect();
        let name = |at: usize| match kinds.get(at) {
            Some(&"customresourcedefinitions.apiextensions.k8s.io") => "toys.example.com".to_owned(),
            Some(&"namespaces") => ["m", "n"][at % 2].to_owned(),
            _ => format!("o{at}"),
        };
        let build =
            |(at, (kind, [there, terminating, bound, kept], owners)): (usize, (&str, [bool; 4], Vec<usize>))| {
                let namespaced = ["persistentvolumeclaims", "toys.example.com", "pods"].contains(&kind);
                let namespace = if namespaced { ["m", "n"][usize::from(there)] } else { "" };
                let mut object = Listed { terminating, ..listed(kind, namespace, &name(at)) };
                object.subject.uid = format!("u{at}").into();
                for owner in owners {
                    object = object.owned_by(kinds.get(owner).unwrap_or(&"nodes"), &name(owner));
                    object.owners.last_mut().unwrap().uid = format!("u{owner}");
                }
                if kind == "persistentvolumes" {
                    let claim = kinds.iter().position(|kind| *kind == "persistentvolumeclaims").filter(|_| bound);
                    let claim = claim.map(|claim| (["m", "n"][usize::from(there)].to_owned(), name(claim)));
                    object.state = ListedState::Volume { claim, kept, capacity: String::new() };
                }
                object
            };
        world.into_iter().enumerate().map(build).collect()
    })
}

/// Whether one object alone can be why another goes.
fn takes(one: &Subject, other: &Listed) -> bool {
    let claim = (one.namespace.to_string(), one.name.to_string());
    let bound = matches!(&other.state, ListedState::Volume { claim: Some(of), .. } if *of == claim);
    let definition = one.resource == "customresourcedefinitions" && one.name == other.subject.kind();
    (one.is_namespace() && !other.subject.namespace.is_empty() && one.name == other.subject.namespace)
        || definition
        || (one.resource == "persistentvolumeclaims" && bound)
        || other.owners.iter().any(|owner| owner.uid == one.uid)
}

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_order_of_the_list_does_not_matter_and_nothing_goes_without_a_path_to_the_root(
        (objects, shuffled) in worlds().prop_flat_map(|world| (Just(world.clone()), Just(world).prop_shuffle())),
    ) {
        let root = objects[0].subject.clone();
        let radius = grow(&root, objects.clone());
        prop_assert_eq!(format!("{radius:?}"), format!("{:?}", grow(&root, shuffled)));

        let uids: BTreeSet<&str> = radius.going.iter().map(|going| &*going.listed.subject.uid).collect();
        prop_assert_eq!(uids.len(), radius.going.len());
        prop_assert!(!uids.contains(&*root.uid));
        for going in &radius.going {
            let (mut at, mut steps) = (going, 0);
            loop {
                let by = at.with.map_or(&root, |by| &radius.going[by].listed.subject);
                prop_assert!(takes(by, &at.listed), "{by:?} does not take {:?} along", at.listed);
                let Some(by) = at.with else { break };
                at = &radius.going[by];
                steps += 1;
                prop_assert!(steps <= radius.going.len(), "in a circle");
            }
        }
    }

    #[test]
    fn what_stays_has_a_reason_to_stay(objects in worlds()) {
        let root = objects[0].subject.clone();
        let radius = grow(&root, objects.clone());
        let gone: BTreeSet<&str> =
            radius.going.iter().map(|going| &*going.listed.subject.uid).chain([&*root.uid]).collect();
        let deleted = |subject: &Subject| {
            let kept = radius.kept_volumes().any(|volume| volume.subject.uid == subject.uid);
            gone.contains(&*subject.uid) && !kept
        };
        let named = |listed: &&Listed| name(&listed.subject) != name(&root);
        for staying in objects.iter().filter(|listed| !gone.contains(&*listed.subject.uid)).filter(named) {
            let taking = objects.iter().filter(|other| deleted(&other.subject) && takes(&other.subject, staying));
            let held = objects.iter().any(|other| !gone.contains(&*other.subject.uid) && holds(other, staying))
                || radius.kept_volumes().any(|volume| holds(volume, staying))
                || holds(staying, staying);
            for other in taking {
                let owned = staying.owners.iter().any(|owner| owner.uid == other.subject.uid);
                prop_assert!(owned && held, "{staying:?} should go with {other:?}");
            }
        }
    }
}
