use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use jiff::SignedDuration;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// Which API server to talk to, and as whom: kubectl's own flags.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Path to the kubeconfig file
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig's cluster to use
    #[arg(long, global = true, value_name = "NAME")]
    cluster: Option<String>,
    /// The kubeconfig's user to use
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<String>,
    /// The namespace; default: that of the context
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// The user to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    as_user: Option<String>,
    /// A group to impersonate; may be given several times
    #[arg(long, global = true, value_name = "GROUP")]
    as_group: Vec<String>,
    /// The address of the API server
    #[arg(short, long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The bearer token to authenticate with
    #[arg(long, global = true)]
    token: Option<String>,
    /// Do not check the API server's certificate
    #[arg(long, global = true)]
    insecure_skip_tls_verify: bool,
    /// How long to wait for one answer of the API server, like 5s or 2m; 0 waits for ever
    #[arg(long, global = true, value_name = "DURATION", value_parser = timeout)]
    request_timeout: Option<Duration>,
}

/// A cluster that can be asked.
pub struct Cluster {
    pub client: Client,
    /// The namespace of what is named without one.
    pub namespace: String,
    /// Whether the person named the namespace, rather than the context.
    pub namespace_given: bool,
}

impl Connection {
    pub async fn open(&self) -> anyhow::Result<Cluster> {
        let mut config = self.config().await?;
        self.override_user(&mut config.auth_info)?;
        if let Some(server) = &self.server {
            config.cluster_url = server.parse().with_context(|| format!("--server {server:?} is no address"))?;
        }
        if self.insecure_skip_tls_verify {
            config.accept_invalid_certs = true;
        }
        if let Some(timeout) = self.request_timeout {
            config.read_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
            // Otherwise the time that a connection lay idle, while a person reads a question, counts too.
            config.reset_reader_on_write = true;
        }
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("cannot use this kubeconfig")?;
        Ok(Cluster { client, namespace, namespace_given: self.namespace.is_some() })
    }

    /// Like kubectl: the kubeconfig, else the pod this runs in, else what the flags say.
    async fn config(&self) -> anyhow::Result<Config> {
        let options =
            KubeConfigOptions { context: self.context.clone(), cluster: self.cluster.clone(), user: self.user.clone() };
        let kubeconfig = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let read = match kubeconfig {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        };
        let error = match read {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        let nothing_chosen = self.kubeconfig.is_none() && self.context.is_none();
        let absent = matches!(
            error,
            KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath | KubeconfigError::CurrentContextNotSet
        );
        if nothing_chosen && absent {
            if let Some(server) = &self.server {
                return Ok(Config::new(server.parse().with_context(|| format!("--server {server:?} is no address"))?));
            }
            if let Ok(config) = Config::incluster() {
                return Ok(config);
            }
        }
        Err(anyhow!(
            "no cluster to talk to: {error}; name one with --kubeconfig or --context (kubectl config get-contexts lists \
             them)"
        ))
    }

    fn override_user(&self, user: &mut AuthInfo) -> anyhow::Result<()> {
        if let Some(token) = &self.token {
            // Whoever gives a token means that token, whatever else the kubeconfig would send.
            *user = AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() };
        }
        if let Some(name) = &self.as_user {
            user.impersonate = Some(name.clone());
        }
        if !self.as_group.is_empty() {
            anyhow::ensure!(user.impersonate.is_some(), "--as-group needs --as: groups are impersonated with a user");
            user.impersonate_groups = Some(self.as_group.clone());
        }
        Ok(())
    }
}

/// As kubectl reads it: a number alone means seconds.
fn timeout(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "write seconds or a duration, like 5s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_kubectl_reads_it() {
        assert_eq!(timeout("5"), Ok(Duration::from_secs(5)));
        assert_eq!(timeout("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(timeout("0"), Ok(Duration::ZERO));
        assert!(timeout("-5s").is_err());
        assert!(timeout("soon").is_err());
    }

    #[test]
    fn a_token_given_replaces_every_other_credential() {
        let connection = Connection { token: Some("t".into()), ..Connection::default() };
        let mut user = AuthInfo { client_certificate: Some("alice.crt".into()), ..AuthInfo::default() };
        connection.override_user(&mut user).unwrap();
        assert!(user.client_certificate.is_none() && user.token.is_some());
    }

    #[test]
    fn groups_are_impersonated_only_with_a_user() {
        let connection = Connection { as_group: vec!["sre".into()], ..Connection::default() };
        assert!(connection.override_user(&mut AuthInfo::default()).is_err());
    }
}
