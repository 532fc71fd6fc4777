//! Lists and maps that a review may fill, with an end to how many entries are kept: three bytes of JSON can become a
//! hundred in memory, and anyone on the pod network can send seven million.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// More labels, annotations or groups than this are no object or user of a cluster that works.
pub(super) const MOST: usize = 4096;
/// More owners than any object has. The rest is not kept, and whoever asks who the owners are must say no.
pub const OWNERS: usize = 16;

/// A list of at most [`MOST`] entries; a longer one is an error.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(List { most: MOST, ignores_rest: false, of: PhantomData })
}

/// The first entries of a list: one more than [`OWNERS`] where there are more.
pub(super) fn beginning<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(List { most: OWNERS + 1, ignores_rest: true, of: PhantomData })
}

/// A map of at most [`MOST`] entries; a larger one is an error.
pub(super) fn map<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    deserializer.deserialize_any(Map(PhantomData))
}

struct Map<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Map<K, V> {
    type Value = BTreeMap<K, V>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = access.next_entry()? {
            if map.len() == MOST {
                return Err(A::Error::custom("too many entries"));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

struct List<T> {
    most: usize,
    ignores_rest: bool,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < self.most {
            match access.next_element()? {
                Some(entry) => list.push(entry),
                None => return Ok(list),
            }
        }
        while access.next_element::<IgnoredAny>()?.is_some() {
            if !self.ignores_rest {
                return Err(A::Error::custom("too many entries"));
            }
        }
        Ok(list)
    }
}
