//! `kubectl tagout approve`: a person says that one action on one object may happen, before a time.

pub(super) mod case;
mod object;
mod question;
pub(super) mod statements;
mod write;

use std::io::{BufRead, IsTerminal, stdin};

use anyhow::{bail, ensure};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use jiff::SignedDuration;

use self::case::Case;
use self::object::LiveObject;
use self::question::Question;
use super::connection::Cluster;
use super::kinds::Kinds;
use super::words::{moment, people, say};
use super::{Arguments, cluster};
use crate::api::{Action, Mode, Statement};

/// Approve one action on one object, for a short time
///
/// Shows the object, the rules that cover it and what you are about to sign, and asks. The approval is written on the
/// object in your name; it is good for this very object (its UID), and for nothing that is made anew under its name.
#[derive(Args, Debug)]
#[command(override_usage = "kubectl tagout approve (KIND/NAME | KIND NAME) [OPTIONS]")]
pub struct Options {
    /// The object: KIND/NAME, or KIND and NAME; kinds as kubectl knows them (deploy, deployments.apps, Deployment)
    #[arg(required = true, num_args = 1..=2, value_names = ["KIND/NAME", "NAME"])]
    object: Vec<String>,
    /// What may happen to it
    #[arg(long, value_name = "ACTION", default_value = "Delete", value_parser = action, ignore_case = true)]
    action: Action,
    /// For how long, like 15m or 1h; default: as long as every rule that enforces allows
    #[arg(long = "for", value_name = "DURATION", value_parser = life)]
    life: Option<SignedDuration>,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The only user who may act on it; default: anyone
    #[arg(long, value_name = "USER")]
    requester: Option<String>,
    /// The team in whose name you approve; default: the first that a rule asks for and you are in
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(options: Options, at: &Cluster) -> anyhow::Result<()> {
    let (kind, name) = target(&options.object).unwrap_or_else(|words| misused(words));
    let client = &at.client;
    let (kinds, protection, caller, now) = tokio::try_join!(
        async { Kinds::discover(client).await.map_err(cluster::plain) },
        cluster::protection(client),
        cluster::caller(client),
        cluster::now(client)
    )?;
    let kind = kinds.find(kind).map_err(anyhow::Error::msg)?.clone();
    let object = LiveObject::read(at, kind, name).await?;
    ensure!(!object.is_terminating(), "{object} is already being deleted; there is nothing to approve");
    let namespace = object::namespace(client, &object).await?;

    let case = Case { action: options.action, object: &object, rules: &protection.rules, namespace, now };
    let kept = statements::kept(object.annotation(), object.is_presenting(), object.uid(), now);
    let covering = case.covering()?;
    let team = case.team(&caller, options.team.as_deref(), &kept)?;
    let life = case.life(&covering, options.life)?;
    case::check_requester(&covering, &caller, options.requester.as_deref())?;
    ensure!(
        !protection.rules.cluster.is_empty(),
        "no rule's status names the cluster, which an approval must name: is Tagout running? See kubectl tagout status"
    );

    let mut statement = Statement {
        action: options.action,
        uid: object.uid().to_owned(),
        resource: object.kind.name(),
        namespace: object.namespace().to_owned(),
        name: object.name().to_owned(),
        cluster: protection.rules.cluster.clone(),
        approver: caller.name,
        team,
        requester: options.requester,
        reason: options.reason,
        approved_at: now,
        expires: now + life,
    };
    say(&Question { case: &case, statement: &statement, kept: &kept }.to_string())?;
    confirm(options.yes)?;

    // A person may have read for a while: dated by the answer, and good until the time that was shown.
    statement.approved_at = cluster::now(client).await?;
    ensure!(
        statement.expires > statement.approved_at,
        "the time that was to be approved is over; nothing was written, approve again"
    );
    let written = write::approve(&at.client, &object, &statement).await?;
    say(&outcome(&case, &statement, &written))
}

/// What holds now, and what is still missing.
fn outcome(case: &Case, statement: &Statement, written: &[Statement]) -> String {
    let until = moment(statement.expires, statement.approved_at);
    let mut lines = vec![format!("approved until {until}: {} of {}\n", statement.action.as_str(), case.object)];
    let requester = statement.requester.as_deref().or_else(|| written.iter().find_map(|one| one.requester.as_deref()));
    for unmet in case.decide(written, requester).unmet.iter().filter(|unmet| unmet.mode == Mode::Enforce) {
        lines.push(format!("still missing: {} ({})\n", people(&unmet.missing), question::rules(&unmet.rules)));
    }
    lines.concat()
}

fn confirm(yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    ensure!(stdin().is_terminal(), "nobody can be asked here: there is no terminal; look at it above and add --yes");
    say("Approve? [y/N] ")?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        bail!("not approved; nothing was written");
    }
    Ok(())
}

fn target(words: &[String]) -> Result<(&str, &str), String> {
    let named = match words {
        [both] => both.split_once('/').ok_or_else(|| format!("name the object too, like {both}/NAME"))?,
        [kind, name] if kind.contains('/') || name.contains('/') => {
            return Err("approve one object at a time: each is looked at by itself".to_owned());
        }
        [kind, name] => (kind.as_str(), name.as_str()),
        _ => return Err("name one object, like deployment/NAME".to_owned()),
    };
    if named.0.is_empty() || named.1.is_empty() || named.1.contains('/') {
        return Err("name the object as KIND/NAME, like deployment/api".to_owned());
    }
    Ok(named)
}

/// As clap itself answers wrong usage.
fn misused(words: String) -> ! {
    let mut command = Arguments::command();
    command.build();
    let approve = command.find_subcommand("approve").cloned();
    approve.unwrap_or(command).error(ErrorKind::ValueValidation, words).exit()
}

fn action(text: &str) -> Result<Action, String> {
    let known = [Action::Delete];
    let found = known.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("the actions are: {}", known.map(Action::as_str).join(", ")))
}

fn life(text: &str) -> Result<SignedDuration, String> {
    let duration = text.parse::<SignedDuration>().map_err(|_| "write a duration like 15m, 2h or 1h30m".to_owned())?;
    if duration < SignedDuration::from_secs(1) {
        return Err("an approval is good for at least one second".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<(String, String), String> {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        target(&words).map(|(kind, name)| (kind.to_owned(), name.to_owned()))
    }

    #[test]
    fn an_object_is_named_by_one_word_or_two() {
        let api = Ok(("deploy".to_owned(), "api".to_owned()));
        assert_eq!(read(&["deploy/api"]), api);
        assert_eq!(read(&["deploy", "api"]), api);
    }

    #[test]
    fn a_kind_alone_and_several_objects_are_answered_with_what_to_type() {
        assert!(read(&["deploy"]).unwrap_err().contains("deploy/NAME"));
        assert!(read(&["deploy/api", "deploy/web"]).unwrap_err().contains("one object at a time"));
        assert!(read(&["deploy/"]).is_err());
        assert!(read(&["deploy/api/status"]).is_err());
    }

    #[test]
    fn a_life_is_a_positive_duration() {
        assert_eq!(life("1h30m"), Ok(SignedDuration::from_mins(90)));
        for bad in ["", "0s", "-5m", "soon", "30", "99999999999999999999h", "1ns"] {
            assert!(life(bad).is_err(), "{bad}");
        }
    }
}
