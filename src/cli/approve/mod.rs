//! `kubectl tagout approve`: a person says that one action on one object may happen, before a time.

pub(super) mod change;
mod draft;
mod question;
mod sign;
mod write;

use std::io::{BufRead, IsTerminal, Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use jiff::SignedDuration;
use serde::Serialize;

use self::draft::{Draft, Drafted, Matters};
use self::question::Question;
use self::write::{NotWritten, Written};
use super::barriers::{barriers, is_frozen};
use super::case::ACTIONS;
use super::cluster;
use super::cluster::Setting;
use super::connection::{Cluster, Connection};
use super::object::GUARD;
use super::output::{Format, Named, print};
use super::said::{Place, Said};
use super::statements::with;
use super::target::{Target, misused, targets};
use super::words::{Voice, moment, people, printable, say};
use crate::api::{APPROVAL, Action, Mode, Statement};
use crate::entries::SHARED;

pub use self::question::describe;
#[cfg(test)]
pub use self::sign::tests::signed as signed_for_tests;
pub use self::write::{ATTEMPTS, annotation, manager, may_not};

/// Approve one action on one object, or on several, for a short time
///
/// Shows the object, the rules that cover it and what you are about to say, and asks. The approval is written on the
/// object in your name; it is good for this very object (its UID), and for nothing that is made anew under its name.
///
/// Naming a rule, a team or one of Tagout's definitions approves its deletion, and -f a change of it.
#[derive(Args, Debug)]
#[command(
    override_usage = "kubectl tagout approve (KIND/NAME... | KIND NAME... | ID) [OPTIONS]\n       \
                      kubectl tagout approve -f FILE [OPTIONS]",
    after_help = "Examples:\n  \
        kubectl tagout approve deploy/api -n payments --reason OPS-1234\n  \
        kubectl tagout approve to-3f9a2c41                      # the request of a refusal\n  \
        kubectl tagout approve deploy/api sts/db -n payments    # one reading, one answer\n  \
        kubectl tagout approve ns/payments --contents           # what is in it, not itself\n  \
        kubectl tagout approve deploy/api --action=ScaleToZero  # as its refusal says\n  \
        kubectl tagout approve deploy/api --action=Recreate     # it was destroyed, and may return\n  \
        kubectl tagout approve deploy/api -n payments --print > api.json\n  \
        kubectl tagout approve -f rule.yaml                     # a change that makes a rule weaker"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Options {
    /// The objects: KIND/NAME..., or KIND NAME..., kinds as kubectl knows them (deploy, deployments.apps, Deployment);
    /// or the id of a request that was refused, like to-3f9a2c41
    #[arg(required_unless_present = "filename", conflicts_with = "filename", value_name = "KIND/NAME")]
    objects: Vec<String>,
    /// A file of rules and teams as they are to be (- is standard input): approves that they become weaker
    #[arg(short, long, value_name = "FILE")]
    filename: Option<PathBuf>,
    /// Of a rule, team or definition: the hash of the new spec, as the refusal of the change names it
    #[arg(long, value_name = "HASH")]
    new_spec: Option<String>,
    /// What may happen to it, as its refusal names it, like `ScaleToZero`; default: Delete, and Loosen for rules and
    /// teams. Recreate lets what was destroyed return under its name
    #[arg(long, value_name = "ACTION", value_parser = action, conflicts_with = "filename")]
    action: Option<Action>,
    /// Of a Namespace: what is in it, and not the namespace itself; with --action=Recreate, what was destroyed in it
    #[arg(long, conflicts_with_all = ["filename", "new_spec"])]
    contents: bool,
    /// Of a deletion: for good. Without this, what is deleted may also be made anew under its name
    #[arg(long, conflicts_with_all = ["filename", "new_spec"])]
    delete_only: bool,
    /// For how long, like 15m or 1h; default: as long as every rule that enforces allows
    #[arg(long = "for", value_name = "DURATION", value_parser = life)]
    life: Option<SignedDuration>,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The only user who may act on it; default: anyone, or whoever made the request with the ID
    #[arg(long, value_name = "USER")]
    requester: Option<String>,
    /// The team in whose name you approve; default: the first that a rule asks for and you are in
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// An emergency: pass the rules alone, for a team that they name for it; everybody is told
    #[arg(long, requires = "reason")]
    break_glass: bool,
    /// Sign it with an SSH key: the one in this file, or the best one that the team lists for you and is at hand. Is
    /// done without asking where a rule wants a signature
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    sign: Option<String>,
    /// Sign it and print what the annotation tagout.dev/approval has to say; write nothing
    #[arg(long, conflicts_with_all = ["detached", "output"])]
    print: bool,
    /// Write an Approval beside the object, not on it. Is done without asking where you may not write to the object
    #[arg(long)]
    detached: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Print what was written
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// What was written, for programs.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Report {
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    uid: String,
    /// The Approval beside the object; absent: it is written on the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<String>,
    hash: String,
    statement: Statement,
}

pub async fn run(options: Options, connection: &Connection) -> anyhow::Result<()> {
    let matters = options.matters()?;
    let at = &connection.open().await?;
    let voice = if options.print || options.output.is_some() { Voice::Error } else { Voice::Out };
    let setting = Setting::read(&at.client).await?;
    let (mut asked, mut drafts) = (matters.len(), Vec::new());
    for matter in matters {
        match matter.draft(at, &setting, &options).await {
            Ok(Drafted::Draft(draft)) => drafts.push(*draft),
            Ok(Drafted::Free(words)) => {
                asked -= 1;
                voice.say(&printable(&words))?;
                voice.say("\n")?;
            }
            Err(error) if asked == 1 => return Err(error),
            Err(error) => eprintln!("error: {error:#}"),
        }
    }
    if asked == 0 {
        return Ok(());
    }
    ensure!(!drafts.is_empty(), "none of that can be approved; see above");
    match drafts.as_slice() {
        [one] => voice.say(&Question(one).to_string())?,
        several => voice.say(&question::several(several))?,
    }
    confirm(options.yes, voice, drafts.len())?;

    // A person may have read for a while: dated by the answer, and good until the time that was shown. What is signed
    // says when it was shown.
    let answered = cluster::now(&at.client).await?;
    let mut written = Vec::new();
    let mut failed = asked - drafts.len();
    for mut draft in drafts {
        match give(&mut draft, answered, &options, voice, at).await {
            Ok(report) => written.push(report),
            Err(error) if asked == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                eprintln!("error: {}: {error:#}", draft.case.object);
            }
        }
    }
    if let Some(format) = options.output {
        print(&written, format)?;
    }
    ensure!(failed == 0, "{failed} of {asked} were not approved; see above");
    Ok(())
}

async fn give(
    draft: &mut Draft<'_>,
    answered: jiff::Timestamp,
    options: &Options,
    voice: Voice,
    at: &Cluster,
) -> anyhow::Result<Report> {
    if draft.signer.is_none() {
        draft.statement.approved_at = answered;
    }
    draft.case.now = answered;
    ensure!(
        draft.statement.expires > answered,
        "the time that was to be approved is over; nothing was written, approve again"
    );
    draft.sign()?;
    let written = if options.print { printed(draft)? } else { write(draft, voice, at).await? };
    if !options.print {
        voice.say(&outcome(draft, &written))?;
    }
    let Draft { case, statement, .. } = &*draft;
    Ok(Report {
        resource: case.object.kind.name(),
        namespace: case.object.namespace().to_owned(),
        name: case.object.name().to_owned(),
        uid: case.object.uid().to_owned(),
        approval: (written.place == Place::Approval).then(|| statement.approval_name()),
        hash: statement.hash()?,
        statement: statement.clone(),
    })
}

async fn write(draft: &Draft<'_>, voice: Voice, at: &Cluster) -> anyhow::Result<Written> {
    let Draft { case, statement, place, .. } = draft;
    if *place == Place::Approval {
        return write::beside(&at.client, &case.object, statement).await;
    }
    match write::on_object(&at.client, &case.object, statement).await {
        Ok(written) => Ok(written),
        Err(NotWritten::MayNot(words)) => {
            let name = statement.approval_name();
            voice.say(&printable(&format!("{words}: written beside it instead, as Approval {name}")))?;
            voice.say("\n")?;
            write::beside(&at.client, &case.object, statement).await
        }
        Err(NotWritten::Other(error)) => Err(error),
    }
}

/// What whoever asked can put on the object, or into the file of the change.
fn printed(draft: &Draft) -> anyhow::Result<Written> {
    let Draft { case, statement, .. } = draft;
    // Whoever puts it there cannot speak for those who did not sign.
    let signed = |said: &&Said| said.place == Place::Object && said.statement.signature.is_some();
    let there = case.said.iter().filter(signed).map(|said| said.statement.clone());
    let statements = with(there.collect(), statement.clone());
    say(&format!("{}\n", annotation(&statements)?))?;
    if statement.action == Action::Loosen {
        eprintln!(
            "It counts where the change itself carries it: in metadata of the file, the label {APPROVAL}: \"true\" and \
             the annotation {APPROVAL}, with what was printed."
        );
    }
    if case.object.exists() {
        let words = case.object.words();
        let overwrite = if case.object.annotation().is_some() { " --overwrite" } else { "" };
        eprintln!(
            "It counts once it is on the object, whoever writes it there:\n  \
             kubectl annotate {words}{overwrite} {APPROVAL}=\"$(cat FILE)\"\n  \
             kubectl label {words} --overwrite {APPROVAL}=true"
        );
    }
    Ok(Written { place: Place::Object, statements })
}

/// What holds now, and what is still missing.
fn outcome(draft: &Draft, written: &Written) -> String {
    let Draft { case, statement, .. } = draft;
    let until = moment(statement.expires, case.now);
    let action = question::action(statement);
    let what = case.matter.of_what();
    let mut lines = vec![format!("approved until {until}: {action} of {what}{}\n", case.object)];
    let mut said: Vec<Said> = case.said.iter().filter(|said| said.place != written.place).cloned().collect();
    said.extend(written.statements.iter().map(|statement| Said { place: written.place, statement: statement.clone() }));
    let requester =
        statement.requester.as_deref().or_else(|| said.iter().find_map(|one| one.statement.requester.as_deref()));
    let decision = case.decide(&said, requester);
    for unmet in decision.unmet.iter().filter(|unmet| unmet.mode == Mode::Enforce) {
        lines.push(format!("still missing: {} ({})\n", people(&unmet.missing), question::rules(&unmet.rules)));
    }
    for rule in decision.rules.iter().filter(|rule| rule.mode == Mode::Enforce && is_frozen(&decision, rule)) {
        let words = barriers(case, &decision, rule, requester);
        lines.push(printable(&format!("it stays for now: rule {} is {}", rule.name, words.join("; "))) + "\n");
    }
    lines.concat()
}

fn confirm(yes: bool, voice: Voice, many: usize) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    ensure!(stdin().is_terminal(), "nobody can be asked here: there is no terminal; look at it above and add --yes");
    voice.say(&if many == 1 { "Approve? [y/N] ".to_owned() } else { format!("Approve all {many}? [y/N] ") })?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        bail!("not approved; nothing was written");
    }
    Ok(())
}

impl Options {
    /// What unlocks Tagout itself, as an approval.
    pub fn unlocking(wanted: super::unlock::Options) -> Self {
        Self {
            objects: vec![format!("{GUARD}/{SHARED}")],
            filename: None,
            new_spec: None,
            action: Some(Action::Unlock),
            contents: false,
            delete_only: false,
            life: Some(wanted.life),
            reason: wanted.reason,
            requester: wanted.requester,
            team: wanted.team,
            break_glass: wanted.break_glass,
            sign: wanted.sign,
            print: false,
            // Whoever may approve need not be one of those who may change it.
            detached: true,
            yes: wanted.yes,
            output: None,
        }
    }

    fn matters(&self) -> anyhow::Result<Vec<Matters>> {
        if let Some(file) = &self.filename {
            let manifests = change::read(&file_or_input(file)?).with_context(|| file.display().to_string())?;
            let many = manifests.len() > 1 && (self.print || self.new_spec.is_some());
            ensure!(!many, "--print and --new-spec are about one change, and {} holds several", file.display());
            return Ok(manifests.into_iter().map(Matters::Manifest).collect());
        }
        let targets: Vec<Target> = targets(&self.objects).unwrap_or_else(|words| misused("approve", words));
        if targets.len() > 1 && (self.print || self.new_spec.is_some()) {
            misused("approve", "--print and --new-spec are about one object at a time".to_owned());
        }
        Ok(targets.into_iter().map(Matters::Target).collect())
    }
}

impl Named for Report {
    fn name(&self) -> String {
        match &self.approval {
            Some(approval) => format!("approval.tagout.dev/{approval}"),
            None => format!("{}/{}", self.resource, self.name),
        }
    }
}

pub fn file_or_input(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        stdin().lock().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// As it is spelled, or in the way of flags: `scale-to-zero`.
pub fn action(text: &str) -> Result<Action, String> {
    let plain = text.replace('-', "");
    let found = ACTIONS.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(&plain));
    found.ok_or_else(|| format!("the actions are: {}", ACTIONS.map(Action::as_str).join(", ")))
}

pub fn life(text: &str) -> Result<SignedDuration, String> {
    let duration = text.parse::<SignedDuration>().map_err(|_| "write a duration like 15m, 2h or 1h30m".to_owned())?;
    if duration < SignedDuration::from_secs(1) {
        return Err("an approval is good for at least one second".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_named_as_rules_spell_it_or_as_flags_are() {
        for (text, read) in [
            ("Delete", Action::Delete),
            ("ScaleToZero", Action::ScaleToZero),
            ("scale-to-zero", Action::ScaleToZero),
            ("discarddata", Action::DiscardData),
        ] {
            assert_eq!(action(text), Ok(read), "{text}");
        }
        assert!(action("scale").unwrap_err().contains("ScaleToZero, Evict"));
        assert!(action("").is_err());
    }

    #[test]
    fn a_life_is_a_positive_duration() {
        assert_eq!(life("1h30m"), Ok(SignedDuration::from_mins(90)));
        for bad in ["", "0s", "-5m", "soon", "30", "99999999999999999999h", "1ns"] {
            assert!(life(bad).is_err(), "{bad}");
        }
    }
}
