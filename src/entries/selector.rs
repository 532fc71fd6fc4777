use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::conditions::literal;

/// A selector as CEL about the labels of an object, for where the API server does not look at the labels that count.
pub(super) fn selects(selector: &LabelSelector, object: &str) -> String {
    let labels = format!("{object}.metadata.?labels");
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| {
        format!("{labels}[?{}].orValue('') == {}", literal(key), literal(value)) + &present(&labels, key, value)
    });
    let expressions = selector.match_expressions.iter().flatten().map(|one| expression(one, &labels));
    let all: Vec<_> = equal.chain(expressions).map(|one| format!("({one})")).collect();
    if all.is_empty() { "true".to_owned() } else { all.join(" && ") }
}

/// A label that is asked to be empty has to be there.
fn present(labels: &str, key: &str, value: &str) -> String {
    if value.is_empty() { format!(" && {labels}[?{}].hasValue()", literal(key)) } else { String::new() }
}

fn expression(one: &LabelSelectorRequirement, labels: &str) -> String {
    let found = format!("{labels}[?{}]", literal(&one.key));
    let values: Vec<_> = one.values.iter().flatten().map(|value| literal(value)).collect();
    let values = format!("[{}]", values.join(", "));
    match one.operator.as_str() {
        "In" => format!("{found}.hasValue() && {found}.orValue('') in {values}"),
        "NotIn" => format!("!({found}.hasValue() && {found}.orValue('') in {values})"),
        "Exists" => format!("{found}.hasValue()"),
        "DoesNotExist" => format!("!{found}.hasValue()"),
        // The API server knows no other; what it does not know selects nothing.
        _ => "false".to_owned(),
    }
}
