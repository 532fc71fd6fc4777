//! Selectors, as the API server reads them from an address or from an entry.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels that are asked for.
#[derive(Debug, Default)]
pub(super) struct Labels(Vec<Asks>);

#[derive(Debug, PartialEq, Eq)]
enum Asks {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Lacks(String),
}

impl Labels {
    /// Like `app=api,tier!=cache,zone in (a, b),!old`. Nothing where it is not to be understood.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut asked = Vec::new();
        let (mut depth, mut from) = (0_usize, 0);
        for (at, character) in text.char_indices().chain([(text.len(), ',')]) {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.checked_sub(1)?,
                ',' if depth == 0 => {
                    let one = text[from..at].trim();
                    from = (at + 1).min(text.len());
                    if !one.is_empty() {
                        asked.push(asks(one)?);
                    }
                }
                _ => {}
            }
        }
        (depth == 0).then_some(Self(asked))
    }

    /// Nothing where an operator is not known.
    pub(super) fn of(selector: &LabelSelector) -> Option<Self> {
        let exact =
            selector.match_labels.iter().flatten().map(|(key, value)| Asks::In(key.clone(), vec![value.clone()]));
        let mut asked: Vec<Asks> = exact.collect();
        for one in selector.match_expressions.iter().flatten() {
            let (key, values) = (one.key.clone(), one.values.clone().unwrap_or_default());
            asked.push(match one.operator.as_str() {
                "In" => Asks::In(key, values),
                "NotIn" => Asks::NotIn(key, values),
                "Exists" => Asks::Exists(key),
                "DoesNotExist" => Asks::Lacks(key),
                _ => return None,
            });
        }
        Some(Self(asked))
    }

    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|asks| match asks {
            Asks::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Asks::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Asks::Exists(key) => labels.contains_key(key),
            Asks::Lacks(key) => !labels.contains_key(key),
        })
    }

    pub(super) fn selects_all(&self) -> bool {
        self.0.is_empty()
    }
}

fn asks(one: &str) -> Option<Asks> {
    let named = |key: &str| Some(key.trim().to_owned()).filter(|key| !key.is_empty() && !key.contains([' ', '(', '=']));
    for (sign, denies) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = one.split_once(sign) {
            let (key, values) = (named(key)?, vec![value.trim().to_owned()]);
            return Some(if denies { Asks::NotIn(key, values) } else { Asks::In(key, values) });
        }
    }
    if let Some(list) = one.strip_suffix(')') {
        let (head, list) = list.split_once('(')?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = head.trim().rsplit_once(' ')?;
        return match operator {
            "in" => Some(Asks::In(named(key)?, values)),
            "notin" => Some(Asks::NotIn(named(key)?, values)),
            _ => None,
        };
    }
    match one.strip_prefix('!') {
        Some(key) => Some(Asks::Lacks(named(key)?)),
        None => Some(Asks::Exists(named(one)?)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", Some(true))]
    #[case("app=api", Some(true))]
    #[case("app==api,tier!=cache", Some(true))]
    #[case("app!=api", Some(false))]
    #[case("app in (web, api),zone notin (a,b)", Some(true))]
    #[case("app in (web)", Some(false))]
    #[case("app,!old", Some(true))]
    #[case("old", Some(false))]
    #[case("app in (web", None)]
    #[case("app near (web)", None)]
    #[case("a b", None)]
    fn a_selector_is_read_as_the_api_server_reads_it(#[case] text: &str, #[case] expected: Option<bool>) {
        let labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
        assert_eq!(Labels::read(text).map(|selector| selector.matches(&labels)), expected);
    }
}
