//! What has been said of an object, wherever it stands.

use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde::Serialize;

use super::cluster::plain;
use super::object::LiveObject;
use super::statements::kept;
use crate::api::{APPROVAL, Action, Approval, MAX_STATEMENTS, Scope, Statement, approval_name, read_statements};

/// A statement, and where it stands.
#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    pub place: Place,
    pub statement: Statement,
}

#[derive(Serialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the annotation of the object that it is about.
    Object,
    /// In the `Approval` for the object.
    Approval,
    /// In the annotation of the object's namespace.
    Namespace,
    /// In the `Approval` for the namespace.
    NamespaceApproval,
}

impl Place {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "on the object",
            Self::Approval => "on its Approval",
            Self::Namespace => "on its namespace",
            Self::NamespaceApproval => "on the Approval for its namespace",
        }
    }
}

/// What was found, and what could not be looked at, with the reason.
#[derive(Debug, Default)]
pub struct Found {
    pub said: Vec<Said>,
    pub unknown: Vec<String>,
}

impl Found {
    /// Everything that is said of an action on an object, expired or not.
    pub async fn all(client: &Client, object: &LiveObject, home: Option<&LiveObject>, action: Action) -> Self {
        let mut found = Self::default();
        found.on(object, Place::Object);
        if object.exists() || action == Action::Loosen {
            found.beside(client, object, action, Place::Approval).await;
        }
        if let Some(home) = home {
            found.on(home, Place::Namespace);
            found.beside(client, home, action, Place::NamespaceApproval).await;
        }
        found.said.retain(|said| said.place < Place::Namespace || said.statement.scope == Scope::Contents);
        found
    }

    /// Without what is expired, and what nobody was ever seen to write.
    pub fn open(mut self, object: &LiveObject, home: Option<&LiveObject>, now: Timestamp) -> Self {
        let on = |object: &LiveObject| kept(object.annotation(), object.is_presenting(), object.uid(), now);
        let (own, homes) = (on(object), home.map(on).unwrap_or_default());
        self.said.retain(|said| match said.place {
            Place::Object => own.contains(&said.statement),
            Place::Namespace => homes.contains(&said.statement),
            Place::Approval | Place::NamespaceApproval => said.statement.expires > now,
        });
        self
    }

    fn on(&mut self, object: &LiveObject, place: Place) {
        let Some(annotation) = object.annotation() else { return };
        let read = read_statements(annotation);
        self.said.extend(read.readable.into_iter().map(|statement| Said { place, statement }));
        if let Some(error) = read.error {
            self.unknown.push(format!("the annotation {APPROVAL} of {object} does not count: {error}"));
        } else if !object.is_presenting() {
            self.unknown.push(format!("{object} has approvals and not the label {APPROVAL}: nobody checked them"));
        }
    }

    async fn beside(&mut self, client: &Client, object: &LiveObject, action: Action, place: Place) {
        let name = approval_name(action, &object.kind.name(), object.namespace(), object.name(), object.uid());
        match read(client, &name).await {
            Ok(Some(approval)) => {
                let statements = statements(&approval);
                self.said.extend(statements.into_iter().map(|statement| Said { place, statement }));
            }
            Ok(None) => {}
            Err(error) => self.unknown.push(format!("the Approval for {object} was not read: {}", plain(error))),
        }
    }
}

pub fn approvals(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<Approval>(&()))
}

/// The `Approval` of this name, if there is one.
pub async fn read(client: &Client, name: &str) -> kube::Result<Option<DynamicObject>> {
    approvals(client).get_opt(name).await
}

/// What an `Approval` says. One statement that cannot be read does not take the others along.
pub fn statements(approval: &DynamicObject) -> Vec<Statement> {
    let list = approval.data["spec"]["statements"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().take(MAX_STATEMENTS).filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}
