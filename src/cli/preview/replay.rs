//! An audit log, event by event: each is judged by the cluster as it stood, and then folded into it.

use std::collections::HashSet;

use serde_json::Value;

use crate::guard::Verdict;

use super::asked::{Asked, Turned, Write};
use super::events::Event;
use super::judge::{Judge, Judged};
use super::report::{Basis, Report};
use super::served::Shared;
use super::state::{Held, MEMORY, Place, reduced, text};
use super::tally::{Tally, verdict_of};
use crate::cluster::Told;
use crate::entries;

pub(super) struct Replay {
    shared: Shared,
    judge: Judge,
    clock: Told,
    /// Whether the rules are those of the log, or were given and stay.
    rules_of_the_log: bool,
    own_namespace: String,
    seen: [HashSet<String>; 2],
    tally: Tally,
}

/// Events of one request come close to each other.
const REMEMBERED: usize = 100_000;

impl Replay {
    pub(super) fn new(shared: Shared, own_namespace: &str, rules_of_the_log: bool) -> Self {
        let clock = Told::default();
        let judge = Judge::new(shared.clone(), clock.clone(), own_namespace);
        Self {
            shared,
            judge,
            clock,
            rules_of_the_log,
            own_namespace: own_namespace.to_owned(),
            seen: <[HashSet<String>; 2]>::default(),
            tally: Tally::default(),
        }
    }

    pub(super) async fn event(&mut self, event: &Event) {
        if !matches!(event.stage.as_str(), "ResponseComplete" | "Panic") {
            return;
        }
        self.tally.at(event.at);
        let refused = is_refused_by_tagout(event);
        let done = (200..300).contains(&event.code());
        let fails = |key: &&String| key.starts_with("failed-open.validating.webhook.admission.k8s.io/");
        let open =
            event.annotations.iter().filter(|(key, _)| fails(key)).any(|(_, name)| name.ends_with(".tagout.dev"));
        self.tally.failed_open += u64::from(open);
        if event.code() >= 500 && event.message().contains(".tagout.dev\"") {
            self.tally.unanswered += 1;
        }
        // What came to nothing for other reasons changed nothing, and may never have been asked about.
        if !done && !refused {
            return;
        }
        let Some(write) = Write::of(event, refused) else { return };
        if !self.is_new(&event.id) {
            return;
        }
        // How rules came to be is not judged by what they are now.
        if self.is_given(&write) {
            self.tally.given += 1;
            return;
        }
        self.clock.set(event.at);
        self.judge.catch_up().await;
        self.tally.requests.seen += 1;
        if self.judge.concerns(write.operation(), &write.place, &write.about.subresource) || refused {
            self.decide(&write).await;
        } else {
            self.tally.requests.decided += 1;
        }
        if done && !write.dry_run {
            write.fold(&mut self.shared.lock());
        }
    }

    /// Rules that were given are not changed by the log.
    fn is_given(&self, write: &Write) -> bool {
        let place = &write.place;
        !self.rules_of_the_log
            && match (place.group.as_str(), place.plural.as_str()) {
                ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => {
                    place.name == entries::SHARED || entries::rule_name(&place.name).is_some()
                }
                ("tagout.dev", "protectionrules" | "approverteams") => true,
                ("", "secrets") => place.namespace == self.own_namespace && MEMORY.contains(&place.name.as_str()),
                _ => false,
            }
    }

    async fn decide(&mut self, write: &Write<'_>) {
        let recorded = recorded(write.event, write.refused);
        let turned = write.turned(&self.shared.lock());
        let judged = match turned {
            Turned::Untold(why) => Err(why),
            Turned::Each(all) => self.each(write, all, None).await,
            Turned::AtLeast(all, why) => self.each(write, all, Some(why)).await,
            Turned::OneOf(all) => self.one_of(write, all).await,
        };
        match judged {
            Ok(judged) => {
                self.tally.requests.decided += 1;
                let now = self.comparable(judged.verdict);
                let then = recorded.map(|recorded| self.comparable(recorded));
                self.tally.compared(write.event, then, Ok(now), &judged.because);
            }
            Err(why) => self.without(write, recorded, &why),
        }
    }

    /// Rules that were given are judged as if they enforced: whether they warned at the time makes no difference.
    fn comparable(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Audit | Verdict::Warn if !self.rules_of_the_log => Verdict::Deny,
            verdict => verdict,
        }
    }

    /// All of them, of which one that is refused has the request refused. What is not known of the others may be worse than
    /// all that is known, unless that is the worst.
    async fn each(
        &mut self,
        write: &Write<'_>,
        all: Vec<Asked>,
        mut unknown: Option<String>,
    ) -> Result<Judged, String> {
        let mut judged: Vec<(Asked, Judged)> = Vec::new();
        let mut gone: Vec<(Place, Held)> = Vec::new();
        for asked in all {
            self.judge.catch_up().await;
            let one = match self.judge.judge(&asked).await {
                Ok(one) => one,
                Err(why) => {
                    unknown.get_or_insert(doubtful(&asked, why));
                    continue;
                }
            };
            let (place, refused) = (asked.place.clone(), one.verdict == Verdict::Deny);
            judged.push((asked, one));
            if write.refused && write.event.verb == "deletecollection" && !write.dry_run {
                if refused {
                    break;
                }
                // It went before the first that was refused.
                let mut state = self.shared.lock();
                gone.extend(state.get(&place).cloned().map(|held| (place.clone(), held)));
                state.remove(&place);
            }
        }
        let is_known = judged.iter().any(|(_, one)| one.verdict == Verdict::Deny);
        if let Some(why) = unknown.filter(|_| !is_known) {
            // Nobody knows how far it came.
            for (place, held) in gone {
                self.shared.lock().put_reduced(place, Value::clone(&held.object), true);
            }
            return Err(why);
        }
        let mut worst = Judged::default();
        let mut again = false;
        for (asked, one) in judged {
            self.count(write, &asked, &one, again);
            again |= one.verdict != Verdict::Allow;
            if worst.because.is_empty() || one.verdict > worst.verdict {
                worst = one;
            }
        }
        Ok(worst)
    }

    async fn one_of(&mut self, write: &Write<'_>, all: Vec<Asked>) -> Result<Judged, String> {
        let mut known: Option<Judged> = None;
        for asked in &all {
            if asked.assumed && asked.place.plural == "secrets" && asked.place.group.is_empty() {
                return Err("what was in the Secret before is not known".to_owned());
            }
            let judged = self.judge.judge(asked).await?;
            if known.as_ref().is_some_and(|known| known.verdict != judged.verdict) {
                return Err("of which sort the patch was the log does not say, and it makes a difference".to_owned());
            }
            known.get_or_insert(judged);
        }
        let judged = known.unwrap_or_default();
        if let Some(asked) = all.first() {
            self.count(write, asked, &judged, false);
        }
        Ok(judged)
    }

    fn count(&mut self, write: &Write<'_>, asked: &Asked, judged: &Judged, again: bool) {
        // It tries itself all the time.
        let own = format!("system:serviceaccount:{}:tagout", self.own_namespace);
        if write.dry_run && write.event.authenticated() == own && asked.user.username == own {
            self.tally.trials += 1;
            return;
        }
        let happened = !write.refused;
        let namespace_uid = {
            let state = self.shared.lock();
            let namespace = state.namespace(&asked.place.namespace);
            namespace.map_or_else(String::new, |held| text(&held.object, "/metadata/uid").to_owned())
        };
        if happened && self.tally.follows(asked, write.event.authenticated(), &namespace_uid) {
            return;
        }
        let basis = if judged.leaned_on.is_empty() { Basis::Replayed } else { Basis::Assumed };
        self.tally.judged(write.event, asked, judged, basis, again, happened);
    }

    /// What cannot be told may be known from the time itself, or be no rule's business whatever it was.
    fn without(&mut self, write: &Write<'_>, recorded: Option<Verdict>, why: &str) {
        let asked = write.bare();
        if let Some(verdict) = recorded {
            self.tally.requests.decided += 1;
            let said = |name: &str| annotation(write.event, name).unwrap_or_default().to_owned();
            let judged = Judged {
                verdict,
                rule: said("rules"),
                action: said("action"),
                because: said("because"),
                ..Judged::default()
            };
            self.tally.judged(write.event, &asked, &judged, Basis::Recorded, false, !write.refused);
            self.tally.compared(write.event, recorded, Err(why), "");
        } else if self.judge.may_concern(&asked) {
            self.tally.untold(why);
        } else {
            self.tally.requests.decided += 1;
        }
    }

    fn is_new(&mut self, id: &str) -> bool {
        if self.seen.iter().any(|seen| seen.contains(id)) {
            return false;
        }
        if self.seen[0].len() >= REMEMBERED {
            self.seen[1] = std::mem::take(&mut self.seen[0]);
        }
        self.seen[0].insert(id.to_owned());
        true
    }

    pub(super) fn report(self, source: String, mut notes: Vec<String>) -> Report {
        let many = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        notes.extend(many(self.tally.trials, "dry-runs by which Tagout tries itself are not listed"));
        notes.extend(many(
            self.tally.given,
            "changes of rules, of teams and of what Tagout remembers of them are not judged: the rules were given",
        ));
        notes.extend(many(self.tally.failed_open, "requests passed because Tagout did not answer (failed-open)"));
        notes.extend(many(
            self.tally.unanswered,
            "requests were refused because Tagout did not answer; they are not judged",
        ));
        if let Some(why) = self.judge.without_rules {
            notes.push(format!("there were no rules to judge by: {why}"));
        }
        self.tally.report(source, notes)
    }
}

fn doubtful(asked: &Asked, why: String) -> String {
    if asked.assumed { format!("{why} (it was only found afterwards)") } else { why }
}

/// Whether it was Tagout that refused, not rights or anybody else.
fn is_refused_by_tagout(event: &Event) -> bool {
    let by_code = event.code() == 403 && {
        let message = event.message();
        // `admission webhook "NAME" denied the request: tagout: …`
        message.contains(".tagout.dev\" denied the request: ")
    };
    by_code || (event.code() >= 400 && verdict_in(event) == Some(Verdict::Deny))
}

/// What Tagout said at the time: the worst of its entries.
fn recorded(event: &Event, refused: bool) -> Option<Verdict> {
    if refused { Some(Verdict::Deny) } else { verdict_in(event) }
}

fn verdict_in(event: &Event) -> Option<Verdict> {
    let own = event.annotations.iter().filter(|(key, _)| key.ends_with(".tagout.dev/verdict"));
    own.filter_map(|(_, said)| verdict_of(said)).max()
}

fn annotation<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    let own = |key: &&String| key.rsplit_once(".tagout.dev/").is_some_and(|(_, own)| own == name);
    event.annotations.iter().find(|(key, _)| own(key)).map(|(_, said)| said.as_str())
}

impl Write<'_> {
    /// What is asked, as far as it is known what was left.
    fn bare(&self) -> Asked {
        Asked {
            id: self.event.id.clone(),
            operation: self.operation(),
            place: self.place.clone(),
            version: self.about.api_version.clone(),
            subresource: self.about.subresource.clone(),
            title: self.request.as_ref().map_or("", |object| text(object, "/kind")).to_owned(),
            object: self.response.clone().map(reduced),
            old: None,
            user: self.event.user().clone(),
            dry_run: self.dry_run,
            field_manager: String::new(),
            assumed: false,
        }
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
