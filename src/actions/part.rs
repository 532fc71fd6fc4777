use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

/// A part of an object as it stands in a review. Nothing is kept of what is not asked for: Secrets pass through here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part<'a>(Option<&'a RawValue>);

impl<'a> Part<'a> {
    pub fn of(raw: Option<&'a RawValue>) -> Self {
        Self(raw.filter(|raw| raw.get() != "null"))
    }

    /// What lies at the end of a path of names, like `spec.template.spec`. Absent where anything on the way is.
    #[must_use]
    pub fn at(self, path: &str) -> Self {
        path.split('.').fold(self, Self::field)
    }

    pub fn is_set(self) -> bool {
        self.0.is_some()
    }

    /// Nothing where it is absent or of another type: custom kinds may use any name for anything.
    pub fn read<T: DeserializeOwned>(self) -> Option<T> {
        serde_json::from_str(self.0?.get()).ok()
    }

    pub fn text(self) -> String {
        self.read().unwrap_or_default()
    }

    pub fn number(self) -> Option<i64> {
        self.read()
    }

    pub fn flag(self) -> bool {
        self.read().unwrap_or_default()
    }

    pub fn list(self) -> Vec<Part<'a>> {
        let list: Option<Vec<&'a RawValue>> = self.0.and_then(|raw| serde_json::from_str(raw.get()).ok());
        list.into_iter().flatten().map(|raw| Part::of(Some(raw))).collect()
    }

    /// The keys of a map whose values are not empty.
    pub fn filled_keys(self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Filled<'a>(#[serde(borrow, deserialize_with = "entries")] Vec<(Cow<'a, str>, &'a RawValue)>);
        let filled: Option<Filled> = self.0.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let entries = filled.map(|filled| filled.0).unwrap_or_default();
        entries.into_iter().filter(|(_, value)| value.get() != "\"\"").map(|(key, _)| key.into_owned()).collect()
    }

    /// Whether both say the same. The API server writes both with one codec, maps sorted by key, so equal parts are equal
    /// texts.
    pub fn same(self, other: Self) -> bool {
        self.0.map(RawValue::get) == other.0.map(RawValue::get)
    }

    fn field(self, name: &str) -> Self {
        struct One<'n>(&'n str);
        impl<'de> Visitor<'de> for One<'_> {
            type Value = Option<&'de RawValue>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = None;
                while let Some(Key(key)) = map.next_key()? {
                    if key == self.0 {
                        found = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(found)
            }
        }
        let found = self.0.and_then(|raw| {
            let mut deserializer = serde_json::Deserializer::from_str(raw.get());
            deserializer.deserialize_map(One(name)).ok().flatten()
        });
        Self::of(found)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn entries<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some((Key(key), value)) = map.next_entry::<Key, &RawValue>()? {
                if all.len() == MOST {
                    return Err(de::Error::custom("too many keys"));
                }
                all.push((key, value));
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Entries)
}

/// More keys than an object of 3 MiB has in practice; a review can be forged.
const MOST: usize = 16 * 1024;
