//! An object is left without its protection, whatever rule it has it from: it gets a controller that it would be let go
//! with, a time to live, or a definition by which nobody finds it or somebody else says what it is.
//!
//! That a rule's own selectors do not match any more is a matter between the rule and the object; `guard` sees to it.

use super::{Owner, Part, Seen, Write};
use crate::api::Action;

pub const CONDITION: &str = "(object.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false)) \
     && object.metadata.?ownerReferences.orValue([]) != oldObject.metadata.?ownerReferences.orValue([])) || \
     (object.kind == 'Job' && object.?spec.?ttlSecondsAfterFinished != oldObject.?spec.?ttlSecondsAfterFinished)";

/// A definition under which objects could not be found any more, or would be rewritten by somebody else on their way.
pub const DEFINITION: &str = "!object.spec.versions.exists(version, version.served) || \
     object.spec.?conversion.?strategy.orValue('None') != oldObject.spec.?conversion.?strategy.orValue('None') || \
     object.spec.?conversion.?webhook.?clientConfig.?service != \
     oldObject.spec.?conversion.?webhook.?clientConfig.?service || \
     object.spec.?conversion.?webhook.?clientConfig.?url != oldObject.spec.?conversion.?webhook.?clientConfig.?url || \
     oldObject.spec.versions.exists(old, object.spec.versions.exists(new, new.name == old.name && \
     !new.?schema.?openAPIV3Schema[?'x-kubernetes-preserve-unknown-fields'].orValue(false) && \
     !new.?schema.?openAPIV3Schema.?properties.?spec[?'x-kubernetes-preserve-unknown-fields'].orValue(false) && \
     !new.?schema.?openAPIV3Schema.?properties.?spec.?additionalProperties.hasValue() && \
     (old.?schema.?openAPIV3Schema[?'x-kubernetes-preserve-unknown-fields'].orValue(false) || \
     old.?schema.?openAPIV3Schema.?properties.?spec[?'x-kubernetes-preserve-unknown-fields'].orValue(false) || \
     old.?schema.?openAPIV3Schema.?properties.?spec.?additionalProperties.hasValue() || \
     old.?schema.?openAPIV3Schema.?properties.?spec.?properties.orValue({}).exists(key, \
     !(key in new.?schema.?openAPIV3Schema.?properties.?spec.?properties.orValue({}))))))";

/// What the controller of an object makes anew, so that the object goes and comes with it.
pub const FOLLOWERS: [(&str, &str); 6] = [
    ("", "pods"),
    ("batch", "jobs"),
    ("", "secrets"),
    ("", "configmaps"),
    ("", "services"),
    ("networking.k8s.io", "ingresses"),
];

pub(super) fn seen(write: &Write) -> Option<Seen> {
    let seen = |what: &str| Some(Seen { action: Action::Unprotect, what: what.to_owned(), unless: None });
    if write.is("batch", "jobs") {
        let [old, new] = [write.old, write.new].map(|part| part.at("spec.ttlSecondsAfterFinished").number());
        if new.is_some_and(|new| old.is_none_or(|old| new < old)) {
            return seen("it would be deleted when it has finished");
        }
    }
    if write.is("apiextensions.k8s.io", "customresourcedefinitions") {
        return definition(write).and_then(seen);
    }
    None
}

/// Whether a controller joins, which some rules would let it go with.
pub fn gets_a_controller(write: &Write) -> bool {
    let [before, after] = write.owners();
    let known = |new: &Owner| {
        let same = |old: &Owner| old.uid == new.uid && old.kind == new.kind && old.name == new.name;
        before.iter().any(|old| old.controller && same(old))
    };
    after.iter().any(|new| new.controller && !known(new))
}

fn definition(write: &Write) -> Option<&'static str> {
    let (old, new) = (write.old.at("spec"), write.new.at("spec"));
    let serves = |part: Part| part.at("versions").list().iter().any(|version| version.at("served").flag());
    if serves(old) && !serves(new) {
        return Some("its objects would not be found under any version");
    }
    let names = |part: Part| ["plural", "kind"].map(|what| part.at(&format!("status.acceptedNames.{what}")).text());
    let own = ["plural", "kind"].map(|what| new.at(&format!("names.{what}")).text());
    if names(write.old) == own && names(write.new) != own {
        return Some("its objects would be found under another name, or not at all");
    }
    let strategy = |part: Part| Some(part.at("conversion.strategy").text()).filter(|text| text == "Webhook");
    let client = ["service", "url"].map(|how| format!("conversion.webhook.clientConfig.{how}"));
    // The certificate of a converter is renewed as daily work.
    if strategy(old) != strategy(new) || client.iter().any(|path| !old.at(path).same(new.at(path))) {
        return Some("somebody else would say what its objects are");
    }
    forgets(old, new).then_some("what its objects say would be forgotten when they are written next")
}

/// Whether a version would not keep something of `spec` that it kept.
fn forgets(old: Part, new: Part) -> bool {
    let keeps_all = |version: &Part| {
        let unknown = |part: Part| part.at("x-kubernetes-preserve-unknown-fields").flag();
        let schema = version.at("schema.openAPIV3Schema");
        let spec = schema.at("properties.spec");
        unknown(schema) || unknown(spec) || spec.at("additionalProperties").is_set()
    };
    let properties = |version: &Part| version.at("schema.openAPIV3Schema.properties.spec.properties").filled_keys();
    let after = new.at("versions").list();
    old.at("versions").list().iter().any(|version| {
        let name = version.at("name").text();
        let Some(now) = after.iter().find(|one| one.at("name").text() == name) else { return false };
        let kept = properties(now);
        !keeps_all(now) && (keeps_all(version) || properties(version).iter().any(|one| !kept.contains(one)))
    })
}
