//! An object is given an owner that is not there or is going, or is left with none that lives: then the garbage
//! collector would delete it.
//!
//! Owners that live are routine: controllers adopt. What becomes of the object when such an owner goes is decided when
//! the collector comes.

use super::{Owner, Question, Seen, Write};
use crate::api::Action;

pub const CONDITION: &str = "size(object.metadata.?ownerReferences.orValue([])) > 0 && \
     object.metadata.?ownerReferences.orValue([]) != oldObject.metadata.?ownerReferences.orValue([])";

/// More owners than any object has. Each is a request to the API server, and a review can be forged.
const MAX_OWNERS: usize = 16;

pub(super) fn seen(write: &Write) -> Option<Seen> {
    let [before, all] = write.owners();
    let named = |list: &[Owner], one: &Owner| {
        list.iter().any(|other| {
            other.uid == one.uid
                && other.kind == one.kind
                && other.name == one.name
                && other.api_version == one.api_version
        })
    };
    let joining: Vec<_> = all.iter().filter(|owner| !named(&before, owner)).cloned().collect();
    let leaves = before.iter().any(|owner| !named(&all, owner));
    if all.is_empty() || (joining.is_empty() && !leaves) {
        return None;
    }
    let unless = (all.len() <= MAX_OWNERS).then_some(Question::OwnersLive { joining, all });
    let what = "the garbage collector would delete it, because an owner that it would have is not there or is going";
    Some(Seen { action: Action::Reparent, what: what.to_owned(), unless })
}
