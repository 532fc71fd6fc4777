use std::collections::BTreeMap;

use jiff::SignedDuration;
use kube::core::{Selector, SelectorExt};

use super::budget::Budgets;
use super::freeze::Freezes;
use super::needs::{NoDecision, Subject};
use super::team::Team;
use crate::actions::unprotect::FOLLOWERS;
use crate::api::{Action, Exception, MAX_VALID_FOR, Mode, Owned, Proof, ProtectionRuleSpec, Requirement, ResourceRule};

/// All rules in force and all teams as they were at one moment, read once and never changed.
#[derive(Debug, Default)]
pub struct Rules {
    /// By name. A rule that cannot be read stays here with the reason: it is not "no rule".
    pub rules: BTreeMap<String, Result<Rule, String>>,
    pub teams: BTreeMap<String, Team>,
    /// The UID of the kube-system namespace, which statements name.
    pub cluster: String,
    /// The namespace Tagout runs in, which no rule covers: a guard must not stand in the way of its own removal.
    pub own_namespace: String,
}

impl Rules {
    /// The rule whose entry was called.
    pub fn called(&self, name: &str) -> Result<&Rule, NoDecision> {
        match self.rules.get(name) {
            Some(Ok(rule)) => Ok(rule),
            Some(Err(reason)) => Err(NoDecision::BrokenRule(name.to_owned(), reason.clone())),
            None => Err(NoDecision::UnknownRule(name.to_owned())),
        }
    }
}

/// A rule in the form in which it is evaluated.
#[derive(Debug)]
pub struct Rule {
    pub name: String,
    pub mode: Mode,
    pub actions: Vec<Action>,
    pub require: Vec<Requirement>,
    pub proof: Proof,
    pub require_verification: bool,
    pub separate_from_requester: bool,
    pub valid_for: SignedDuration,
    /// The teams of which one person can pass the rule in an emergency.
    pub break_glass: Vec<String>,
    /// As it is written.
    pub spec: ProtectionRuleSpec,
    /// The teams by which somebody could meet it once, by the hash of their specs. Absent: nobody ever could, and
    /// whoever sets Tagout up is still about to.
    pub settled: Option<BTreeMap<String, String>>,
    /// Whether CEL conditions narrow it. Those only the API server can evaluate.
    pub conditional: bool,
    resources: Vec<ResourceRule>,
    namespaces: Selector,
    objects: Selector,
    except: Vec<Exception>,
    owned: Owned,
    /// How many protected objects may go at once without approval.
    pub tolerated: u32,
    pub budgets: Budgets,
    pub freezes: Freezes,
    /// For how long what was destroyed may not return without approval.
    pub remembers: SignedDuration,
}

impl Rule {
    pub fn read(name: &str, spec: &ProtectionRuleSpec) -> Result<Self, String> {
        let selector = |selector: &_, field: &str| {
            Selector::try_from(Clone::clone(selector)).map_err(|error| format!("{field}: {error}"))
        };
        let valid_for = spec.approval.valid_for.length().map_err(|error| format!("approval.validFor: {error}"))?;
        if valid_for > MAX_VALID_FOR {
            return Err(format!("approval.validFor must be at most {MAX_VALID_FOR:#}"));
        }
        let remembers = spec.recreation.window.length().map_err(|error| format!("recreation.window: {error}"))?;
        // The schema refuses this too; a rule that asks for nobody would be a rule that everybody satisfies.
        let asks_nobody = |entry: &Requirement| entry.count == 0 || entry.any_of.is_empty();
        if spec.approval.require.is_empty() || spec.approval.require.iter().any(asks_nobody) {
            return Err("approval.require must ask for at least one person of at least one team".into());
        }
        Ok(Self {
            name: name.to_owned(),
            mode: spec.mode,
            actions: spec.actions.clone(),
            require: spec.approval.require.clone(),
            proof: spec.approval.proof,
            require_verification: spec.approval.require_verification,
            separate_from_requester: spec.approval.separate_from_requester,
            valid_for,
            break_glass: spec.approval.break_glass.any_of.clone(),
            spec: spec.clone(),
            settled: None,
            conditional: !spec.match_conditions.is_empty(),
            resources: spec.resources.clone(),
            namespaces: selector(&spec.namespace_selector, "namespaceSelector")?,
            objects: selector(&spec.object_selector, "objectSelector")?,
            except: spec.except.clone(),
            owned: spec.owned,
            tolerated: spec.tolerate.as_ref().map_or(0, |tolerate| tolerate.objects),
            budgets: Budgets::read(spec.allowance.as_ref(), spec.ceiling.as_ref())?,
            freezes: Freezes::read(&spec.freeze)?,
            remembers,
        })
    }

    /// The teams whose people it asks, those of an emergency too.
    pub fn teams(&self) -> impl Iterator<Item = &str> {
        self.require.iter().flat_map(|entry| &entry.any_of).chain(&self.break_glass).map(String::as_str)
    }

    /// Whether the rule names the kind.
    pub fn names(&self, group: &str, resource: &str) -> bool {
        self.resources.iter().any(|named| {
            named.api_groups.iter().any(|own| own == group)
                && named.resources.iter().any(|own| own == "*" || own == resource)
        })
    }

    /// The kinds the rule names, as (group, plural).
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &str)> {
        self.resources.iter().flat_map(|named| {
            named
                .api_groups
                .iter()
                .flat_map(move |group| named.resources.iter().map(move |resource| (group.as_str(), resource.as_str())))
        })
    }

    /// Whether it is about single objects, wherever they are.
    pub(super) fn chooses_objects(&self) -> bool {
        !self.objects.selects_all()
    }

    /// Whether what has a living controller is left to that controller, which makes it anew.
    pub fn lets_follow(&self, subject: &Subject) -> bool {
        // What holds other things is nobody's to make anew; and where nobody asks who gets a controller, having one says
        // nothing.
        self.actions.contains(&Action::Unprotect) && self.lets_makers(subject)
    }

    /// Whether what a living controller makes is that controller's matter.
    pub(super) fn lets_makers(&self, subject: &Subject) -> bool {
        let holds_others = subject.is_namespace() || subject.defines().is_some();
        !holds_others
            && match self.owned {
                Owned::Auto => is_follower(subject),
                Owned::Follow => true,
                Owned::Include => false,
            }
    }

    /// Whether the rule covers the object, as far as its namespace and CEL conditions allow.
    pub fn covers(&self, subject: &Subject) -> bool {
        self.names(&subject.group, &subject.resource)
            && self.objects.matches(&subject.labels)
            && !self.except.iter().any(|except| excepts(except, subject))
    }

    pub fn selects_namespace(&self, labels: &BTreeMap<String, String>) -> bool {
        self.namespaces.matches(labels)
    }
}

/// Whether its controllers make it anew as daily work.
pub(super) fn is_follower(subject: &Subject) -> bool {
    FOLLOWERS.contains(&(&*subject.group, &*subject.resource))
}

fn excepts(except: &Exception, subject: &Subject) -> bool {
    let named = except.name.as_deref().is_none_or(|pattern| glob(pattern, &subject.name));
    let annotated = except.annotation.as_deref().is_none_or(|key| subject.annotations.iter().any(|own| own == key));
    named && annotated && (except.name.is_some() || except.annotation.is_some())
}

/// `*` stands for any run of characters. Two positions, no recursion: a pattern cannot be made expensive.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut resume = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            resume = Some((p + 1, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((after_star, taken)) = resume {
            resume = Some((after_star, taken + 1));
            p = after_star;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("preview-*", "preview-17", true)]
    #[case("preview-*", "preview-", true)]
    #[case("preview-*", "a-preview-17", false)]
    #[case("*-tmp", "a-tmp-tmp", true)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "a-c-b", false)]
    #[case("exact", "exact", true)]
    #[case("exact", "exactly", false)]
    #[case("a.b", "axb", false)]
    fn a_star_stands_for_any_run_of_characters(#[case] pattern: &str, #[case] name: &str, #[case] matches: bool) {
        assert_eq!(glob(pattern, name), matches);
    }

    fn subject<'a>(name: &'a str, annotations: &[&'a str]) -> Subject<'a> {
        Subject {
            name: name.into(),
            annotations: annotations.iter().map(|key| (*key).into()).collect(),
            ..Subject::default()
        }
    }

    #[test]
    fn within_one_exception_everything_must_hold() {
        let except = Exception { name: Some("a-*".into()), annotation: Some("helm.sh/hook".into()) };
        assert!(excepts(&except, &subject("a-1", &["helm.sh/hook"])));
        assert!(!excepts(&except, &subject("b-1", &["helm.sh/hook"])));
        assert!(!excepts(&except, &subject("a-1", &[])));
    }

    #[test]
    fn an_exception_that_says_nothing_leaves_out_nothing() {
        assert!(!excepts(&Exception { name: None, annotation: None }, &subject("a", &["b"])));
    }

    #[test]
    fn a_rule_that_asks_for_nobody_is_broken_and_never_satisfied() {
        for require in ["[]", r#"[{"anyOf":[],"count":1}]"#, r#"[{"anyOf":["sre"],"count":0}]"#] {
            let spec = serde_json::from_str(&format!(
                r#"{{"resources":[{{"apiGroups":["apps"],"resources":["deployments"]}}],"approval":{{"require":{require}}}}}"#
            ))
            .unwrap();
            assert!(Rule::read("r", &spec).is_err(), "{require}");
        }
    }
}
