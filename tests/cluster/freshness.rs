//! What replicas know of rules and teams is always a moment old, and nothing passes by it.

use controlplane::User;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use crate::storm::client;
use crate::world::{rule, shared};

/// The deletion comes some milliseconds after the change, long before a watch has told it and it was read.
#[tokio::test(flavor = "multi_thread")]
async fn who_left_the_team_a_moment_before_the_deletion_approved_nothing() {
    let world = shared();
    let member = |user: User| json!({"user": user.name()});
    let people = [User::Alice, User::Bob, User::Carol];
    let members: Vec<_> = people.into_iter().map(member).chain([json!({"user": "stays"})]).collect();
    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "leavers"},
        "spec": {"members": members}});
    world.apply(User::Admin, &team).succeeds();
    let mut about = rule("leavers", "leavers");
    about["spec"]["resources"] = json!([{"apiGroups": [""], "resources": ["configmaps"]}]);
    about["spec"]["approval"]["require"][0]["anyOf"] = json!(["leavers"]);
    world.rule(&about);
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=leavers"]).succeeds();
    let (admin, agent) = (client(world, User::Admin).await, client(world, User::Agent).await);
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("tagout.dev", "v1alpha1", "ApproverTeam"));
    let teams: Api<DynamicObject> = Api::all_with(admin, &kind);
    let maps: Api<ConfigMap> = Api::namespaced(agent, &namespace.name);
    for user in people {
        namespace.kubectl(User::Admin, &["create", "configmap", approved_by(user)]).succeeds();
        namespace.approve(user, &format!("configmap/{}", approved_by(user)));
    }
    // Asked once, so that everybody is connected, and what is approved would pass.
    let trial = DeleteParams { dry_run: true, ..DeleteParams::default() };
    for user in people {
        maps.delete(approved_by(user), &trial).await.expect("it is approved");
    }
    for (gone, user) in people.into_iter().enumerate() {
        let left = json!({"spec": {"members": members[gone + 1..]}});
        teams.patch("leavers", &PatchParams::default(), &Patch::Merge(left)).await.expect("they leave");
        let refused = maps.delete(approved_by(user), &DeleteParams::default()).await.expect_err("nobody approved it");
        assert!(refused.to_string().contains("denied Delete of configmaps"), "{refused}");
    }
}

fn approved_by(user: User) -> &'static str {
    user.name().split('@').next().unwrap_or_default()
}
