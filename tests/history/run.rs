//! Runs a history: each operation on the API server and on the model, and after each of them both are compared.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use controlplane::User;
use serde_json::json;

use super::cluster::{Call, Cluster, PATIENCE, text};
use super::compare::{Difference, books_differ, live};
use super::generator::Generator;
use super::model::{Clause, Model, Outcome, Race, Rule, Verdict};
use super::operation::Operation;
use super::perform::{perform, target_path};
use super::text::Names;
use super::world::{Kind, OF, PLACES, Place, Target, namespace, namespace_manifest};

/// What a history is made of.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub rules: Vec<Rule>,
    pub operations: Vec<Operation>,
    /// A sentence that the model leaves out.
    pub without: Option<Clause>,
    /// A kind that rules in the cluster do not name, though the model says so.
    pub omitted: Option<Kind>,
}

/// What became of a history that agreed to its end, or of one up to where it did not.
#[derive(Debug, Default)]
pub struct Report {
    /// How often an operation was answered so.
    pub answers: BTreeMap<(&'static str, &'static str), u64>,
    pub races: BTreeMap<Race, u64>,
    /// How often somebody had to ask again, since no process answered.
    pub again: u64,
    pub done: Vec<Operation>,
    pub disagreement: Option<Disagreement>,
}

/// Where model and cluster differ.
#[derive(Clone, Debug)]
pub struct Disagreement {
    pub row: &'static str,
    pub expected: Vec<Verdict>,
    pub answered: Option<Verdict>,
    /// In Tagout's own words, or what is not as it should be.
    pub words: String,
}

/// Where the operations come from.
enum Source<'a> {
    Chosen(Generator, usize),
    Given(&'a [Operation]),
}

impl Source<'_> {
    fn next(&mut self, at: usize, model: &Model) -> Option<Operation> {
        match self {
            Self::Chosen(generator, many) => (at < *many).then(|| generator.next(model)),
            Self::Given(operations) => operations.get(at).cloned(),
        }
    }
}

struct History<'c> {
    cluster: &'c Cluster,
    names: Names,
    model: Model,
    unasked: u64,
}

const RULES: &str = "/apis/tagout.dev/v1alpha1/protectionrules";
const TEAMS: &str = "/apis/tagout.dev/v1alpha1/approverteams";

impl fmt::Display for Disagreement {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{}: expected {:?}, answered {:?}: {}", self.row, self.expected, self.answered, self.words)
    }
}

impl Disagreement {
    /// Whether it is the same fault that shows.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.row, &self.expected, &self.answered) == (other.row, &other.expected, &other.answered)
    }
}

/// Runs a plan from its beginning to its end, and removes it.
pub async fn replay(cluster: &Cluster, name: &str, plan: &Plan) -> Result<Report> {
    let mut history = History::begin(cluster, name, plan).await?;
    let report = history.run(Source::Given(&plan.operations)).await;
    history.finish(report).await
}

/// Runs what is chosen by a seed. The plan is what was done.
pub async fn choose(cluster: &Cluster, seed: u64, many: usize, kills: bool, fault: &Plan) -> Result<(Plan, Report)> {
    let mut generator = Generator::new(seed, kills);
    let mut plan = Plan { rules: generator.rules(), ..fault.clone() };
    let mut history = History::begin(cluster, &name(seed), &plan).await?;
    let report = history.run(Source::Chosen(generator, many)).await;
    let report = history.finish(report).await?;
    plan.operations.clone_from(&report.done);
    Ok((plan, report))
}

/// What a history with this seed is called.
pub fn name(seed: u64) -> String {
    format!("h{seed:x}")
}

impl<'c> History<'c> {
    /// Namespaces and rules of its own.
    async fn begin(cluster: &'c Cluster, name: &str, plan: &Plan) -> Result<Self> {
        let (history, epoch) = (name.to_owned(), cluster.epoch.clone());
        let names =
            Names { history, cluster: cluster.identity.clone(), epoch, uids: BTreeMap::new(), omitted: plan.omitted };
        let mut model = Model::new(plan.rules.clone());
        model.without = plan.without;
        let mut this = Self { cluster, names, model, unasked: 0 };
        let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam",
            "metadata": {"name": format!("{name}-owners"), "labels": {OF: name}},
            "spec": {"members": [{"user": User::Carol.name()}, {"user": User::Bob.name()}]}});
        cluster.insist(Call::create(User::Admin, TEAMS, team)).await?;
        for place in 0..PLACES {
            let manifest = namespace_manifest(name, place);
            let made = cluster.insist(Call::create(User::Admin, "/api/v1/namespaces", manifest)).await?;
            this.model.found(place);
            let id = this.model.id(Target::Namespace(place)).context("it was just made")?;
            this.names.uids.insert(id, text(&made["metadata"]["uid"]));
        }
        for rule in this.model.rules.clone() {
            cluster.insist(Call::create(User::Admin, RULES, this.names.rule(&rule))).await?;
        }
        for rule in &this.model.rules {
            cluster.in_force(&rule.full_name(name)).await?;
        }
        for place in 0..PLACES {
            this.is_furnished(place).await?;
        }
        Ok(this)
    }

    /// Kubernetes lets no pod into a namespace before its account is there.
    async fn is_furnished(&self, place: Place) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/default", namespace(&self.names.history, place));
        let began = Instant::now();
        while self.cluster.call(Call::get(&path)).await.is_err() {
            ensure!(began.elapsed() < PATIENCE, "{path} is not there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Until all is done, or one disagrees.
    async fn run(&mut self, mut source: Source<'_>) -> Result<Report> {
        let mut report = Report::default();
        while let Some(operation) = source.next(report.done.len(), &self.model) {
            report.done.push(operation.clone());
            report.disagreement = self.step(&operation, &mut report).await?;
            if report.disagreement.is_some() {
                break;
            }
        }
        Ok(report)
    }

    async fn finish(mut self, report: Result<Report>) -> Result<Report> {
        let mut report = match report {
            Ok(report) => report,
            Err(error) => {
                self.abandon().await;
                return Err(error);
            }
        };
        if report.disagreement.is_none() {
            report.disagreement = self.rest().await?;
        }
        if report.disagreement.is_some() {
            self.abandon().await;
        } else {
            self.end().await?;
        }
        Ok(report)
    }

    async fn step(&mut self, operation: &Operation, report: &mut Report) -> Result<Option<Disagreement>> {
        let outcomes = self.model.outcomes(operation);
        let answer = perform(self.cluster, &self.names, &self.model, operation)
            .await
            .with_context(|| format!("{operation:?}"))?;
        report.again += u64::from(answer.again);
        let disagreement = |words: String| Disagreement {
            row: operation.row(),
            expected: outcomes.iter().filter(|one| one.race.is_none()).map(|one| one.verdict.clone()).collect(),
            answered: answer.verdict.clone(),
            words,
        };
        let mut chosen = None;
        for outcome in outcomes.iter().filter(|outcome| Some(&outcome.verdict) == answer.verdict.as_ref()) {
            if self.may_be(outcome).await? {
                chosen = Some(outcome);
                break;
            }
        }
        let Some(chosen) = chosen else { return Ok(Some(disagreement(answer.words.clone()))) };
        self.model = chosen.after.clone();
        if let Some(race) = chosen.race {
            *report.races.entry(race).or_default() += 1;
        }
        if let Some(uid) = &answer.uid {
            self.learn(operation, uid);
        }
        *report.answers.entry((operation.row(), column(&chosen.verdict))).or_default() += 1;
        self.settle(operation).await?;
        let wrong = self.compare().await?;
        Ok((!wrong.is_empty()).then(|| disagreement(wrong.join("; "))))
    }

    /// Whether a race may have been lost.
    async fn may_be(&mut self, outcome: &Outcome) -> Result<bool> {
        if outcome.race != Some(Race::Away) {
            return Ok(true);
        }
        let unasked = self.let_pass_unasked().await?;
        let more = unasked > self.unasked;
        self.unasked = unasked;
        Ok(more)
    }

    async fn let_pass_unasked(&self) -> Result<u64> {
        let mut all = self.cluster.let_pass_unasked("returns.tagout.dev").await?;
        for rule in &self.model.rules {
            let entry = format!("return.{}.tagout.dev", rule.full_name(&self.names.history));
            all += self.cluster.let_pass_unasked(&entry).await?;
        }
        Ok(all)
    }

    /// Of all that is there, only the UID of what was made is learnt.
    fn learn(&mut self, operation: &Operation, uid: &str) {
        let target = match operation {
            Operation::Create { key, .. } => Target::Object(*key),
            Operation::CreateNamespace { place, .. } => Target::Namespace(*place),
            _ => return,
        };
        if let Some(id) = self.model.id(target) {
            self.names.uids.insert(id, uid.to_owned());
        }
    }

    /// What others hear of by watches of their own.
    async fn settle(&self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Select { .. } => tokio::time::sleep(Duration::from_millis(300)).await,
            Operation::CreateNamespace { place, .. }
                if self.model.namespaces.get(place).is_some_and(|namespace| !namespace.going) =>
            {
                self.is_furnished(*place).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What is wrong, once controllers have had their time.
    async fn compare(&mut self) -> Result<Vec<String>> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            let Difference { wrong, pending, lost } =
                live(self.cluster, &self.names.history).await?.differs(&self.model, &self.names);
            if !wrong.is_empty() {
                return Ok(wrong);
            }
            let again = !lost.is_empty();
            for key in lost {
                self.model.lose(key);
            }
            if again {
                continue;
            }
            if pending.is_empty() {
                return books_differ(self.cluster, &self.model, &self.names).await;
            }
            if began.elapsed() > PATIENCE {
                return Ok(pending);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Waits for the garbage collector, and compares again.
    async fn rest(&mut self) -> Result<Option<Disagreement>> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let wrong = self.compare().await?;
        Ok((!wrong.is_empty()).then(|| Disagreement {
            row: "rest",
            expected: Vec::new(),
            answered: None,
            words: wrong.join("; "),
        }))
    }

    /// What is left of one that disagreed.
    async fn abandon(mut self) {
        // Whatever became of it: others go on.
        self.model.without = None;
        let _ = self.end().await;
    }

    /// Removes what it made, by approval: rules first, which is refused before it is approved.
    async fn end(self) -> Result<()> {
        for rule in &self.model.rules {
            let name = rule.full_name(&self.names.history);
            let path = format!("{RULES}/{name}");
            if rule.enforces {
                let refused = self.cluster.insist(Call::delete(User::Agent, &path)).await;
                ensure!(
                    matches!(&refused, Err(kube::Error::Api(status)) if status.message.contains("denied Loosen")),
                    "a rule was deleted without approval: {refused:?}"
                );
                for (team, _) in &rule.require {
                    for person in [User::Alice, User::Bob, User::Carol].into_iter().filter(|person| team.has(*person)) {
                        self.cluster.permit(person, &team.name(&self.names.history), &name, "deleted").await?;
                    }
                }
            }
            self.cluster.insist(Call::delete(User::Agent, &path)).await.context("an approved deletion of a rule")?;
        }
        self.sweep().await
    }

    /// What no rule keeps any more.
    async fn sweep(&self) -> Result<()> {
        // Replicas and the API server hear of it by watches of their own.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (key, object) in &self.model.objects {
            if object.hold {
                let patch = json!({"metadata": {"finalizers": null}});
                let path = target_path(&self.names.history, Target::Object(*key));
                let _ = self.cluster.insist(Call::patch(User::Admin, path, patch)).await;
            }
        }
        for place in 0..PLACES {
            let path = format!("/api/v1/namespaces/{}", namespace(&self.names.history, place));
            let _ = self.cluster.insist(Call::delete(User::Agent, path)).await;
        }
        let own = format!("?labelSelector={OF}%3D{}", self.names.history);
        for path in [TEAMS, "/apis/tagout.dev/v1alpha1/approvals"] {
            self.cluster.insist(Call::delete(User::Admin, path.to_owned() + &own)).await?;
        }
        Ok(())
    }
}

/// The column of the report in which an answer is counted.
fn column(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passes => "passed",
        Verdict::Denied(..) | Verdict::NotAccepted => "refused",
        _ => "nothing to decide",
    }
}
