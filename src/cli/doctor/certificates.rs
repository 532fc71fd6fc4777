//! Certificates that the cluster issued in the names of others.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::ResourceExt;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::finding::{CERTIFICATE_FOR_OTHERS, Finding, Fix, Severity, Stage};
use super::snapshot::Snapshot;

pub fn check(snapshot: &Snapshot, _: Stage) -> Vec<Finding> {
    let teams = || snapshot.setting.rules().teams.values();
    let people: Vec<&str> = teams().flat_map(|team| &team.spec.members).map(|member| member.user.as_str()).collect();
    let groups: Vec<&str> = teams().flat_map(|team| &team.spec.groups).map(String::as_str).collect();
    snapshot.requests.iter().flatten().filter_map(|request| judge(request, &people, &groups)).collect()
}

fn judge(request: &CertificateSigningRequest, people: &[&str], groups: &[&str]) -> Option<Finding> {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let approved = conditions.into_iter().any(|condition| condition.type_ == "Approved");
    let signer = request.spec.signer_name.as_str();
    let for_clients = signer.starts_with("kubernetes.io/kube-apiserver-client");
    if !approved || !for_clients {
        return None;
    }
    let asked_by = request.spec.username.as_deref().unwrap_or_default();
    let whom = match subject(&request.spec.request.0) {
        None => "somebody who cannot be read".to_owned(),
        Some((name, organizations)) => {
            let node = name.starts_with("system:node:") || organizations.iter().any(|own| own == "system:nodes");
            // Kubelets ask for their own.
            let own = asked_by == name || asked_by.starts_with("system:bootstrap:");
            let mut organizations = organizations.iter().map(String::as_str);
            let group = organizations.find(|own| *own == "system:masters" || groups.contains(own));
            match group {
                Some(group) => format!("{name}, in group {group}"),
                None if people.contains(&name.as_str()) => format!("{name}, who may approve"),
                None if node && !own => format!("{name}, a node"),
                None => return None,
            }
        }
    };
    let name = request.name_any();
    let fix = Fix::words(
        "A certificate cannot be taken back: wait until it ends, take the name or group out of what it opens, or change \
         the authority. Deleting the request changes nothing.",
    )
    .kubectl("get", "certificatesigningrequest", &["-o", "yaml"], &name);
    let says = format!("was approved for {whom}; {asked_by} asked for it");
    Some(
        Finding::new(&CERTIFICATE_FOR_OTHERS, Severity::Danger, format!("CertificateSigningRequest/{name}"), says)
            .fix(fix),
    )
}

/// The name and the groups for which a request asks.
fn subject(pem: &[u8]) -> Option<(String, Vec<String>)> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect();
    Some((name, groups))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn request(name: &str, group: &str, by: &str, signer: &str) -> CertificateSigningRequest {
        let mut names = DistinguishedName::new();
        names.push(DnType::CommonName, name);
        names.push(DnType::OrganizationName, group);
        let mut params = CertificateParams::default();
        params.distinguished_name = names;
        let pem = params.serialize_request(&KeyPair::generate().expect("a key")).expect("a request");
        let mut request: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "r"},
            "spec": {"request": "", "signerName": format!("kubernetes.io/{signer}"), "username": by, "usages": ["client auth"]},
            "status": {"conditions": [{"type": "Approved", "status": "True"}]},
        }))
        .expect("a request");
        request.spec.request = ByteString(pem.pem().expect("PEM").into_bytes());
        request
    }

    #[rstest]
    #[case::masters("x", "system:masters", "eve", "kube-apiserver-client", true)]
    #[case::an_approver("alice", "x", "eve", "kube-apiserver-client", true)]
    #[case::a_group("x", "sre", "eve", "kube-apiserver-client", true)]
    #[case::somebody("bob", "developers", "bob", "kube-apiserver-client", false)]
    #[case::a_kubelets_own("system:node:n", "system:nodes", "system:node:n", "kube-apiserver-client-kubelet", false)]
    #[case::its_first("system:node:n", "system:nodes", "system:bootstrap:abc", "kube-apiserver-client-kubelet", false)]
    #[case::a_node_for_others("system:node:n", "system:nodes", "eve", "kube-apiserver-client-kubelet", true)]
    #[case::for_serving("system:node:n", "system:nodes", "system:node:n", "kubelet-serving", false)]
    fn certificates_in_the_names_of_others_are_found(
        #[case] name: &str,
        #[case] group: &str,
        #[case] by: &str,
        #[case] signer: &str,
        #[case] found: bool,
    ) {
        let request = request(name, group, by, signer);
        assert_eq!(judge(&request, &["alice"], &["sre"]).is_some(), found);
    }

    #[test]
    fn what_was_not_approved_is_nothing_and_what_cannot_be_read_is_said() {
        let mut one = request("x", "system:masters", "eve", "kube-apiserver-client");
        one.spec.request = ByteString(b"no request".to_vec());
        assert!(judge(&one, &[], &[]).is_some());
        one.status = None;
        assert!(judge(&one, &[], &[]).is_none());
    }
}
