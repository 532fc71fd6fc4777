//! What Tagout remembers, in Secrets of its own namespace. Written only over the version that was read.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which Secret, and where in it.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
}

/// What a Secret says, with its version; nothing where there is none.
pub(super) struct Found<T> {
    /// Absent where it cannot be read.
    pub(super) said: Option<T>,
    pub(super) version: Option<String>,
}

impl Place {
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        client: &Client,
        namespace: &str,
    ) -> kube::Result<Option<Found<T>>> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let Some(secret) = secrets.get_opt(self.name).await? else { return Ok(None) };
        let bytes = secret.data.as_ref().and_then(|data| data.get(self.key));
        let said = bytes.and_then(|bytes| serde_json::from_slice(&bytes.0).ok());
        Ok(Some(Found { said, version: secret.metadata.resource_version }))
    }

    /// Returns the version it has now. A conflict is an error like any other.
    pub(super) async fn write(
        &self,
        client: &Client,
        namespace: &str,
        value: &impl Serialize,
        over: Option<String>,
    ) -> kube::Result<Option<String>> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let bytes = serde_json::to_vec(value).expect("text and numbers can be written");
        let mut secret = Secret { data: Some([(self.key.to_owned(), ByteString(bytes))].into()), ..Secret::default() };
        secret.metadata.name = Some(self.name.to_owned());
        secret.metadata.resource_version.clone_from(&over);
        let written = match over {
            Some(_) => secrets.replace(self.name, &PostParams::default(), &secret).await?,
            None => secrets.create(&PostParams::default(), &secret).await?,
        };
        Ok(written.metadata.resource_version)
    }
}
