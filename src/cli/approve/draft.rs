use std::path::Path;

use anyhow::{anyhow, bail, ensure};

use super::Options;
use super::change::{self, Manifest, Proposed};
use super::sign::{Asked, Signer};
use crate::api::{Action, DELETED, Mode, Proof, Statement};
use crate::cli::approver::Wanted;
use crate::cli::case::{Case, Matter};
use crate::cli::cluster::Setting;
use crate::cli::connection::Cluster;
use crate::cli::gone::Gone;
use crate::cli::object::LiveObject;
use crate::cli::requests;
use crate::cli::said::{Found, Place, Said};
use crate::cli::target::Target;
use crate::guard::Flaw;

/// An approval that nobody has given yet.
pub struct Draft<'a> {
    pub case: Case<'a>,
    pub statement: Statement,
    pub signer: Option<Signer>,
    /// Where it is to be written.
    pub place: Place,
    /// What a person has to know besides.
    pub notes: Vec<String>,
}

/// What became of it.
pub enum Drafted<'a> {
    Draft(Box<Draft<'a>>),
    /// A file may hold changes that need no approval.
    Free(String),
}

/// What is to be approved: named on the command line, or in a file.
pub enum Matters {
    Target(Target),
    Manifest(Manifest),
}

impl Matters {
    pub async fn draft<'a>(self, at: &Cluster, setting: &'a Setting, options: &Options) -> anyhow::Result<Drafted<'a>> {
        let mut requester = options.requester.clone();
        let (object, matter, notes) = match self {
            Self::Manifest(manifest) => {
                let Proposed { object, matter, notes } = manifest.proposed(at, setting).await?;
                if let (Some(wanted), Some(own)) = (options.new_spec.as_deref(), matter.new_spec()) {
                    ensure!(wanted == own, "the file is another change than --new-spec names: its hash is {own}");
                }
                if let Some(words) = free(&object, &matter) {
                    return Ok(Drafted::Free(words));
                }
                (object, matter, notes)
            }
            Self::Target(Target::Named { kind, name }) => {
                let kind = setting.kinds.find(&kind).map_err(anyhow::Error::msg)?.clone();
                let returns = options.action == Some(Action::Recreate) && !options.contents;
                if returns && !change::is_guarded(&kind, &name) {
                    returning(Gone::find(&at.client, &kind, &at.namespace, &name).await?, options)?
                } else {
                    let object = LiveObject::read(&at.client, kind, &at.namespace, &name).await?;
                    named(object, options.action, options.new_spec.as_deref(), options, setting)?
                }
            }
            Self::Target(Target::Request(id)) => {
                let asked = requests::find(at, &id).await?;
                ensure!(
                    options.action.is_none_or(|action| action == asked.action),
                    "request {id} is about {}; leave --action out",
                    asked.action.as_str()
                );
                let (object, matter, more) = if asked.action == Action::Recreate {
                    returning(asked.gone(at, setting).await?, options)?
                } else {
                    let object = asked.live(at, setting).await?;
                    ensure!(
                        asked.new_spec.as_deref().is_none_or(|spec| spec == DELETED) || options.new_spec.is_some(),
                        "request {id} is about a change of {object}, of which only a hash is known here; look at the \
                         change itself: kubectl tagout approve -f FILE"
                    );
                    named(object, Some(asked.action), asked.new_spec.as_deref(), options, setting)?
                };
                let mut notes = vec![format!(
                    "request {id} was by {}, according to an Event, which anyone can write",
                    asked.requester
                )];
                if requester.is_none() {
                    notes.push("it is approved for that requester only; --requester names another".to_owned());
                    requester = Some(asked.requester);
                }
                notes.extend(more);
                (object, matter, notes)
            }
        };
        let draft = draft(at, setting, options, requester, object, matter, notes).await?;
        Ok(Drafted::Draft(Box::new(draft)))
    }
}

/// Why a change needs no approval, if so.
fn free(object: &LiveObject, matter: &Matter) -> Option<String> {
    let Matter::Change(weighed) = matter else { return None };
    if weighed.loosened.is_empty() {
        return Some(format!("nothing to approve: {object} becomes weaker nowhere by this change, and that is free"));
    }
    weighed.needed.is_empty().then(|| {
        format!(
            "nothing to approve: no rule that somebody can meet depends on {object} yet; until then whoever has the \
             right may change it"
        )
    })
}

fn named(
    object: LiveObject,
    action: Option<Action>,
    new_spec: Option<&str>,
    options: &Options,
    setting: &Setting,
) -> anyhow::Result<(LiveObject, Matter, Vec<String>)> {
    let guarded = change::is_guarded(&object.kind, object.name());
    check_action(action, guarded, &object)?;
    if guarded {
        check_delete_only(options, Action::Loosen)?;
        ensure!(!options.contents, "--contents is about Namespaces, and {object} is none");
        let Proposed { object, matter, notes } = change::without_file(object, new_spec, setting)?;
        return Ok((object, matter, notes));
    }
    ensure!(new_spec.is_none(), "--new-spec is about rules, teams and Tagout's definitions, and {object} is none");
    let action = action.unwrap_or(Action::Delete);
    check_delete_only(options, action)?;
    ensure!(!object.is_terminating(), "{object} is already being deleted; there is nothing to approve");
    if !options.contents {
        return Ok((object, Matter::Action(action), Vec::new()));
    }
    ensure!(object.kind.is_namespace(), "--contents is about Namespaces, and {object} is none");
    ensure!(
        matches!(action, Action::Delete | Action::Recreate),
        "--contents approves that what is in a Namespace is deleted, or that what was destroyed in it returns; for {} name \
         the objects",
        action.as_str()
    );
    Ok((object, Matter::Contents(action), Vec::new()))
}

/// What was destroyed, and is to be let return.
fn returning(gone: Gone, options: &Options) -> anyhow::Result<(LiveObject, Matter, Vec<String>)> {
    let Gone { object, deletion } = gone;
    check_delete_only(options, Action::Recreate)?;
    ensure!(
        !options.print,
        "--print is for what is written on the object itself, and {object} is gone; leave it out, and the approval is \
         written beside it"
    );
    ensure!(!options.contents, "--contents is about Namespaces that are there, and {object} is gone");
    ensure!(
        options.new_spec.is_none(),
        "--new-spec is about rules, teams and Tagout's definitions, and {object} is none"
    );
    // Nobody keeps what is in an object that is gone.
    let note = "whatever is made under its name may be something else: what was in it, nobody wrote down";
    Ok((object, Matter::Return(Box::new(deletion)), vec![note.to_owned()]))
}

fn check_delete_only(options: &Options, action: Action) -> anyhow::Result<()> {
    ensure!(
        !options.delete_only || action == Action::Delete,
        "--delete-only is about deletions, and this approves {}; leave it out",
        action.as_str()
    );
    Ok(())
}

/// Whether such an object can be approved for the action that was named.
fn check_action(action: Option<Action>, guarded: bool, object: &LiveObject) -> anyhow::Result<()> {
    match action {
        Some(Action::Loosen) if !guarded => {
            bail!("Loosen is about rules, teams and Tagout's definitions, and {object} is none")
        }
        Some(action) if guarded && action != Action::Loosen => {
            bail!(
                "whatever changes or deletes {object} weakens what protects: its action is Loosen; leave --action out"
            )
        }
        _ => Ok(()),
    }
}

async fn draft<'a>(
    at: &Cluster,
    setting: &'a Setting,
    options: &Options,
    requester: Option<String>,
    object: LiveObject,
    matter: Matter,
    mut notes: Vec<String>,
) -> anyhow::Result<Draft<'a>> {
    let now = setting.now;
    let mut case = Case::read(at, setting, object, matter).await?;
    let found = Found::all(&at.client, &case.object, case.place(), case.matter.action()).await;
    notes.extend(found.unknown.iter().cloned());
    case.said = found.open(&case.object, case.place(), now).said;
    notes.extend(case.unseen());

    let covering = case.covering()?;
    let sign = options.sign.is_some() || options.print;
    let wanted = Wanted {
        team: options.team.as_deref(),
        break_glass: options.break_glass,
        proof: if sign { Proof::Signature } else { Proof::Identity },
    };
    let team = case.team(&wanted)?;
    let life = case.life(&covering, options.life)?;
    case.check_requester(&covering, requester.as_deref())?;
    ensure!(
        !setting.rules().cluster.is_empty(),
        "no rule's status names the cluster, which an approval must name: is Tagout running? See kubectl tagout status"
    );

    let proof = case.proof(&team);
    let signer = if sign || proof > Proof::Identity {
        if !sign {
            notes.push(format!("it is signed: a rule that covers it asks team {team} for proof {}", proof.as_str()));
        }
        let path = options.sign.as_deref().filter(|path| !path.is_empty()).map(Path::new);
        Some(Signer::choose(path, asked(setting, &team, proof)?)?)
    } else {
        None
    };
    let statement = Statement {
        action: case.matter.action(),
        uid: case.object.uid().to_owned(),
        resource: case.object.kind.name(),
        namespace: case.object.namespace().to_owned(),
        name: case.object.name().to_owned(),
        cluster: setting.rules().cluster.clone(),
        epoch: setting.protection.epoch.clone().filter(|_| signer.is_none()),
        approver: setting.caller.name.clone(),
        team,
        requester,
        reason: options.reason.clone(),
        protects: case.decide(&[], None).protects,
        new_spec: case.matter.new_spec().map(str::to_owned),
        approved_at: now,
        expires: now + life,
        break_glass: options.break_glass,
        delete_only: options.delete_only,
        scope: case.matter.scope(),
        signature: None,
    };
    statement.text().map_err(|error| anyhow!("this approval cannot be given: {error}"))?;
    let is_gone = !case.object.exists() || matches!(case.matter, Matter::Return(_));
    let place = if options.detached || is_gone { Place::Approval } else { Place::Object };
    let draft = Draft { case, statement, signer, place, notes };
    if draft.signer.is_none() {
        draft.counts()?;
    }
    Ok(draft)
}

impl Draft<'_> {
    /// Signs it, and makes sure that the signature is worth what the rules ask.
    pub fn sign(&mut self) -> anyhow::Result<()> {
        let Some(signer) = &self.signer else { return Ok(()) };
        let text = self.statement.text()?;
        let proof = self.case.proof(&self.statement.team);
        if signer.may_be_hardware() {
            let (action, object) = (self.statement.action.as_str(), &self.case.object);
            eprintln!("To approve {action} of {object}, touch the hardware key when it blinks.");
        }
        let signature = signer.sign(&text)?;
        asked(self.case.setting, &self.statement.team, proof)?.verify(&signature, &text)?;
        self.statement.signature = Some(signature);
        self.counts()
    }

    /// Whether it will count for the rules that ask this team and refuse.
    fn counts(&self) -> anyhow::Result<()> {
        let said = Said { place: self.place, statement: self.statement.clone() };
        let asking = self.case.covering()?.into_iter().filter(|rule| {
            let mut teams = if said.statement.break_glass { rule.break_glass.iter() } else { [].iter() }
                .chain(rule.require.iter().flat_map(|entry| &entry.any_of));
            rule.mode == Mode::Enforce && teams.any(|team| *team == said.statement.team)
        });
        let mut worthless = None;
        let mut counts = false;
        for rule in asking {
            match self.case.flaw(&said, rule, None) {
                None => counts = true,
                // What the key did not do, another rule's content does not make up for.
                Some(flaw @ Flaw::NotVerified(_)) => bail!(
                    "this approval would not count: {flaw}; a key made with ssh-keygen -t ed25519-sk -O verify-required \
                     does. Nothing was written"
                ),
                Some(flaw @ (Flaw::NotPresent | Flaw::NotHardware(_))) => {
                    bail!("this approval would not count: {flaw}; nothing was written")
                }
                Some(flaw) => worthless = worthless.or(Some(flaw)),
            }
        }
        match worthless {
            // One rule that counts it is enough: others may ask other people.
            Some(flaw) if !counts => bail!("this approval would not count: {flaw}; nothing was written"),
            _ => Ok(()),
        }
    }
}

fn asked<'a>(setting: &'a Setting, team: &'a str, proof: Proof) -> anyhow::Result<Asked<'a>> {
    let listed = setting.rules().teams.get(team).ok_or_else(|| anyhow!("there is no team {team} any more"))?;
    Ok(Asked { user: &setting.caller.name, team, listed, proof, now: setting.now })
}
