//! The AdmissionReview: read in one pass that borrows from the body, and answered.
//!
//! Objects are not held. Of their metadata only what decides is kept, of annotations only the keys and the approval:
//! Secrets pass through here, and so do their copies in `kubectl.kubernetes.io/last-applied-configuration`.

mod answer;
mod bounded;
mod changes;
mod object;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::api::json_fault;

pub use answer::{Answer, Cause, Denial, Denied};
pub use bounded::OWNERS;
pub use changes::other_changes;
pub use object::{Born, Metadata, Object, OwnerReference};

/// The request in a review, with as much of its objects as `O` holds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct Request<'a, O> {
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    pub operation: Operation,
    #[serde(borrow, default)]
    pub kind: Kind<'a>,
    #[serde(borrow)]
    pub resource: Resource<'a>,
    /// What the client named; policies that mutate do not reach it. Empty for collections and generated names.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub sub_resource: Cow<'a, str>,
    #[serde(default)]
    pub user_info: UserInfo,
    #[serde(default = "nothing")]
    pub object: Option<O>,
    #[serde(default = "nothing")]
    pub old_object: Option<O>,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(borrow, default)]
    pub options: Option<Options<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

#[derive(Debug, Default, Deserialize)]
pub struct Kind<'a> {
    #[serde(borrow, default)]
    pub kind: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
pub struct Resource<'a> {
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    #[serde(borrow, default)]
    pub version: Cow<'a, str>,
    #[serde(borrow)]
    pub resource: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
pub struct UserInfo {
    #[serde(default)]
    pub username: String,
    #[serde(default, deserialize_with = "bounded::list")]
    pub groups: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options<'a> {
    #[serde(borrow, default)]
    pub field_manager: Cow<'a, str>,
}

/// A review about one object's metadata.
pub type MetadataRequest<'a> = Request<'a, Object<'a>>;

/// A review whose objects are compared as they stand.
pub type RawRequest<'a> = Request<'a, &'a RawValue>;

/// What a review is about, whatever else is in it: what cannot be read as a whole is not let pass because of that.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gist<'a> {
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    #[serde(borrow)]
    pub resource: Resource<'a>,
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default = "nothing")]
    pub object: Option<Born<'a>>,
}

pub fn gist(body: &[u8]) -> Option<Gist<'_>> {
    #[derive(Deserialize)]
    struct AdmissionReview<'a> {
        #[serde(borrow)]
        request: Gist<'a>,
    }
    let review: AdmissionReview = serde_json::from_slice(body).ok()?;
    Some(review.request).filter(|gist| !gist.uid.is_empty() && gist.uid.len() <= 128)
}

/// Why a body is no review that can be decided. Its text never quotes the body.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("the body is not an AdmissionReview: {what} at line {line} column {column}")]
    Unreadable { what: &'static str, line: usize, column: usize },
    #[error("apiVersion and kind must be admission.k8s.io/v1 and AdmissionReview")]
    OtherVersion,
    #[error("the review has no request")]
    NoRequest,
    #[error("the review's request has no {0}")]
    Missing(&'static str),
    #[error("the review's {0} is longer than any the API server sends")]
    TooLong(&'static str),
    #[error("this path is for {0} requests")]
    OtherOperation(&'static str),
}

pub fn read<'a, O: Deserialize<'a>>(body: &'a [u8]) -> Result<Request<'a, O>, Malformed> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
    struct AdmissionReview<'a, O> {
        #[serde(borrow, default)]
        api_version: Cow<'a, str>,
        #[serde(borrow, default)]
        kind: Cow<'a, str>,
        #[serde(borrow, default = "nothing")]
        request: Option<Request<'a, O>>,
    }
    let review: AdmissionReview<'a, O> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
        return Err(Malformed::OtherVersion);
    }
    let request = review.request.ok_or(Malformed::NoRequest)?;
    if request.uid.is_empty() {
        return Err(Malformed::Missing("uid"));
    }
    if request.user_info.username.is_empty() {
        return Err(Malformed::Missing("userInfo.username"));
    }
    for (what, text, longest) in [
        ("uid", &*request.uid, 128),
        ("userInfo.username", &request.user_info.username, 1024),
        ("resource", &request.resource.resource, 253),
        ("resource's group", &request.resource.group, 253),
        ("resource's version", &request.resource.version, 253),
        ("kind", &request.kind.kind, 253),
        ("subResource", &request.sub_resource, 253),
        ("name", &request.name, 253),
    ] {
        if text.len() > longest {
            return Err(Malformed::TooLong(what));
        }
    }
    Ok(request)
}

fn unreadable(error: &serde_json::Error) -> Malformed {
    Malformed::Unreadable { what: json_fault(error), line: error.line(), column: error.column() }
}

/// `Option`'s own default asks for nothing of what it may hold.
fn nothing<T>() -> Option<T> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVIEW: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"r","kind":{},
        "resource":{"group":"","version":"v1","resource":"secrets"},"name":"","operation":"DELETE",
        "userInfo":{"username":"agent","groups":["a"]},"object":null,"options":{"fieldManager":"m"},"dryRun":true,
        "oldObject":{"metadata":{"name":"s","namespace":"n","uid":"u","labels":{"a":"b"},"annotations":{
        "kubectl.kubernetes.io/last-applied-configuration":"hunter2","tagout.dev/approval":"[\"x\"]"},
        "ownerReferences":[{"apiVersion":"v1","kind":"K","name":"o","uid":"p","controller":true}]},
        "data":{"password":"aHVudGVyMg=="}}}}"#;

    #[test]
    fn a_review_is_read_and_a_secrets_contents_are_not() {
        let review: MetadataRequest = read(REVIEW.as_bytes()).unwrap();
        let metadata = &review.old_object.as_ref().unwrap().metadata;
        assert_eq!((&*metadata.name, &*metadata.uid, review.dry_run), ("s", "u", true));
        assert_eq!(metadata.annotations.approval.as_deref(), Some("[\"x\"]"));
        assert_eq!(metadata.owner_references[0].name, "o");
        let held = format!("{review:?}");
        assert!(!held.contains("hunter2") && !held.contains("aHVudGVyMg"), "{held}");
    }

    #[test]
    fn lists_and_maps_without_end_are_not_kept() {
        let many = |what: &str| vec![what; 100_000].join(",");
        let owners = REVIEW.replace(r#""ownerReferences":["#, &format!(r#""ownerReferences":[{},"#, many("{}")));
        let review: MetadataRequest = read(owners.as_bytes()).unwrap();
        assert!(review.old_object.unwrap().metadata.owner_references.len() <= OWNERS + 1);
        let groups = REVIEW.replace(r#"["a"]"#, &format!("[{}]", many(r#""a""#)));
        assert!(read::<Object>(groups.as_bytes()).is_err());
        let labels: Vec<_> = (0..5000).map(|number| format!(r#""{number}":"""#)).collect();
        let labels = REVIEW.replace(r#"{"a":"b"}"#, &format!("{{{}}}", labels.join(",")));
        assert!(read::<Object>(labels.as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_reading_panic(
            cut in 0..REVIEW.len(), bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
        ) {
            let mut body = REVIEW.as_bytes().to_vec();
            let end = (cut + bytes.len()).min(body.len());
            body.splice(cut..end, bytes.iter().copied());
            drop(read::<Object>(&body));
            drop(read::<&RawValue>(&body));
            drop(read::<Object>(&body[..cut]));
        }
    }
}
