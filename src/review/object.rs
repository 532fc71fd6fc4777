use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::bounded;
use crate::api::APPROVAL;

/// An object, as far as decisions need it.
#[derive(Debug, Deserialize)]
pub struct Object<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
}

/// What is to be made, as far as its name and makers go: whatever else is in it keeps nobody from reading that.
#[derive(Debug, Deserialize)]
pub struct Born<'a> {
    #[serde(borrow)]
    pub metadata: Birth<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Birth<'a> {
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    #[serde(default, deserialize_with = "bounded::beginning")]
    pub owner_references: Vec<OwnerReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata<'a> {
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    #[serde(default, deserialize_with = "bounded::map")]
    pub labels: BTreeMap<String, String>,
    #[serde(borrow, default)]
    pub annotations: Annotations<'a>,
    #[serde(default, deserialize_with = "bounded::beginning")]
    pub owner_references: Vec<OwnerReference>,
    #[serde(default)]
    pub creation_timestamp: Option<Timestamp>,
    #[serde(borrow, default)]
    pub deletion_timestamp: Option<Cow<'a, str>>,
}

/// The keys, and the value of the one annotation that is Tagout's.
#[derive(Debug, Default)]
pub struct Annotations<'a> {
    pub keys: Vec<Cow<'a, str>>,
    pub approval: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: bool,
}

/// A string that is borrowed where JSON spells it without escapes. (`Cow` alone borrows only as a struct's field.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Annotations<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("annotations")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Annotations::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut annotations = Annotations::default();
                while let Some(Text(key)) = map.next_key()? {
                    if key == APPROVAL {
                        annotations.approval = Some(map.next_value::<Text>()?.0);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                    if annotations.keys.len() == bounded::MOST {
                        return Err(A::Error::custom("too many annotations"));
                    }
                    annotations.keys.push(key);
                }
                Ok(annotations)
            }
        }
        deserializer.deserialize_any(Keys)
    }
}
