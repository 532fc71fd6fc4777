//! Certificates that the cluster issued in the names of others.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::ResourceExt;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

use super::access::holders;
use super::finding::{CERTIFICATE_FOR_OTHERS, Finding, Fix, Severity, Stage};
use super::provider::Provider;
use super::rbac::Holder;
use super::snapshot::Snapshot;
use crate::api::{SYSTEM_PREFIX, same_person};

pub fn check(snapshot: &Snapshot, _: Stage) -> Vec<Finding> {
    let teams = || snapshot.setting.rules().teams.values();
    let strong = Strong {
        people: teams().flat_map(|team| &team.spec.members).map(|member| member.user.clone()).collect(),
        groups: teams().flat_map(|team| team.spec.groups.clone()).collect(),
        holders: holders(snapshot),
    };
    let requests = snapshot.requests.iter().flatten();
    requests.filter_map(|request| judge(request, &strong, snapshot.provider())).collect()
}

/// Those who matter.
#[derive(Default)]
struct Strong {
    /// Who may approve, by their names and by their groups.
    people: Vec<String>,
    groups: Vec<String>,
    /// Who holds rights that matter.
    holders: BTreeSet<Holder>,
}

/// For whom a request asks.
struct Subject {
    /// One of them counts: which, the signer decides.
    names: Vec<String>,
    groups: Vec<String>,
}

fn judge(request: &CertificateSigningRequest, strong: &Strong, provider: Option<Provider>) -> Option<Finding> {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let approved = conditions.into_iter().any(|condition| condition.type_ == "Approved");
    let for_clients = request.spec.signer_name.starts_with("kubernetes.io/kube-apiserver-client");
    if !approved || !for_clients {
        return None;
    }
    let asked_by = request.spec.username.as_deref().unwrap_or_default();
    let whom = match Subject::read(&request.spec.request.0) {
        None => "somebody whose name cannot be read".to_owned(),
        Some(subject) if subject.is_node_for(asked_by, provider) => return None,
        Some(subject) => subject.matters(strong)?,
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

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";

impl Subject {
    /// Nothing where it could be read otherwise than here: beside one request, in characters of old encodings.
    fn read(pem: &[u8]) -> Option<Self> {
        // What one program passes over as no block of PEM, another takes for the first.
        let text = std::str::from_utf8(pem).ok()?.trim();
        let block = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(&byte);
        if !block.bytes().all(is_base64) {
            return None;
        }
        let (_, pem) = parse_x509_pem(text.as_bytes()).ok()?;
        let (rest, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let subject = &request.certification_request_info.subject;
        let text = |value: &AttributeTypeAndValue| value.as_str().ok().map(str::to_owned);
        let names = subject.iter_common_name().map(text).collect::<Option<_>>()?;
        let groups = subject.iter_organization().map(text).collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { names, groups })
    }

    /// Whether it is a node and nothing else, and asks for itself or comes to join.
    fn is_node_for(&self, asked_by: &str, provider: Option<Provider>) -> bool {
        let [name] = self.names.as_slice() else { return false };
        let joins = asked_by.starts_with("system:bootstrap:")
            || provider.is_some_and(|provider| provider.joins_nodes(asked_by));
        name.starts_with("system:node:")
            && self.groups.iter().all(|group| group == "system:nodes")
            && (asked_by == name || joins)
    }

    /// Who somebody strong among these is, in words. People are compared as those who approve are, all others exactly.
    fn matters(&self, strong: &Strong) -> Option<String> {
        let group = self.groups.iter().find(|group| {
            group.starts_with(SYSTEM_PREFIX)
                || strong.groups.contains(group)
                || strong.holders.contains(&Holder::Group((*group).clone()))
        });
        if let Some(group) = group {
            return Some(format!("{}, in group {group}", self.names.join(" or ")));
        }
        self.names.iter().find_map(|name| {
            if strong.people.iter().any(|own| same_person(own, name)) {
                Some(format!("{name}, who may approve"))
            } else if name.starts_with("system:node:") {
                Some(format!("{name}, a node"))
            } else if name.starts_with(SYSTEM_PREFIX) {
                Some(format!("{name}, which is Kubernetes' own"))
            } else if strong.holders.contains(&Holder::user(name)) {
                Some(format!("{name}, who holds rights that matter"))
            } else {
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::string::{BmpString, TeletexString};
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn pem(subject: Vec<(DnType, DnValue)>) -> String {
        let mut names = DistinguishedName::new();
        for (kind, value) in subject {
            names.push(kind, value);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = names;
        let request = params.serialize_request(&KeyPair::generate().expect("a key")).expect("a request");
        request.pem().expect("PEM")
    }

    fn asked(pem: &str, by: &str, signer: &str) -> CertificateSigningRequest {
        let mut request: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "r"},
            "spec": {"request": "", "signerName": format!("kubernetes.io/{signer}"), "username": by, "usages": ["client auth"]},
            "status": {"conditions": [{"type": "Approved", "status": "True"}]},
        }))
        .expect("a request");
        request.spec.request = ByteString(pem.as_bytes().to_vec());
        request
    }

    fn strong() -> Strong {
        Strong {
            people: vec!["alice".to_owned()],
            groups: vec!["sre".to_owned()],
            holders: [Holder::User("root".to_owned()), Holder::Group("admins".to_owned())].into(),
        }
    }

    fn is_found(request: &CertificateSigningRequest) -> bool {
        judge(request, &strong(), None).is_some()
    }

    #[rstest]
    #[case::masters("x", "system:masters", true)]
    #[case::an_approver("alice", "x", true)]
    #[case::an_approver_in_capitals("ALICE", "x", true)]
    #[case::a_group_of_approvers("x", "sre", true)]
    #[case::a_strong_user("root", "x", true)]
    #[case::whom_the_api_server_takes_for_another("Root", "x", false)]
    #[case::a_strong_group("x", "admins", true)]
    #[case::a_controller("system:kube-controller-manager", "x", true)]
    #[case::an_account("system:serviceaccount:kube-system:job-controller", "x", true)]
    #[case::all_accounts("x", "system:serviceaccounts:kube-system", true)]
    #[case::a_node("system:node:n", "x", true)]
    #[case::somebody("bob", "developers", false)]
    fn a_certificate_that_makes_somebody_strong_is_found(#[case] name: &str, #[case] group: &str, #[case] found: bool) {
        let pem = pem(vec![(DnType::CommonName, name.into()), (DnType::OrganizationName, group.into())]);
        assert_eq!(is_found(&asked(&pem, "eve", "kube-apiserver-client")), found);
        assert!(!is_found(&asked(&pem, "eve", "kubelet-serving")), "a server's opens nothing");
    }

    #[rstest]
    #[case::a_kubelets_own("system:nodes", "system:node:n", None, false)]
    #[case::its_first("system:nodes", "system:bootstrap:abc", None, false)]
    #[case::with_more("admins", "system:node:n", None, true)]
    #[case::for_another("system:nodes", "system:node:m", None, true)]
    #[case::by_somebody("system:nodes", "eve", None, true)]
    #[case::of_gke("system:nodes", "kubelet-nodepool-bootstrap", Some(Provider::Gke), false)]
    #[case::of_gke_elsewhere("system:nodes", "kubelet-nodepool-bootstrap", None, true)]
    #[case::of_openshift("system:nodes", OPENSHIFT, Some(Provider::OpenShift), false)]
    #[case::of_openshift_elsewhere("system:nodes", OPENSHIFT, Some(Provider::Gke), true)]
    fn nodes_ask_for_themselves_or_come_to_join(
        #[case] group: &str,
        #[case] by: &str,
        #[case] provider: Option<Provider>,
        #[case] found: bool,
    ) {
        let pem = pem(vec![(DnType::CommonName, "system:node:n".into()), (DnType::OrganizationName, group.into())]);
        let request = asked(&pem, by, "kube-apiserver-client-kubelet");
        assert_eq!(judge(&request, &strong(), provider).is_some(), found);
    }

    const OPENSHIFT: &str = "system:serviceaccount:openshift-machine-config-operator:node-bootstrapper";

    #[rstest]
    #[case::after_another("/CN=bob/CN=alice")]
    #[case::before_another("/CN=alice/CN=bob")]
    #[case::beside_another("/CN=bob+CN=alice")]
    #[case::a_second_group("/CN=bob/O=developers/O=sre")]
    #[case::a_group_beside("/CN=bob+O=sre")]
    #[case::a_node_and_another("/O=system:nodes/CN=system:node:n/CN=alice")]
    fn a_strong_name_among_others_is_found(#[case] subject: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut openssl = std::process::Command::new("openssl");
        openssl.args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-multivalue-rdn",
        ]);
        let output = openssl.arg("-keyout").arg(folder.path().join("key")).args(["-subj", subject]).output();
        let pem = String::from_utf8(output.expect("openssl").stdout).expect("text");
        assert!(Subject::read(pem.as_bytes()).is_some(), "{pem}");
        assert!(is_found(&asked(&pem, "system:node:n", "kube-apiserver-client")));
    }

    #[rstest]
    #[case::teletex(DnValue::TeletexString(TeletexString::try_from("alice").expect("text")))]
    #[case::bmp(DnValue::BmpString("alice".parse::<BmpString>().expect("text")))]
    fn a_name_in_an_old_encoding_is_said_and_not_passed_over(#[case] value: DnValue) {
        let by_name = pem(vec![(DnType::CommonName, value.clone())]);
        let by_group = pem(vec![(DnType::CommonName, "bob".into()), (DnType::OrganizationName, value)]);
        for pem in [by_name, by_group] {
            assert!(is_found(&asked(&pem, "eve", "kube-apiserver-client")));
        }
    }

    #[test]
    fn what_could_be_read_otherwise_is_said_and_not_passed_over() {
        let harmless = pem(vec![(DnType::CommonName, "bob".into())]);
        let strong = pem(vec![(DnType::CommonName, "alice".into())]);
        assert!(!is_found(&asked(&harmless, "eve", "kube-apiserver-client")));
        // Go passes over a block that ends otherwise than it began, and reads the next.
        let ends_otherwise = harmless.replace("END CERTIFICATE REQUEST", "END CERTIFICATE");
        let with_headers = harmless.replacen(BEGIN, &format!("{BEGIN}\nProc-Type: 4"), 1);
        for first in [ends_otherwise, with_headers, harmless, "no request\n".to_owned(), String::new()] {
            let request = asked(&format!("{first}{strong}"), "eve", "kube-apiserver-client");
            assert!(is_found(&request), "{first}");
        }
    }

    #[test]
    fn what_was_not_approved_is_nothing() {
        let mut one = asked(&pem(vec![(DnType::CommonName, "alice".into())]), "eve", "kube-apiserver-client");
        assert!(is_found(&one));
        one.status = None;
        assert!(!is_found(&one));
    }
}
