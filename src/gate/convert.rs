//! From what a review says to what the decision asks.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::api::{APPROVAL, Action};
use crate::guard::{Owner, Reach, Request, Requester, Subject};
use crate::review::{Malformed, Metadata, Object, OwnerReference, RawRequest, Resource, UserInfo};

/// Name, namespace and UID are the object's own: in a collection's deletion the request has none, and a Namespace's
/// request names itself as its namespace.
pub(super) fn request<'a>(
    action: Action,
    review: &'a RawRequest,
    object: &'a Object,
) -> Result<Request<'a>, Malformed> {
    let metadata = &object.metadata;
    if metadata.uid.is_empty() || metadata.name.is_empty() {
        return Err(Malformed::Missing("oldObject.metadata.uid and name"));
    }
    Ok(Request {
        action,
        subject: subject(&review.resource, metadata)?,
        owners: owners(&metadata.owner_references),
        terminating: metadata.deletion_timestamp.is_some(),
        change: None,
        requester: requester(&review.user_info),
        reach: Reach::Covered,
        what: None,
    })
}

/// The same object, held by itself.
pub(super) fn owned(subject: &Subject) -> Subject<'static> {
    let text = |text: &Cow<str>| Cow::Owned(text.to_string());
    Subject {
        group: text(&subject.group),
        resource: text(&subject.resource),
        namespace: text(&subject.namespace),
        name: text(&subject.name),
        uid: text(&subject.uid),
        created: subject.created,
        labels: Cow::Owned(subject.labels.clone().into_owned()),
        annotations: subject.annotations.iter().map(text).collect(),
        statements: subject.statements.as_ref().map(text),
    }
}

pub(super) fn owners(references: &[OwnerReference]) -> Vec<Owner> {
    let owners = references.iter().map(|owner| Owner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: owner.controller,
    });
    owners.collect()
}

pub(super) fn subject<'a>(resource: &'a Resource, metadata: &'a Metadata) -> Result<Subject<'a>, Malformed> {
    for (what, text) in [("name", &metadata.name), ("namespace", &metadata.namespace), ("uid", &metadata.uid)] {
        if text.len() > 253 {
            return Err(Malformed::TooLong(what));
        }
    }
    Ok(Subject {
        group: Cow::Borrowed(&resource.group),
        resource: Cow::Borrowed(&resource.resource),
        namespace: Cow::Borrowed(&metadata.namespace),
        name: Cow::Borrowed(&metadata.name),
        uid: Cow::Borrowed(&metadata.uid),
        created: metadata.creation_timestamp,
        labels: Cow::Borrowed(&metadata.labels),
        annotations: metadata.annotations.keys.iter().map(|key| Cow::Borrowed(key.as_ref())).collect(),
        statements: metadata.annotations.approval.as_deref().map(Cow::Borrowed),
    })
}

pub(super) fn requester(user: &UserInfo) -> Requester<'_> {
    Requester { name: &user.username, groups: &user.groups }
}

pub(super) fn object(raw: &RawValue) -> Result<Object<'_>, Malformed> {
    serde_json::from_str(raw.get()).map_err(|_| Malformed::Missing("object with metadata"))
}

/// Statements count as said before only if the object presented them: those were checked.
pub(super) fn presented_before<'a>(old: &'a Metadata) -> Option<&'a str> {
    old.annotations.approval.as_deref().filter(|_| old.labels.contains_key(APPROVAL))
}
