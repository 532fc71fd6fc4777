//! `kubectl tagout static-manifest`: what closes the emergency exit, for the API server's own files.

use clap::Args;

use super::words::say;
use crate::entries::static_lock;

/// Print the policy that guards Tagout's own policies, for the API server's own files
///
/// No request changes what stands in those files, so nobody who only sends requests takes the policies away that keep
/// Tagout as it is. Then no request opens a cluster whose Tagout is broken, either: whoever writes the files has to.
#[derive(Args, Debug)]
#[command(after_help = "Where it goes, on the machine of every API server (Kubernetes 1.36 with the feature gate \
    ManifestBasedAdmissionControlConfig, 1.37 without):\n\n  \
    kubectl tagout static-manifest > /etc/kubernetes/admission/tagout.yaml\n\n\
    and, in the file that --admission-control-config-file names:\n\n  \
    apiVersion: apiserver.config.k8s.io/v1\n  \
    kind: AdmissionConfiguration\n  \
    plugins:\n  \
    - name: ValidatingAdmissionPolicy\n    \
    configuration:\n      \
    apiVersion: apiserver.config.k8s.io/v1\n      \
    kind: ValidatingAdmissionPolicyConfiguration\n      \
    staticManifestsDir: /etc/kubernetes/admission")]
pub struct Options {
    /// The namespace Tagout runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "tagout-system")]
    tagout_namespace: String,
    /// A user who may change the policies all the same; may be given several times
    #[arg(long, value_name = "USER")]
    exempt: Vec<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let lock = static_lock(&options.tagout_namespace, &options.exempt);
    say(&format!("{}---\n{}", serde_saphyr::to_string(&lock.policy)?, serde_saphyr::to_string(&lock.binding)?))
}
