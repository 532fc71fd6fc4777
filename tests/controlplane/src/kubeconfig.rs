//! How a client finds the API server and says who it is.

use std::path::Path;

use serde_json::json;

/// A kubeconfig for one bearer token. JSON, which every reader of YAML reads.
pub(crate) fn kubeconfig(server: &str, ca: &Path, token: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "me"}}],
        "clusters": [{"name": "tests", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "me", "user": {"token": token}}],
    })
    .to_string()
}
