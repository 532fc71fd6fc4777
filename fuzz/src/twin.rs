//! A review read in full, as plain JSON: what Tagout reads in one pass and mostly skips.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use tagout::review::{self, Metadata, OWNERS, Object, Operation};

/// What is to be made of a body.
#[derive(Debug)]
pub enum Twin {
    Says(Box<Said>),
    /// It is no review that anybody may decide.
    Refused,
    /// No API server writes such a thing, and readers may differ: a key that stands twice, a list in the place of a map,
    /// and what is too deep, too large or broken where nobody looks.
    Either,
}

/// What a review says.
#[derive(Debug, PartialEq)]
pub struct Said {
    pub uid: String,
    pub operation: String,
    pub kind: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub name: String,
    pub sub_resource: String,
    pub username: String,
    pub groups: Vec<String>,
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub object: Option<Known>,
    pub old_object: Option<Known>,
}

/// What is known of an object; nothing where its metadata cannot be read.
pub type Known = Option<Box<Meta>>;

#[derive(Debug, PartialEq)]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeSet<String>,
    pub approval: Option<String>,
    /// API version, kind, name, UID, and whether it is the controller.
    pub owners: Vec<(String, String, String, String, bool)>,
    pub created: Option<Timestamp>,
    pub going: Option<String>,
}

/// Why there is nothing to be said.
enum No {
    Refused,
    Either,
}

const MOST: usize = 4096;

pub fn read(body: &[u8]) -> Twin {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        return if is_json { Twin::Either } else { Twin::Refused };
    };
    if serde_json::from_slice::<Once>(body).is_err() {
        return Twin::Either;
    }
    match said(&value) {
        Ok(said) => Twin::Says(Box::new(said)),
        Err(No::Refused) => Twin::Refused,
        Err(No::Either) => Twin::Either,
    }
}

impl Twin {
    /// Whether it is what Tagout's reader makes of the same.
    pub fn agrees(&self, read: Option<&review::MetadataRequest>) -> bool {
        match (self, read) {
            (Self::Either, _) | (Self::Refused, None) => true,
            (Self::Says(said), Some(read)) => **said == Said::of(read),
            (Self::Says(said), None) => said.object == Some(None) || said.old_object == Some(None),
            (Self::Refused, Some(_)) => false,
        }
    }
}

impl Said {
    fn of(read: &review::MetadataRequest) -> Self {
        let operation = match read.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        };
        let known = |object: &Object| Some(Box::new(Meta::of(&object.metadata)));
        Self {
            uid: read.uid.to_string(),
            operation: operation.to_owned(),
            kind: read.kind.kind.to_string(),
            group: read.resource.group.to_string(),
            version: read.resource.version.to_string(),
            resource: read.resource.resource.to_string(),
            name: read.name.to_string(),
            sub_resource: read.sub_resource.to_string(),
            username: read.user_info.username.clone(),
            groups: read.user_info.groups.clone(),
            dry_run: read.dry_run,
            field_manager: read.options.as_ref().map(|options| options.field_manager.to_string()),
            object: read.object.as_ref().map(known),
            old_object: read.old_object.as_ref().map(known),
        }
    }
}

impl Meta {
    fn of(metadata: &Metadata) -> Self {
        let owner = |owner: &review::OwnerReference| {
            let owner = owner.clone();
            (owner.api_version, owner.kind, owner.name, owner.uid, owner.controller)
        };
        Self {
            name: metadata.name.to_string(),
            namespace: metadata.namespace.to_string(),
            uid: metadata.uid.to_string(),
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.keys.iter().map(ToString::to_string).collect(),
            approval: metadata.annotations.approval.as_ref().map(ToString::to_string),
            owners: metadata.owner_references.iter().map(owner).collect(),
            created: metadata.creation_timestamp,
            going: metadata.deletion_timestamp.as_ref().map(ToString::to_string),
        }
    }
}

fn said(review: &Value) -> Result<Said, No> {
    let review = map(Some(review))?.ok_or(No::Refused)?;
    let is = |key: &str, expected: &str| review.get(key).and_then(Value::as_str) == Some(expected);
    let request = map(review.get("request"))?.ok_or(No::Refused)?;
    let resource = map(request.get("resource"))?.ok_or(No::Refused)?;
    let user = part(request, "userInfo")?;
    let kind = part(request, "kind")?;
    let options = map(request.get("options"))?;
    let operation = match request.get("operation") {
        Some(Value::Object(_)) => return Err(No::Either),
        Some(Value::String(operation)) => operation.clone(),
        _ => return Err(No::Refused),
    };
    let said = Said {
        uid: long(request, "uid", 128)?,
        operation,
        kind: long(kind, "kind", 253)?,
        group: long(resource, "group", 253)?,
        version: long(resource, "version", 253)?,
        resource: long(resource, "resource", 253)?,
        name: long(request, "name", 253)?,
        sub_resource: long(request, "subResource", 253)?,
        username: long(user, "username", 1024)?,
        groups: texts(user.get("groups"))?,
        dry_run: flag(request, "dryRun")?,
        field_manager: options.map(|options| text(options, "fieldManager")).transpose()?,
        object: known(request.get("object"))?,
        old_object: known(request.get("oldObject"))?,
    };
    let known = ["CREATE", "UPDATE", "DELETE", "CONNECT"].contains(&said.operation.as_str());
    let whole = is("apiVersion", "admission.k8s.io/v1") && is("kind", "AdmissionReview");
    let named = resource.contains_key("resource") && !said.uid.is_empty() && !said.username.is_empty();
    if known && whole && named { Ok(said) } else { Err(No::Refused) }
}

fn known(object: Option<&Value>) -> Result<Option<Known>, No> {
    match object {
        None | Some(Value::Null) => Ok(None),
        Some(object) => match meta(object) {
            Ok(meta) => Ok(Some(Some(Box::new(meta)))),
            Err(No::Refused) => Ok(Some(None)),
            Err(No::Either) => Err(No::Either),
        },
    }
}

fn meta(object: &Value) -> Result<Meta, No> {
    let object = map(Some(object))?.ok_or(No::Refused)?;
    let metadata = map(object.get("metadata"))?.ok_or(No::Refused)?;
    let none = Map::new();
    let annotations = match metadata.get("annotations") {
        None | Some(Value::Null) => &none,
        Some(Value::Object(annotations)) => annotations,
        Some(_) => return Err(No::Refused),
    };
    let approval = match annotations.get("tagout.dev/approval") {
        None => None,
        Some(Value::String(approval)) => Some(approval.clone()),
        Some(_) => return Err(No::Refused),
    };
    let mut labels = BTreeMap::new();
    match metadata.get("labels") {
        None | Some(Value::Null) => {}
        Some(Value::Object(all)) => {
            for (key, value) in all {
                labels.insert(key.clone(), value.as_str().ok_or(No::Refused)?.to_owned());
            }
        }
        Some(_) => return Err(No::Refused),
    }
    let mut owners = Vec::new();
    for owner in list(metadata.get("ownerReferences"))?.iter().take(OWNERS + 1) {
        let owner = map(Some(owner))?.ok_or(No::Refused)?;
        let [api_version, kind, name, uid] = ["apiVersion", "kind", "name", "uid"].map(|key| text(owner, key));
        owners.push((api_version?, kind?, name?, uid?, flag(owner, "controller")?));
    }
    if labels.len() > MOST || annotations.len() > MOST {
        return Err(No::Refused);
    }
    let optional = |key: &str| match metadata.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(No::Refused),
    };
    Ok(Meta {
        name: text(metadata, "name")?,
        namespace: text(metadata, "namespace")?,
        uid: text(metadata, "uid")?,
        labels,
        annotations: annotations.keys().cloned().collect(),
        approval,
        owners,
        created: optional("creationTimestamp")?.map(|time| time.parse().map_err(|_| No::Refused)).transpose()?,
        going: optional("deletionTimestamp")?,
    })
}

fn map(value: Option<&Value>) -> Result<Option<&Map<String, Value>>, No> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(Value::Array(_)) => Err(No::Either),
        Some(_) => Err(No::Refused),
    }
}

/// A map that may be left out, and is nothing else.
fn part<'v>(of: &'v Map<String, Value>, key: &str) -> Result<&'v Map<String, Value>, No> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    match of.get(key) {
        None => Ok(&NONE),
        some => map(some)?.ok_or(No::Refused),
    }
}

fn list(value: Option<&Value>) -> Result<&[Value], No> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(No::Refused),
    }
}

fn texts(value: Option<&Value>) -> Result<Vec<String>, No> {
    let list = list(value)?;
    if list.len() > MOST {
        return Err(No::Refused);
    }
    list.iter().map(|one| Ok(one.as_str().ok_or(No::Refused)?.to_owned())).collect()
}

fn text(of: &Map<String, Value>, key: &str) -> Result<String, No> {
    match of.get(key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(No::Refused),
    }
}

fn long(of: &Map<String, Value>, key: &str, longest: usize) -> Result<String, No> {
    text(of, key).and_then(|text| if text.len() > longest { Err(No::Refused) } else { Ok(text) })
}

fn flag(of: &Map<String, Value>, key: &str) -> Result<bool, No> {
    of.get(key).map_or(Ok(false), |flag| flag.as_bool().ok_or(No::Refused))
}

/// JSON in which no key stands twice in one map.
pub struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((key, Self)) = map.next_entry::<String, Self>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}
