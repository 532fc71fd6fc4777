//! Whether Tagout may read what a rule names: what it may not read it can neither remember nor count.

use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::Registrar;
use crate::api::{ProtectionRule, kind_name};

/// Rights change rarely, and each kind is a request.
const GOOD_FOR: Duration = Duration::from_mins(5);

impl Registrar {
    /// The kinds that a rule names and Tagout may not read. Of a whole group nobody can tell.
    pub(super) async fn not_readable(&mut self, rule: &ProtectionRule) -> Vec<String> {
        let mut found = Vec::new();
        for named in &rule.spec.resources {
            for group in &named.api_groups {
                for plural in named.resources.iter().filter(|plural| *plural != "*") {
                    if !self.is_readable(group, plural).await {
                        found.push(kind_name(group, plural));
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    async fn is_readable(&mut self, group: &str, plural: &str) -> bool {
        let kind = kind_name(group, plural);
        if let Some((_, readable)) = self.readable.get(&kind).filter(|(at, _)| at.elapsed() < GOOD_FOR) {
            return *readable;
        }
        let attributes = ResourceAttributes {
            group: Some(group.to_owned()),
            resource: Some(plural.to_owned()),
            verb: Some("get".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        // Nothing is said where nothing is known.
        let Ok(answered) = reviews.create(&PostParams::default(), &review).await else { return true };
        let readable = answered.status.is_some_and(|status| status.allowed);
        self.readable.insert(kind, (Instant::now(), readable));
        readable
    }
}
