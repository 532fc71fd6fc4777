use super::*;
use crate::guard::{Found, Owner, Subject};

/// Something in namespace `payments`, with its own name as its UID.
pub fn listed(kind: &str, resource: &str, name: &str, owner: Option<(&str, &str)>) -> Listed {
    let subject = Subject {
        resource: resource.to_owned().into(),
        namespace: "payments".into(),
        name: name.to_owned().into(),
        uid: name.to_owned().into(),
        ..Subject::default()
    };
    let owners = owner.into_iter().map(|(kind, name)| Owner {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
        controller: true,
    });
    Listed { subject, kind: kind.to_owned(), owners: owners.collect(), terminating: false, state: ListedState::Plain }
}

fn pod(name: &str, ready: bool, owner: &str) -> Listed {
    let state = ListedState::Pod { ready, finished: false };
    Listed { state, ..listed("Pod", "pods", name, Some(("ReplicaSet", owner))) }
}

fn volume_of(claim: &str, name: &str, kept: bool) -> Listed {
    let claim = Some(("payments".to_owned(), claim.to_owned()));
    let state = ListedState::Volume { claim, kept, capacity: "10Gi".to_owned() };
    let mut volume = Listed { state, ..listed("PersistentVolume", "persistentvolumes", name, None) };
    volume.subject.namespace = "".into();
    volume
}

/// What goes with the Deployment `api`, whose UID is `uid-1`.
pub fn radius(objects: Vec<Listed>) -> Radius {
    let root = Subject {
        group: "apps".into(),
        resource: "deployments".into(),
        namespace: "payments".into(),
        name: "api".into(),
        uid: "uid-1".into(),
        ..Subject::default()
    };
    Radius::grow(&root, Found { objects, ..Found::default() })
}

/// What the Deployment `api` owns.
pub fn owned(kind: &str, resource: &str, name: &str) -> Listed {
    let mut listed = listed(kind, resource, name, Some(("Deployment", "api")));
    listed.owners[0].uid = "uid-1".to_owned();
    listed
}

fn replica_set() -> Listed {
    owned("ReplicaSet", "replicasets", "api-1")
}

fn goes(objects: Vec<Listed>, protected: &[&str]) -> Goes {
    let protected = protected.iter().map(ToString::to_string).collect();
    Goes::of(Some(&radius(objects)), "payments", &protected)
}

#[test]
fn everything_stands_below_what_takes_it_along() {
    let claim = owned("PersistentVolumeClaim", "persistentvolumeclaims", "data");
    let other = owned("PersistentVolumeClaim", "persistentvolumeclaims", "logs");
    let goes = goes(
        vec![
            pod("api-1-b", false, "api-1"),
            volume_of("data", "pv-1", false),
            replica_set(),
            claim,
            other,
            volume_of("logs", "pv-2", true),
            pod("api-1-a", true, "api-1"),
        ],
        &["data"],
    );
    assert_eq!(
        goes.tree("Deployment api", usize::MAX, false),
        [
            "Deployment api",
            "├─ PersistentVolumeClaim data, protected",
            "│  └─ PersistentVolume pv-1, 10Gi, DATA DESTROYED",
            "├─ PersistentVolumeClaim logs",
            "│  └─ PersistentVolume pv-2, 10Gi, kept, with its data",
            "└─ ReplicaSet api-1",
            "   ├─ Pod api-1-a, ready",
            "   └─ Pod api-1-b, not ready",
        ]
    );
    assert_eq!(goes.lost, [r#""pv-1" (10Gi) of claim "data" in "payments""#]);
    assert_eq!(goes.kept, [r#""pv-2" (10Gi) of claim "logs" in "payments""#]);
}

#[test]
fn only_destroyed_data_is_red_and_only_in_colour() {
    let claim = owned("PersistentVolumeClaim", "persistentvolumeclaims", "data");
    let goes = goes(vec![claim, volume_of("data", "pv-1", false)], &[]);
    let coloured = goes.tree("Deployment api", usize::MAX, true);
    assert_eq!(coloured[2], "   └─ \u{1b}[31mPersistentVolume pv-1, 10Gi, DATA DESTROYED\u{1b}[0m");
    assert!(!coloured[1].contains('\u{1b}') && !goes.tree("api", usize::MAX, false).concat().contains('\u{1b}'));
}

#[test]
fn many_alike_are_one_line_with_what_they_take_along_below() {
    let sets = (0..9).map(|number| owned("ReplicaSet", "replicasets", &format!("api-{number}")));
    let pods = (0..9).map(|number| pod(&format!("pod-{number}"), number < 4, &format!("api-{number}")));
    let goes = goes(sets.chain(pods).collect(), &["pod-1", "pod-2"]);
    assert_eq!(
        goes.tree("Deployment api", usize::MAX, false),
        [
            "Deployment api",
            "└─ ReplicaSet ×9: api-0, api-1, api-2, …",
            "   └─ Pod ×9: pod-0, pod-1, pod-2, …; 4 ready; 2 protected",
        ]
    );
}

#[test]
fn volumes_that_are_kept_do_not_hide_among_those_that_are_not() {
    let claims =
        (0..20).map(|number| owned("PersistentVolumeClaim", "persistentvolumeclaims", &format!("c-{number:02}")));
    let volumes = (0..20).map(|number| volume_of(&format!("c-{number:02}"), &format!("pv-{number:02}"), number < 10));
    let goes = goes(claims.chain(volumes).collect(), &[]);
    let tree = goes.tree("api", usize::MAX, false).join("\n");
    assert!(tree.contains("├─ PersistentVolume ×10: pv-00, pv-01, pv-02, …; 10 kept, with their data"), "{tree}");
    assert!(tree.contains("└─ PersistentVolume ×10: pv-10, pv-11, pv-12, …; 10 DATA DESTROYED"), "{tree}");
    assert_eq!(goes.branches.iter().filter(|branch| branch.alarm).count(), 1);
}

#[test]
fn a_tree_that_is_too_long_says_how_much_is_missing() {
    let sets = (0..8).map(|number| owned("ReplicaSet", "replicasets", &format!("api-{number}")));
    let goes = goes(sets.collect(), &[]);
    let tree = goes.tree("api", 5, false);
    assert_eq!(tree.len(), 5);
    assert!(tree[4].starts_with("… and 5 more lines"), "{tree:?}");
    assert_eq!(goes.tree("api", 9, false).len(), 9);
}

#[test]
fn owners_of_owners_without_end_do_not_fill_the_screen() {
    let first = owned("Thing", "things", "t-0");
    let chain = (1..50_000).map(|number| {
        let owner = format!("t-{}", number - 1);
        listed("Thing", "things", &format!("t-{number}"), Some(("Thing", &owner)))
    });
    let goes = goes([first].into_iter().chain(chain).collect(), &[]);
    assert_eq!(goes.branches.len(), DEEPEST + 1);
    assert_eq!(goes.branches[DEEPEST].text, "… and what it takes along");
}

#[test]
fn names_of_others_move_no_cursor() {
    let mut odd = replica_set();
    odd.subject.name = "a\u{1b}[2J\nb".into();
    assert_eq!(goes(vec![odd], &[]).tree("x", usize::MAX, true)[1], "└─ ReplicaSet a [2J b");
}

#[test]
fn who_may_not_list_is_the_caller() {
    let unlisted = [("secrets".to_owned(), "Tagout may not list secrets".to_owned())].into();
    let radius = Radius { unlisted, ..Radius::default() };
    assert_eq!(Goes::of(Some(&radius), "", &BTreeSet::new()).unlisted["secrets"], "you may not list secrets");
}
