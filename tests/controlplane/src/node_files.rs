//! How each program of a node is told what to do.

use std::path::Path;

use serde_json::json;

use crate::enclosure::{BRIDGE, NAMES, PODS};
use crate::names;
use crate::node::{PAUSE_IMAGE, SOCKET, STATE};

/// The container runtime's.
///
/// Images are few and small, so they are copied: a snapshotter that works on any file system.
pub(crate) fn containerd(dir: &Path, programs: &Path) -> String {
    let [dir, programs] = [dir, programs].map(Path::display);
    format!(
        r#"version = 3
root = "{dir}/containerd"
state = "{STATE}"
[grpc]
address = "{SOCKET}"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "{SNAPSHOTTER}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
# Root may lack the right to lower it, as in a container.
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{dir}/runc"
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{programs}"]
conf_dir = "{dir}/network"
"#
    )
}

/// Runs containers in control groups below these. A kubelet that does not manage those of the whole machine has no say in
/// it, and the runtime's own choice is the same for every node.
pub(crate) fn runc(groups: &str) -> String {
    format!(
        r#"#!/bin/sh
previous=
for argument; do
    [ "$previous" != --bundle ] || sed -i 's#"cgroupsPath":"/k8s.io/#"cgroupsPath":"/{groups}/#' "$argument/config.json"
    previous=$argument
done
exec runc "$@"
"#
    )
}

pub(crate) const SNAPSHOTTER: &str = "native";

pub(crate) fn network(dir: &Path) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": dir.join("addresses"),
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
    .to_string()
}

pub(crate) fn kubelet(dir: &Path) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        // Nobody but the tests is in this network.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "podLogsDir": dir.join("pod-logs"),
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [NAMES],
        "clusterDomain": names::DOMAIN,
        // The images cannot be had again, however full the machine's disk is.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
    })
    .to_string()
}
