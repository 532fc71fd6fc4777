//! The deletion that follows would look harmless and destroy data: a volume's or a snapshot's policy, the claim of a
//! volume, the claims of a StatefulSet; or the data of a Secret or ConfigMap go at once.

use super::{Question, Seen, Write, changed};
use crate::api::Action;

pub const CONDITION: &str = "(object.kind == 'StatefulSet' && \
     object.?spec.?persistentVolumeClaimRetentionPolicy != oldObject.?spec.?persistentVolumeClaimRetentionPolicy) || \
     (object.kind in ['Secret', 'ConfigMap'] && (object.?data != oldObject.?data || \
     object.?binaryData != oldObject.?binaryData) && (size(oldObject.?data.orValue({})) > 0 || \
     size(oldObject.?binaryData.orValue({})) > 0) && \
     !oldObject.?data.orValue({}).exists(key, oldObject.data[key] != '' && object.?data[?key].orValue('') != '') && \
     !oldObject.?binaryData.orValue({}).exists(key, oldObject.binaryData[key] != '' && \
     object.?binaryData[?key].orValue('') != '')) || \
     (object.?spec.?deletionPolicy.orValue('Delete') == 'Delete' && \
     oldObject.?spec.?deletionPolicy.orValue('Delete') != 'Delete')";

/// An update of a volume after which its disk may go.
pub const VOLUME: &str = "(oldObject.?spec.?persistentVolumeReclaimPolicy.orValue('') == 'Retain' && \
     object.?spec.?persistentVolumeReclaimPolicy.orValue('') != 'Retain') || \
     (oldObject.?spec.?claimRef.?uid.orValue('') != '' && (!has(object.spec.claimRef) || \
     object.spec.claimRef.?uid.orValue('') != oldObject.spec.claimRef.uid || \
     object.spec.claimRef.?name.orValue('') != oldObject.spec.claimRef.?name.orValue('') || \
     object.spec.claimRef.?namespace.orValue('') != oldObject.spec.claimRef.?namespace.orValue('')))";

/// A volume of which somebody says that its claim has gone.
pub const VOLUME_STATUS: &str =
    "oldObject.?status.?phase.orValue('') == 'Bound' && object.?status.?phase.orValue('') != 'Bound'";

pub(super) fn seen(write: &Write) -> Option<Seen> {
    let seen = |what: &str, unless| Some(Seen { action: Action::DiscardData, what: what.to_owned(), unless });
    let became = |path: &str, default: &str| {
        let value = |part: super::Part| Some(part.at(path).text()).filter(|text| !text.is_empty());
        let (old, new) = (value(write.old), value(write.new));
        let delete = |one: Option<String>| one.as_deref().unwrap_or(default) == "Delete";
        !delete(old) && delete(new)
    };
    if write.is("", "persistentvolumes") {
        return volume(write);
    }
    if write.is("apps", "statefulsets") {
        let policies = ["whenDeleted", "whenScaled"];
        let path = |when: &str| format!("spec.persistentVolumeClaimRetentionPolicy.{when}");
        if policies.iter().any(|when| became(&path(when), "Retain")) {
            return seen("its claims would go with it, and their data", None);
        }
    } else if write.is("", "secrets") || write.is("", "configmaps") {
        let keys = ["data", "binaryData"].map(|map| (write.old.at(map).filled_keys(), write.new.at(map).filled_keys()));
        let had = keys.iter().any(|(old, _)| !old.is_empty());
        if had && keys.iter().all(|(old, new)| !old.iter().any(|key| new.contains(key))) {
            return seen("nothing of its data would be left", None);
        }
    } else if became("spec.deletionPolicy", "Delete") {
        return seen("what it stands for would be deleted with it", None);
    }
    None
}

fn volume(write: &Write) -> Option<Seen> {
    let seen = |what: &str, unless| Some(Seen { action: Action::DiscardData, what: what.to_owned(), unless });
    let text = |part: super::Part, path: &str| part.at(path).text();
    let policy = "spec.persistentVolumeReclaimPolicy";
    if text(write.old, policy) == "Retain" && text(write.new, policy) != "Retain" {
        return seen("its data would go with its claim", None);
    }
    let bound = !text(write.old, "spec.claimRef.uid").is_empty();
    // Its resource version and the like change without meaning.
    if bound && ["namespace", "name", "uid"].iter().any(|part| changed(write, &format!("spec.claimRef.{part}"))) {
        return seen("it would not be its claim's any more", None);
    }
    if bound && text(write.old, "status.phase") == "Bound" && text(write.new, "status.phase") != "Bound" {
        let [namespace, name, uid] =
            ["namespace", "name", "uid"].map(|part| text(write.old, &format!("spec.claimRef.{part}")));
        let unless = Some(Question::ClaimGone { namespace, name, uid });
        return seen("it would pass for released while its claim is there", unless);
    }
    None
}
