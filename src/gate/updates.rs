//! Updates that destroy or unprotect.

use super::deletions::named;
use super::{Gate, Known, Outcome, Unanswered, convert};
use crate::actions::{self, Part, Question, Seen, Write};
use crate::api::{Action, kind_parts};
use crate::guard::{Because, Called, Candidate, Decision, Facts, Needs, Reach, Request, Rules, Verdict, needs};
use crate::review::{Malformed, Object, RawRequest};

impl Gate {
    pub(super) async fn update(
        &self,
        called: Called<'_>,
        review: &RawRequest<'_>,
        known: Known<'_>,
    ) -> Result<Outcome, Unanswered> {
        let rules = known.rules;
        let new = convert::object(review.object.ok_or(Malformed::Missing("object"))?)?;
        let old = convert::object(review.old_object.ok_or(Malformed::Missing("oldObject"))?)?;
        let (resource, rule) = (&review.resource, rules.called(called.rule())?);
        if (&*resource.group, &*resource.resource) == ("", "persistentvolumeclaims")
            && let Some(answer) = self.decide_claim(rule, review, &old, &new)?
        {
            return Ok(Outcome::Answer(answer));
        }
        let write = Write {
            group: &resource.group,
            resource: &resource.resource,
            subresource: &review.sub_resource,
            old: Part::of(review.old_object),
            new: Part::of(review.object),
        };
        let base = self.subject_of(review, &old, &write).await?;
        let mut judged = Vec::new();
        for seen in self.all_seen(called, &write, &base, &new, review).await? {
            let Some((request, needs)) = asked(called, &base, seen, rules)? else { continue };
            let decision = self.decided(&request, &needs, rules, Facts::default()).await;
            if matches!(decision.because, Because::Approved(_)) && !known.certain {
                return Ok(Outcome::Uncertain);
            }
            judged.push((request, decision));
        }
        let (request, decision) = take_gravest(&mut judged).unwrap_or((base, Decision::default()));
        self.finish_with(called, review, &request, decision, &judged, known).await
    }

    /// What the update is about: the object, or the one that a `Scale` is of.
    async fn subject_of<'a>(
        &self,
        review: &'a RawRequest<'_>,
        old: &'a Object<'_>,
        write: &Write<'_>,
    ) -> Result<Request<'a>, Unanswered> {
        let mut base = convert::request(Action::Unprotect, review, old)?;
        if write.subresource == "scale" {
            let subject = &base.subject;
            let parent = self.cluster.find(named(review), &subject.namespace, &subject.name).await;
            match parent {
                Ok(Some(found)) if found.subject.uid == subject.uid => {
                    base.subject = found.subject;
                    base.owners = found.owners;
                    base.terminating = found.terminating;
                }
                // Without its labels nobody can tell which rules are meant.
                _ => return Err(crate::guard::NoDecision::NotFound(subject.kind()).into()),
            }
        }
        Ok(base)
    }

    async fn all_seen(
        &self,
        called: Called<'_>,
        write: &Write<'_>,
        base: &Request<'_>,
        new: &Object<'_>,
        review: &RawRequest<'_>,
    ) -> Result<Vec<(Seen, Reach)>, Unanswered> {
        if base.terminating || write.terminating() {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for seen in actions::seen(write) {
            if let Some(question) = &seen.unless
                && self.shown(question, &base.subject.namespace).await
            {
                continue;
            }
            let reach = match seen.action {
                Action::Unprotect if base.subject.defines().is_some() => definition(base),
                Action::DiscardData if (write.group, write.resource) == ("", "persistentvolumes") => {
                    Reach::Through(Box::new(self.claim_of(review).await?))
                }
                Action::Finalize if base.subject.is_namespace() => Reach::Selecting,
                _ => Reach::Covered,
            };
            all.push((seen, reach));
        }
        if actions::unprotect::gets_a_controller(write) {
            let what = "it would follow a controller that it did not have".to_owned();
            all.push((Seen { action: Action::Unprotect, what, unless: None }, Reach::Following));
        }
        if write.subresource != "scale" {
            let leaving = convert::owned(&convert::subject(&review.resource, &new.metadata)?);
            let what = match called {
                Called::Leaves(rule) => format!("the conditions of rule {rule} would not hold for it any more"),
                _ => "its rules would not cover it any more".to_owned(),
            };
            let seen = Seen { action: Action::Unprotect, what, unless: None };
            all.push((seen, Reach::Leaving(Box::new(leaving))));
        }
        Ok(all)
    }

    /// Whether what would make it harmless is so. What nobody can tell is not.
    async fn shown(&self, question: &Question, namespace: &str) -> bool {
        let _place = self.looking.acquire().await;
        self.cluster.shows(question, namespace).await
    }
}

/// Takes out what decides: the gravest of all that one update does, the first of those that are alike. Where it passes,
/// what else somebody passed alone is left.
fn take_gravest<'r, R>(judged: &mut Vec<(R, Decision<'r>)>) -> Option<(R, Decision<'r>)> {
    let gravity = |at: &usize| (judged[*at].1.verdict, judged[*at].1.because != Because::NotCovered);
    let gravest = (0..judged.len()).rev().max_by_key(gravity)?;
    let gravest = judged.remove(gravest);
    judged.retain(|(_, decision)| gravest.1.verdict != Verdict::Deny && !decision.broke_glass.is_empty());
    Some(gravest)
}

/// The request for one action, if any rule guards against it.
fn asked<'a, 'r>(
    called: Called<'_>,
    base: &Request<'a>,
    (seen, reach): (Seen, Reach),
    rules: &'r Rules,
) -> Result<Option<(Request<'a>, Needs<'r>)>, Unanswered> {
    let leaving = matches!(reach, Reach::Leaving(_));
    let request = Request { action: seen.action, reach, what: Some(seen.what), ..base.clone() };
    let mut needs = needs(&request, called, rules)?;
    if let (Called::Leaves(name), true) = (called, leaving) {
        // What only the API server can tell, it has told.
        let rule = rules.called(name)?;
        if !needs.candidates.iter().any(|candidate| candidate.rule.name == rule.name) {
            needs.candidates.push(Candidate { rule, called: true, assumed: false });
        }
    }
    Ok((!needs.candidates.is_empty()).then_some((request, needs)))
}

fn definition(base: &Request) -> Reach {
    let kind = base.subject.defines().unwrap_or_default();
    let (resource, group) = kind_parts(kind);
    Reach::Definition { group: group.to_owned(), resource: resource.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(verdict: Verdict, because: Because, broke_glass: &[&str]) -> Decision<'static> {
        let broke_glass = broke_glass.iter().map(ToString::to_string).collect();
        Decision { verdict, because, broke_glass, ..Decision::default() }
    }

    /// What decides, and what is told beside it.
    fn told(mut judged: Vec<(&'static str, Decision<'static>)>) -> (&'static str, Vec<&'static str>) {
        let (gravest, _) = take_gravest(&mut judged).expect("something was judged");
        (gravest, judged.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn an_emergency_that_comes_after_what_was_approved_is_told_and_one_that_is_refused_is_none() {
        let approved = || ("scale", decision(Verdict::Allow, Because::Approved(vec!["alice".to_owned()]), &[]));
        let broken =
            || ("unprotect", decision(Verdict::Allow, Because::Approved(vec!["carol".to_owned()]), &["carol"]));
        let refused = || ("finalize", decision(Verdict::Deny, Because::Unapproved, &[]));
        let warned = || ("discard", decision(Verdict::Warn, Because::Unapproved, &[]));
        assert_eq!(told(vec![approved(), broken()]), ("scale", vec!["unprotect"]));
        assert_eq!(told(vec![broken(), approved()]), ("unprotect", vec![]));
        for judged in [vec![broken(), warned()], vec![warned(), broken()]] {
            assert_eq!(told(judged), ("discard", vec!["unprotect"]));
        }
        for judged in [vec![broken(), refused()], vec![refused(), broken()]] {
            assert_eq!(told(judged), ("finalize", vec![]));
        }
    }

    #[test]
    fn what_no_rule_covers_decides_only_where_nothing_else_was_judged() {
        let free = || ("free", Decision::default());
        let approved = || ("approved", decision(Verdict::Allow, Because::Approved(Vec::new()), &[]));
        assert_eq!(told(vec![free(), approved()]), ("approved", vec![]));
        assert_eq!(told(vec![free()]), ("free", vec![]));
    }
}
