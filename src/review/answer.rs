use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::printable;

/// The answer to a review. Always sent as HTTP 200: any other status means that the call failed.
#[derive(Debug)]
pub struct Answer<'a> {
    pub uid: &'a str,
    /// Absent: allowed.
    pub denied: Option<Denied<'a>>,
    pub warnings: Vec<String>,
    pub audit: BTreeMap<&'static str, String>,
}

/// What a denial says, for people and for machines.
#[derive(Debug)]
pub struct Denied<'a> {
    pub kind: Denial,
    pub message: String,
    pub group: &'a str,
    pub resource: &'a str,
    pub name: &'a str,
    pub object_uid: &'a str,
    pub causes: Vec<Cause>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Denial {
    #[default]
    Forbidden,
    /// What is to be made is there: whoever makes or else updates has to hear just that.
    AlreadyExists,
    /// What is to be evicted is not there: whoever drains a node goes on to the next.
    NotFound,
}

impl Denial {
    /// 403 Forbidden is passed on by every client as it is. Of a deletion, a 404 would be swallowed, and a 409 or 429 tried
    /// again.
    fn status(self) -> (u16, &'static str) {
        match self {
            Self::Forbidden => (403, "Forbidden"),
            Self::AlreadyExists => (409, "AlreadyExists"),
            Self::NotFound => (404, "NotFound"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    pub reason: &'static str,
    pub message: String,
}

/// The API server cuts each warning to 256 characters once all of a request, whose items may be many, exceed 4096.
const MAX_WARNING: usize = 256;
const MAX_WARNINGS: usize = 16;

impl Answer<'_> {
    pub fn to_json(&self) -> Vec<u8> {
        let review = Review {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response: Response {
                uid: self.uid,
                allowed: self.denied.is_none(),
                status: self.denied.as_ref().map(|denied| Status {
                    code: denied.kind.status().0,
                    reason: denied.kind.status().1,
                    message: &denied.message,
                    details: Details {
                        name: denied.name,
                        group: denied.group,
                        kind: denied.resource,
                        uid: denied.object_uid,
                        causes: &denied.causes,
                    },
                }),
                warnings: self
                    .warnings
                    .iter()
                    .take(MAX_WARNINGS)
                    .map(|warning| printable(warning).chars().take(MAX_WARNING).collect())
                    .collect(),
                audit_annotations: &self.audit,
            },
        };
        serde_json::to_vec(&review).expect("an answer of texts and numbers can be written")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    name: &'a str,
    group: &'a str,
    kind: &'a str,
    uid: &'a str,
    causes: &'a [Cause],
}
