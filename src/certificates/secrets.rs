use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use http::header::{ACCEPT, DATE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use jiff::fmt::rfc2822;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};
use rustls::pki_types::UnixTime;

/// The Secrets of Tagout's namespace.
pub(super) struct Secrets {
    client: Client,
    namespace: String,
}

/// What was found under a name, and the API server's time: it is the one that looks whether a certificate is in time.
pub(super) struct Read {
    pub(super) secret: Option<Secret>,
    pub(super) now: UnixTime,
}

impl Secrets {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    pub(super) async fn read(&self, name: &str) -> anyhow::Result<Read> {
        let path = format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace);
        let request = http::Request::get(path).header(ACCEPT, "application/json").body(Body::empty())?;
        let response = self.client.send(request).await?;
        let now = time(response.headers()).unwrap_or_else(UnixTime::now);
        match response.status() {
            StatusCode::NOT_FOUND => Ok(Read { secret: None, now }),
            status if status.is_success() => {
                let body = response.into_body().collect().await?.to_bytes();
                // What the error would quote is a Secret.
                let secret = serde_json::from_slice(&body).ok().context("what the API server says is no Secret")?;
                Ok(Read { secret: Some(secret), now })
            }
            status => anyhow::bail!("the API server does not show the Secret {name}: {status}"),
        }
    }

    /// False where another replica wrote first.
    pub(super) async fn write(
        &self,
        name: &str,
        found: Option<Secret>,
        data: BTreeMap<String, ByteString>,
    ) -> kube::Result<bool> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let written = if let Some(found) = found {
            secrets.replace(name, &PostParams::default(), &Secret { data: Some(data), ..found }).await
        } else {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let secret = Secret { metadata, data: Some(data), ..Secret::default() };
            secrets.create(&PostParams::default(), &secret).await
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn time(headers: &HeaderMap) -> Option<UnixTime> {
    let seconds = rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok()?.timestamp().as_second();
    Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_time_is_in_what_it_answers() {
        let of = |text: &str| time(&HeaderMap::from_iter([(DATE, text.parse().unwrap())])).map(|time| time.as_secs());
        assert_eq!(of("Sun, 22 Nov 2026 08:13:05 GMT"), Some(1_795_335_185));
        assert_eq!(of("yesterday"), None);
        assert_eq!(time(&HeaderMap::new()), None);
    }
}
