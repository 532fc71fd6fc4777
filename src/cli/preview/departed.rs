//! What went lately. Writes and deletions that come at once are not always logged in their order, and who wrote first may
//! stand after who deleted: then it is by its UID that what was there is found, and nothing comes back by it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::state::text;

#[derive(Debug, Default)]
pub(super) struct Departed {
    by_uid: BTreeMap<String, Arc<Value>>,
    order: VecDeque<String>,
}

/// Events that change places stand close to each other.
const REMEMBERED: usize = 1000;

impl Departed {
    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Value>> {
        self.by_uid.get(uid)
    }

    pub(super) fn remember(&mut self, object: &Arc<Value>) {
        let uid = text(object, "/metadata/uid");
        if uid.is_empty() || self.by_uid.insert(uid.to_owned(), Arc::clone(object)).is_some() {
            return;
        }
        self.order.push_back(uid.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(first) = self.order.pop_front()
        {
            self.by_uid.remove(&first);
        }
    }

    /// It was not gone after all.
    pub(super) fn is_back(&mut self, uid: &str) {
        if self.by_uid.remove(uid).is_some() {
            self.order.retain(|other| other != uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_so_many_are_remembered_and_the_latest() {
        let mut departed = Departed::default();
        let object = |number: usize| Arc::new(json!({"metadata": {"uid": format!("u-{number}")}}));
        for number in 0..=REMEMBERED {
            departed.remember(&object(number));
            departed.remember(&object(number));
        }
        assert!(departed.get("u-0").is_none() && departed.get("u-1").is_some());
        assert_eq!(departed.by_uid.len(), REMEMBERED);
        departed.is_back("u-1");
        departed.remember(&object(0));
        assert!(departed.get("u-1").is_none() && departed.get("u-0").is_some() && departed.get("u-2").is_some());
        departed.remember(&Arc::new(json!({})));
        assert!(departed.get("").is_none());
    }
}
