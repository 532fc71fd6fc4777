//! A finalizer is taken off an object that is not going, so that nobody cleans up or waits when it goes; a Namespace is
//! given up by its controller, so that what is in it is left behind.
//!
//! Who may take one off an object that is going is not decided here: only its controller knows whether its work is done.

use super::{Seen, Write};
use crate::api::Action;

pub const CONDITION: &str = "oldObject.metadata.?finalizers.orValue([]).exists(old, \
     !(old in object.metadata.?finalizers.orValue([])))";

/// An update of a Namespace that empties what keeps its contents from being left behind.
pub const NAMESPACE: &str = "size(oldObject.?spec.?finalizers.orValue([])) > 0 && \
     size(object.?spec.?finalizers.orValue([])) == 0";

/// What controllers take off live objects when a snapshot or a clone is made.
const COPYING: [&str; 2] =
    ["snapshot.storage.kubernetes.io/pvc-as-source-protection", "provisioner.storage.kubernetes.io/cloning-protection"];
/// What keeps a volume until its disk is deleted, and goes when the disk is to be kept.
const DELETING_DISKS: [&str; 2] =
    ["external-provisioner.volume.kubernetes.io/finalizer", "kubernetes.io/pv-controller"];
const LOAD_BALANCER: &str = "service.kubernetes.io/load-balancer-cleanup";

pub(super) fn seen(write: &Write) -> Option<Seen> {
    let finalizers =
        |part: super::Part, path: &str| -> Vec<String> { part.at(path).read::<Vec<String>>().unwrap_or_default() };
    let seen = |what: String| Some(Seen { action: Action::Finalize, what, unless: None });
    if write.is("", "namespaces")
        && !finalizers(write.old, "spec.finalizers").is_empty()
        && finalizers(write.new, "spec.finalizers").is_empty()
    {
        return seen("what is in it would be left behind when it goes".to_owned());
    }
    let kept = finalizers(write.new, "metadata.finalizers");
    let taken = finalizers(write.old, "metadata.finalizers");
    let taken = taken.into_iter().find(|one| !kept.contains(one) && !is_routine(write, one))?;
    seen(format!("finalizer {taken} would be taken off it while it is not going"))
}

fn is_routine(write: &Write, finalizer: &str) -> bool {
    if write.is("", "persistentvolumes") {
        let kept = write.new.at("spec.persistentVolumeReclaimPolicy").text() == "Retain";
        return kept && DELETING_DISKS.contains(&finalizer);
    }
    if write.is("", "services") {
        return finalizer == LOAD_BALANCER && write.new.at("spec.type").text() != "LoadBalancer";
    }
    write.is("", "persistentvolumeclaims") && COPYING.contains(&finalizer)
}
