use crate::api::Exception;

/// The author's condition, in which `object` and `oldObject` both mean the object as it stands before the request.
///
/// Were `object` the new one, an update could make a condition false and destroy in the same breath. `request` and
/// `authorizer` are bound to a number, so that a condition which names them does not compile: an exemption by user
/// name can be forged by whoever may impersonate. The condition stands on a line of its own: the API server's messages
/// count lines and columns, and a comment at its end must not swallow the brackets. Where it errs at run time the API
/// server refuses by itself and quotes it all: then the comment says whose it is.
pub(super) fn bound(rule: &str, name: &str, condition: &str) -> String {
    format!(
        "[oldObject != null ? oldObject : object].all(object, [object].all(oldObject, [0].all(request, \
         [0].all(authorizer,\n{condition}\n// Condition {name} of Tagout's rule {rule}\n))))"
    )
}

/// The author's condition about the object as it would be.
pub(super) fn bound_now(condition: &str) -> String {
    format!("[object].all(object, [object].all(oldObject, [0].all(request, [0].all(authorizer,\n{condition}\n))))")
}

/// What an author wrote of a condition that was bound; nothing where it is one of Tagout's own.
pub fn authors(expression: &str) -> Option<&str> {
    let (_, bound) = expression.split_once("[0].all(authorizer,\n")?;
    Some(bound.rsplit_once('\n').map_or(bound, |(condition, _)| condition))
}

/// True where none of the exceptions applies to the object as it stands.
pub(super) fn not_excepted(exceptions: &[Exception]) -> String {
    format!("[oldObject != null ? oldObject : object].all(it, !({}))", excepted(exceptions))
}

/// True where none of the exceptions applies to the object as it would be.
pub(super) fn not_excepted_now(exceptions: &[Exception]) -> String {
    format!("[object].all(it, !({}))", excepted(exceptions))
}

fn excepted(exceptions: &[Exception]) -> String {
    let any: Vec<_> = exceptions
        .iter()
        .map(|exception| {
            let name = exception.name.as_deref().map(|glob| format!("it.metadata.name.matches({})", regex(glob)));
            let annotation = exception
                .annotation
                .as_deref()
                .map(|key| format!("{} in it.metadata.?annotations.orValue({{}})", literal(key)));
            let all: Vec<_> = name.into_iter().chain(annotation).collect();
            // An entry that says nothing leaves out nothing.
            if all.is_empty() { "false".to_owned() } else { format!("({})", all.join(" && ")) }
        })
        .collect();
    any.join(" || ")
}

/// True for a write after which the object presents statements that it did not present before: label and annotation
/// are there now, and before it there was no label or another annotation.
pub(super) fn presents(key: &str) -> String {
    let has = |object: &str, map: &str| format!("(has({object}.metadata.{map}) && '{key}' in {object}.metadata.{map})");
    format!(
        "{} && {} && !(oldObject != null && {} && {} && oldObject.metadata.annotations['{key}'] == \
         object.metadata.annotations['{key}'])",
        has("object", "labels"),
        has("object", "annotations"),
        has("oldObject", "labels"),
        has("oldObject", "annotations"),
    )
}

/// True for whatever leaves another spec than there was: none at all, or a first one. What is written again as it
/// stands is nobody's business, or a pipeline would stop whenever Tagout is away.
pub(super) fn spec_changes() -> String {
    "object == null || oldObject == null || !has(oldObject.spec) || !has(object.spec) || object.spec != oldObject.spec"
        .to_owned()
}

/// True for a status that takes a definition's names away, or gives it others. It is the API server's own to write, and
/// that writes those of the spec.
pub(super) fn renames() -> String {
    "has(oldObject.status) && has(oldObject.status.acceptedNames) && \
     oldObject.status.acceptedNames.plural == oldObject.spec.names.plural && (!has(object.status) || \
     !has(object.status.acceptedNames) || object.status.acceptedNames.plural != object.spec.names.plural || \
     object.status.acceptedNames.kind != object.spec.names.kind)"
        .to_owned()
}

/// True for a status by which a definition that is served is served no more, though it is not going.
pub(super) fn closes() -> String {
    // The list of conditions of a new definition is null.
    let served = |one: &str| {
        format!(
            "(has({one}.status) && has({one}.status.conditions) && {one}.status.conditions != null && \
             {one}.status.conditions.exists(condition, condition.type == 'Established' && condition.status == 'True'))"
        )
    };
    format!("!has(oldObject.metadata.deletionTimestamp) && {} && !({})", served("oldObject"), served("object"))
}

/// True for an API of the group, or of what Tagout rests on, that somebody else than the API server would serve; and
/// for any that the API server has served itself: what Tagout is told about owners and instances would be theirs.
pub(super) fn redirects(group: &str) -> String {
    format!(
        "has(object.spec.service) && ((oldObject != null && !has(oldObject.spec.service)) || \
         object.metadata.name.endsWith('.{group}') || object.metadata.name in ['v1.', \
         'v1.admissionregistration.k8s.io', 'v1.apiextensions.k8s.io'])"
    )
}

/// True for objects of a group, and for the definitions of its kinds.
pub(super) fn of_group(group: &str) -> String {
    format!(
        "[oldObject != null ? oldObject : object].all(it, it.kind != 'CustomResourceDefinition' || \
         it.metadata.name.endsWith('.{group}'))"
    )
}

/// True for everything but the claim of a pod's ephemeral volume: its controller is a pod whose name it begins with.
pub(super) const NOT_EPHEMERAL: &str = "!(oldObject.kind == 'PersistentVolumeClaim' && \
     oldObject.apiVersion == 'v1' && oldObject.metadata.?ownerReferences.orValue([]).exists(owner, \
     owner.kind == 'Pod' && owner.?controller.orValue(false) && oldObject.metadata.name.startsWith(owner.name + '-')))";

/// True for everything but a pod with a controller: that makes it anew, and restarting by deletion is daily work. An update
/// that gives a pod a controller is asked about.
pub(super) const NOT_A_CONTROLLED_POD: &str = "!(oldObject.kind == 'Pod' && oldObject.apiVersion == 'v1' && \
     oldObject.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false)))";

/// True for everything but a pod that is made with a controller.
pub(super) const NOT_BORN_CONTROLLED: &str = "!(object.kind == 'Pod' && object.apiVersion == 'v1' && \
     object.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false)))";

/// True for everything but what Kubernetes itself puts into every namespace, and puts back.
pub(super) const NOT_MADE_BY_KUBERNETES: &str = "!(object.kind == 'ConfigMap' && \
     object.metadata.?name.orValue('') == 'kube-root-ca.crt') && !(object.kind == 'ServiceAccount' && \
     object.metadata.?name.orValue('') == 'default')";

/// True for everything but a finished Job that has a time to live: it is deleted when that is over. Giving it one is asked
/// about.
pub(super) const NOT_A_JOB_WHOSE_TIME_IS_OVER: &str = "!(oldObject.kind == 'Job' && \
     has(oldObject.spec.ttlSecondsAfterFinished) && oldObject.?status.?conditions.orValue([]).exists(condition, \
     condition.type in ['Complete', 'Failed'] && condition.status == 'True'))";

/// True for an update that makes a claim look like one of a pod's ephemeral volume. Kubernetes sets such an owner when
/// it creates the claim, and never later.
pub(super) const BECOMES_EPHEMERAL: &str = "object.metadata.?ownerReferences.orValue([]).exists(new, new.kind == 'Pod' && \
     new.?controller.orValue(false) && object.metadata.name.startsWith(new.name + '-') && \
     !oldObject.metadata.?ownerReferences.orValue([]).exists(old, old == new))";

/// Whether a condition looks up a label or annotation that may be missing, which is an error at run time: then the API
/// server refuses by itself. A hint for the rule's status, so it errs on the side of silence.
pub fn careless_indexing(condition: &str) -> bool {
    let careful = ["has(", ".?", "[?", " in ", "orValue"].iter().any(|sign| condition.contains(sign));
    !careful && (condition.contains("labels[") || condition.contains("annotations["))
}

fn regex(glob: &str) -> String {
    // `(?s)`: a name may hold a line break, and a star stands for it too.
    let mut pattern = String::from("(?s)^");
    for character in glob.chars() {
        match character {
            '*' => pattern.push_str(".*"),
            plain if plain.is_ascii_alphanumeric() => pattern.push(plain),
            other => {
                pattern.push('\\');
                pattern.push(other);
            }
        }
    }
    pattern.push('$');
    literal(&pattern)
}

/// CEL reads JSON's string literals.
pub(super) fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn an_exceptions_text_cannot_become_code() {
        let exceptions = [Exception { name: None, annotation: Some("a\" || true || \"".into()) }];
        assert_eq!(
            not_excepted(&exceptions),
            r#"[oldObject != null ? oldObject : object].all(it, !(("a\" || true || \"" in it.metadata.?annotations.orValue({}))))"#
        );
    }

    #[test]
    fn an_authors_part_of_a_condition_is_found_again() {
        for condition in [bound("r", "c", "object.spec.x == 1"), bound_now("object.spec.x == 1")] {
            assert!(authors(&condition).unwrap().starts_with("object.spec.x == 1"), "{condition}");
            assert!(!authors(&condition).unwrap().contains("oldObject"), "{condition}");
        }
        assert_eq!(authors(&spec_changes()), None);
    }

    #[test]
    fn a_dot_in_a_name_is_a_dot() {
        assert_eq!(regex("a.b*"), r#""(?s)^a\\.b.*$""#);
    }

    #[rstest]
    #[case("object.metadata.labels['tier'] != 'batch'", true)]
    #[case("object.metadata.?labels['tier'].orValue('') != 'batch'", false)]
    #[case("has(object.metadata.labels) && object.metadata.labels['tier'] != 'batch'", false)]
    #[case("object.spec.replicas > 1", false)]
    fn a_lookup_that_may_fail_is_noticed(#[case] condition: &str, #[case] careless: bool) {
        assert_eq!(careless_indexing(condition), careless);
    }
}
