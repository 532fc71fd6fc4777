//! Versions that are too old or too many, and APIs that no webhook sees.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::finding::{AGGREGATED_API, Finding, Fix, OLD_API_SERVER, REPLICAS_DIFFER, Severity, Stage, VERSIONS_DIFFER};
use super::snapshot::Snapshot;

/// The oldest minor version of Kubernetes 1 that Tagout supports.
const OLDEST: u32 = 33;

const VERSION: &str = "app.kubernetes.io/version";

pub fn check(snapshot: &Snapshot, _: Stage) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(version) = &snapshot.server {
        let says = match number(version) {
            Some((major, minor)) if (major, minor) >= (1, OLDEST) => None,
            Some(_) => Some(format!("is {version}; Tagout needs v1.{OLDEST} or newer")),
            None => Some(format!("calls itself {version:?}, which is no version that can be read")),
        };
        let fix = Fix::words("Upgrade the control plane.").run(&["kubectl", "version"]);
        findings.extend(
            says.map(|says| Finding::new(&OLD_API_SERVER, Severity::Warning, "APIServer/version", says).fix(fix)),
        );
    }
    let pods = snapshot.pods.iter().flatten().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let (mut images, mut versions) = (BTreeSet::new(), BTreeSet::new());
    for pod in pods {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        images.extend(containers.filter_map(|container| container.image.clone()));
        versions.extend(pod.labels().get(VERSION).cloned());
    }
    let object = format!("Deployment/{}/tagout", snapshot.home);
    if images.len() > 1 {
        let says = format!("runs several images at once: {}", images.into_iter().collect::<Vec<_>>().join(", "));
        let fix = Fix::words("If no upgrade is running, finish the one that got stuck.").run(&[
            "kubectl",
            "rollout",
            "status",
            "deployment/tagout",
            "-n",
            &snapshot.home,
        ]);
        findings.push(Finding::new(&REPLICAS_DIFFER, Severity::Warning, &object, says).fix(fix));
    }
    let own = env!("CARGO_PKG_VERSION");
    if let Some(other) = versions.iter().find(|version| *version != own) {
        let says = format!("is of version {other}, and this command of {own}");
        let fix = Fix::words("Use the plugin of the version that is installed, or upgrade the chart.");
        findings.push(Finding::new(&VERSIONS_DIFFER, Severity::Note, object, says).fix(fix));
    }
    findings.extend(aggregated(snapshot));
    findings
}

fn aggregated(snapshot: &Snapshot) -> Vec<Finding> {
    let Some(deletable) = &snapshot.deletable else { return Vec::new() };
    let mut findings = Vec::new();
    for api in snapshot.apis.iter().flatten() {
        let Some(spec) = &api.spec else { continue };
        let Some(service) = &spec.service else { continue };
        let served = (spec.group.clone().unwrap_or_default(), spec.version.clone().unwrap_or_default());
        let Some(says) = offers(deletable, &served) else { continue };
        let name = api.name_any();
        let (namespace, service) =
            (service.namespace.as_deref().unwrap_or("-"), service.name.as_deref().unwrap_or("-"));
        let says = format!("is served by {namespace}/{service}, {says}");
        let fix = Fix::words("Guard what it serves by RBAC, or by the means of whoever serves it: no rule reaches it.")
            .kubectl("get", "apiservice", &["-o", "yaml"], &name);
        findings.push(Finding::new(&AGGREGATED_API, Severity::Warning, format!("APIService/{name}"), says).fix(fix));
    }
    findings
}

/// What is said of such an API, unless nothing in it can be deleted.
fn offers(deletable: &BTreeMap<(String, String), bool>, served: &(String, String)) -> Option<&'static str> {
    match deletable.get(served) {
        Some(true) => Some("which lets objects be deleted"),
        Some(false) => None,
        None => Some("which does not say what it serves: whether objects can be deleted there cannot be told"),
    }
}

/// `v1.33.4-gke.1` is 1.33.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(parts.next()?)?, digits(parts.next()?)?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("v1.33.4-gke.1", Some((1, 33)))]
    #[case("v1.33+", Some((1, 33)))]
    #[case("v1.36.3", Some((1, 36)))]
    #[case("1.9", Some((1, 9)))]
    #[case("v2", None)]
    #[case("master", None)]
    fn a_version_is_read_as_providers_write_it(#[case] version: &str, #[case] read: Option<(u32, u32)>) {
        assert_eq!(number(version), read);
    }

    #[test]
    fn an_api_matters_when_it_offers_deletion_or_does_not_say() {
        let api = |group: &str| (group.to_owned(), "v1".to_owned());
        let known = [(api("widgets"), true), (api("metrics"), false)].into();
        assert!(offers(&known, &api("widgets")).is_some());
        assert!(offers(&known, &api("metrics")).is_none());
        assert!(offers(&known, &api("silent")).is_some());
    }
}
