//! Many requests become few rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use super::asked::Asked;
use super::events::Event;
use super::judge::Judged;
use super::report::{Agreement, Basis, Report, Requests, Row, Untold};
use super::state::text;
use crate::api::kind_name;
use crate::guard::Verdict;

/// What requests of one sort have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sort {
    dry_run: bool,
    passes: bool,
    rule: String,
    action: String,
    verdict: &'static str,
    basis: Basis,
    requester: String,
    tool: String,
    kind: String,
    namespace: String,
}

#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    objects: BTreeSet<u64>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    examples: Vec<String>,
    assumed: BTreeSet<String>,
    consequences: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: Requests,
    rows: BTreeMap<Sort, Counted>,
    untold: BTreeMap<String, u64>,
    agreement: Agreement,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    /// What would not have gone, had its root not: by UID, so that nothing of the same name is taken for it.
    roots: HashMap<String, Sort>,
    pub(super) failed_open: u64,
    pub(super) unanswered: u64,
    pub(super) trials: u64,
    /// Changes of the rules by which everything is judged.
    pub(super) given: u64,
}

const EXAMPLES: usize = 3;
const DIFFERENCES: usize = 20;
/// More different objects of a sort are not told apart.
const MOST: usize = 100_000;
/// Reasons that name a kind or a condition are few; whatever else they name is cut.
const REASONS: usize = 1000;

/// Those who delete what follows from a deletion.
const FOLLOWERS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];

impl Tally {
    pub(super) fn at(&mut self, at: Timestamp) {
        self.from = Some(self.from.map_or(at, |from| from.min(at)));
        self.until = Some(self.until.map_or(at, |until| until.max(at)));
    }

    /// The root that a deletion follows from, if that was one that would have been refused. Whoever only speaks for a
    /// controller follows nothing.
    pub(super) fn follows(&mut self, asked: &Asked, authenticated: &str, namespace_uid: &str) -> bool {
        let is_itself = FOLLOWERS.contains(&authenticated) && asked.user.username == authenticated;
        if asked.operation != "DELETE" || asked.dry_run || !is_itself {
            return false;
        }
        let old = asked.old.as_ref();
        let owners = old.and_then(|old| old.pointer("/metadata/ownerReferences")).and_then(|owners| owners.as_array());
        let owners = owners.into_iter().flatten().filter_map(|owner| owner["uid"].as_str());
        let Some(root) = owners.chain([namespace_uid]).find_map(|uid| self.roots.get(uid)).cloned() else {
            return false;
        };
        if let Some(counted) = self.rows.get_mut(&root) {
            counted.consequences += 1;
        }
        self.root(asked, root);
        true
    }

    fn root(&mut self, asked: &Asked, sort: Sort) {
        let uid = asked.old.as_ref().map_or("", |old| text(old, "/metadata/uid"));
        // Nothing follows from what nobody can tell apart.
        if !uid.is_empty() {
            self.roots.insert(uid.to_owned(), sort);
        }
    }

    /// Counts a request once, however many objects it is about.
    pub(super) fn judged(
        &mut self,
        event: &Event,
        asked: &Asked,
        judged: &Judged,
        basis: Basis,
        again: bool,
        happened: bool,
    ) {
        let passes = judged.verdict == Verdict::Allow;
        let told = ["approved", "within", "so little"].iter().any(|word| judged.because.starts_with(word));
        if passes && !told {
            return;
        }
        let sort = Sort {
            dry_run: asked.dry_run,
            passes,
            rule: judged.rule.clone(),
            action: judged.action.clone(),
            verdict: judged.verdict.as_str(),
            basis,
            requester: asked.user.username.clone(),
            tool: tool(&event.user_agent),
            kind: kind_name(&asked.place.group, &asked.place.plural),
            namespace: asked.place.namespace.clone(),
        };
        let counted = self.rows.entry(sort.clone()).or_default();
        counted.requests += u64::from(!again);
        counted.assumed.extend(judged.leaned_on.iter().cloned());
        if counted.objects.len() < MOST {
            counted.objects.insert(hash(&(&asked.place.namespace, &asked.place.name)));
        }
        counted.first = Some(counted.first.map_or(event.at, |first| first.min(event.at)));
        counted.last = Some(counted.last.map_or(event.at, |last| last.max(event.at)));
        if counted.examples.len() < EXAMPLES {
            let example = format!("{} {} {}", super::super::words::seconds(event.at), event.verb, named(asked));
            if !counted.examples.contains(&example) {
                counted.examples.push(example);
            }
        }
        if happened && !passes && asked.operation == "DELETE" && !asked.dry_run {
            self.root(asked, sort);
        }
    }

    pub(super) fn untold(&mut self, why: &str) {
        self.requests.untold += 1;
        let why: String = why.chars().take(300).collect();
        let known = self.untold.contains_key(&why) || self.untold.len() < REASONS;
        let why = if known { why } else { "other reasons".to_owned() };
        *self.untold.entry(why).or_default() += 1;
    }

    /// What was said at the time, beside what is said now.
    pub(super) fn compared(
        &mut self,
        event: &Event,
        recorded: Option<Verdict>,
        replayed: Result<Verdict, &str>,
        said: &str,
    ) {
        let then = recorded.unwrap_or_default();
        let words = match (recorded, replayed) {
            (None, Err(_) | Ok(Verdict::Allow)) => return,
            (Some(_), Err(why)) => {
                self.agreement.untold += 1;
                format!("cannot tell: {why}")
            }
            (_, Ok(now)) if now == then => {
                self.agreement.both += 1;
                return;
            }
            (_, Ok(now)) => {
                let count =
                    if then > now { &mut self.agreement.only_recorded } else { &mut self.agreement.only_replayed };
                *count += 1;
                format!("now {} ({said})", now.as_str())
            }
        };
        if self.agreement.examples.len() < DIFFERENCES {
            let about = event.object_ref.as_ref();
            let [kind, namespace, name] = [
                about.map(|about| about.resource.as_str()),
                about.map(|about| about.namespace.as_str()),
                about.map(|about| about.name.as_str()),
            ]
            .map(Option::unwrap_or_default);
            let by = &event.user().username;
            let at = super::super::words::seconds(event.at);
            self.agreement.examples.push(format!(
                "{at} {} {kind} {namespace}/{name} by {by} ({}): then {}, {words}",
                event.verb,
                event.id,
                recorded.map_or("nothing", Verdict::as_str)
            ));
        }
    }

    pub(super) fn report(self, source: String, notes: Vec<String>) -> Report {
        let (mut rows, mut dry_runs) = (Vec::new(), Vec::new());
        for (sort, counted) in self.rows {
            let into = if sort.dry_run { &mut dry_runs } else { &mut rows };
            into.push(Row {
                rule: sort.rule,
                action: sort.action,
                verdict: sort.verdict.to_owned(),
                basis: sort.basis,
                requester: sort.requester,
                tool: sort.tool,
                kind: sort.kind,
                namespace: sort.namespace,
                objects: counted.objects.len(),
                requests: counted.requests,
                first: counted.first,
                last: counted.last,
                examples: counted.examples,
                assumed: counted.assumed,
                consequences: counted.consequences,
            });
        }
        let mut untold: Vec<Untold> = self.untold.into_iter().map(|(why, requests)| Untold { why, requests }).collect();
        untold.sort_by_key(|one| std::cmp::Reverse(one.requests));
        let compared = self.agreement != Agreement::default();
        Report {
            source,
            from: self.from,
            until: self.until,
            requests: self.requests,
            rows,
            dry_runs,
            untold,
            agreement: compared.then_some(self.agreement),
            notes,
        }
    }
}

/// A verdict, as Tagout writes it down.
pub(super) fn verdict_of(said: &str) -> Option<Verdict> {
    [Verdict::Allow, Verdict::Audit, Verdict::Warn, Verdict::Deny].into_iter().find(|one| one.as_str() == said)
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn named(asked: &Asked) -> String {
    let kind = kind_name(&asked.place.group, &asked.place.plural);
    let (namespace, name) = (&asked.place.namespace, &asked.place.name);
    if namespace.is_empty() { format!("{kind}/{name}") } else { format!("{kind}/{name} in {namespace}") }
}

/// The program, without what it was built of.
fn tool(agent: &str) -> String {
    agent.split([' ', '(']).next().unwrap_or_default().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_without_its_build() {
        assert_eq!(tool("kubectl/v1.36.0 (linux/amd64) kubernetes/abcdef"), "kubectl/v1.36.0");
        assert_eq!(tool(""), "");
    }
}
