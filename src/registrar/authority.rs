//! Which authorities entries name, and entries that nothing else would bring the next one to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tracing::info;

use super::{Registrar, Service};
use crate::entries::{SHARED, rule_name};

impl Service {
    fn is_called_by(&self, webhook: &ValidatingWebhook) -> bool {
        let called = webhook.client_config.service.as_ref();
        called.is_some_and(|called| called.namespace == self.namespace && called.name == self.name)
    }

    /// What all of Tagout's entries say, each once. An entry that says nothing says that.
    pub(super) fn named_authorities(
        &self,
        found: &BTreeMap<String, ValidatingWebhookConfiguration>,
    ) -> BTreeSet<Vec<u8>> {
        let own = found.iter().filter(|(name, _)| *name == SHARED || rule_name(name).is_some());
        own.flat_map(|(_, configuration)| configuration.webhooks.iter().flatten())
            .filter(|webhook| self.is_called_by(webhook))
            .map(|webhook| webhook.client_config.ca_bundle.clone().unwrap_or_default().0)
            .collect()
    }
}

impl Registrar {
    /// An entry of which nobody knows the rule any more stays as it is. But it has to trust whom all others trust: one
    /// that does not keeps the authority from being replaced, and fails for good when it ends.
    pub(super) async fn keep_trusted(
        &mut self,
        configurations: &Api<ValidatingWebhookConfiguration>,
        found: &ValidatingWebhookConfiguration,
        ca_bundle: &[u8],
    ) -> kube::Result<()> {
        let mut wanted = found.clone();
        let own = wanted.webhooks.iter_mut().flatten().filter(|webhook| self.service.is_called_by(webhook));
        own.for_each(|webhook| webhook.client_config.ca_bundle = Some(ByteString(ca_bundle.to_vec())));
        if wanted == *found || !self.may_write_now(&found.name_any()) {
            return Ok(());
        }
        info!(configuration = found.name_any(), "the authority in an entry of no known rule is replaced");
        configurations.replace(&found.name_any(), &PostParams::default(), &wanted).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::{ServiceReference, WebhookClientConfig};

    use super::*;

    fn calling(namespace: &str, bundle: &str) -> ValidatingWebhook {
        let service =
            ServiceReference { namespace: namespace.into(), name: "tagout".into(), ..ServiceReference::default() };
        let client_config = WebhookClientConfig {
            ca_bundle: (!bundle.is_empty()).then(|| ByteString(bundle.into())),
            service: Some(service),
            url: None,
        };
        ValidatingWebhook { client_config, ..ValidatingWebhook::default() }
    }

    fn named(found: &[(&str, &[(&str, &str)])]) -> Vec<String> {
        let service = Service { namespace: "tagout-system".into(), name: "tagout".into(), port: 443 };
        let found = found.iter().map(|(name, webhooks)| {
            let webhooks = Some(webhooks.iter().map(|(namespace, bundle)| calling(namespace, bundle)).collect());
            ((*name).to_owned(), ValidatingWebhookConfiguration { webhooks, ..Default::default() })
        });
        let named = service.named_authorities(&found.collect());
        named.into_iter().map(|bundle| String::from_utf8(bundle).unwrap()).collect()
    }

    #[test]
    fn all_entries_that_call_tagout_are_asked_and_no_others() {
        let ours = "tagout-system";
        assert_eq!(named(&[("tagout", &[(ours, "a"), (ours, "a")]), ("tagout-one", &[(ours, "a")])]), ["a"]);
        assert_eq!(named(&[("tagout", &[(ours, "a")]), ("tagout-one", &[(ours, "a"), (ours, "b")])]), ["a", "b"]);
        assert_eq!(named(&[("tagout", &[(ours, "")])]), [""]);
        assert_eq!(named(&[("tagout-one", &[("elsewhere", "a")]), ("other", &[(ours, "b")])]), Vec::<String>::new());
    }
}
