//! Signing with `ssh-keygen`, which knows hardware keys, agents, PINs and passphrases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail, ensure};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::api::{Proof, SIGNATURE_NAMESPACE};
use crate::guard::{Key, ListedKey, Signed, Team};

/// A key with which the caller is about to sign.
#[derive(Debug)]
pub struct Signer {
    /// Absent where its public half does not lie beside it.
    key: Option<Key>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// The public key is in a file of ours; the private one is in the agent.
    Agent(TempDir),
}

/// Whose key is asked for, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub user: &'a str,
    pub team: &'a str,
    pub listed: &'a Team,
    pub proof: Proof,
    pub now: Timestamp,
}

/// The file of a public key and of its text in a directory of ours.
const PUBLIC: &str = "key.pub";
const TEXT: &str = "approval";

impl Signer {
    /// The key in this file, or the best one that is at hand.
    pub fn choose(wanted: Option<&Path>, asked: Asked) -> anyhow::Result<Self> {
        let Some(path) = wanted else { return Self::at_hand(&asked) };
        let path = &from_home(path);
        ensure!(path.exists(), "there is no key in {}; --sign=FILE names the file of your private key", path.display());
        let key = public_beside(path);
        if let Some(key) = &key {
            asked.check(key)?;
        }
        Ok(Self { key, place: Place::File(private_of(path)) })
    }

    fn at_hand(asked: &Asked) -> anyhow::Result<Self> {
        let listed = asked.usable();
        let files = own_keys();
        if listed.is_empty() {
            let best = files.iter().map(|(_, key)| key).max_by_key(|key| key.is_hardware());
            bail!(asked.unlisted(best));
        }
        for listed in &listed {
            if let Some((path, key)) = files.iter().find(|(_, key)| *key == listed.key) {
                return Ok(Self { key: Some(key.clone()), place: Place::File(private_of(path)) });
            }
        }
        let in_agent = keys_in_agent();
        if let Some(listed) = listed.iter().find(|listed| in_agent.contains(&listed.key)) {
            let directory = directory()?;
            fs::write(directory.path().join(PUBLIC), listed.key.to_line() + "\n")?;
            return Ok(Self { key: Some(listed.key.clone()), place: Place::Agent(directory) });
        }
        let known: Vec<_> = listed.iter().map(|listed| format!("{} ({})", listed.key, listed.key.kind())).collect();
        bail!(
            "none of the keys that team {} lists for you is here: {}. Name the file of one with --sign=FILE, or load it \
             with ssh-add; ssh-keygen -K fetches the file of a resident hardware key",
            asked.team,
            known.join(", ")
        )
    }

    /// An armored signature of the text, after whatever the key asks of the person.
    pub fn sign(&self, text: &str) -> anyhow::Result<String> {
        let directory = directory()?;
        let file = directory.path().join(TEXT);
        fs::write(&file, text)?;
        // As git does it: ssh-keygen asks for passphrases and PINs where its input is a terminal, not the text.
        let status = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", SIGNATURE_NAMESPACE, "-f"])
            .arg(self.path())
            .arg(&file)
            .stdout(Stdio::from(std::io::stderr()))
            .status();
        let status = status.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => anyhow!("ssh-keygen is not here; install OpenSSH, 8.2 or later"),
            _ => anyhow!("ssh-keygen cannot be run: {error}"),
        })?;
        ensure!(
            status.success(),
            "{} did not sign (what ssh-keygen says of it stands above); nothing was written",
            self.name()
        );
        let mut signature = file.into_os_string();
        signature.push(".sig");
        fs::read_to_string(signature).context("ssh-keygen wrote no signature")
    }

    /// `hardware key SHA256:… (/home/alice/.ssh/id_ed25519_sk)`
    pub fn name(&self) -> String {
        let place = match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Agent(_) => "in the agent".to_owned(),
        };
        match &self.key {
            Some(key) => format!("{} {key} ({place})", key.kind()),
            None => format!("the key in {place}"),
        }
    }

    /// Whether it may be one that waits to be touched.
    pub fn may_be_hardware(&self) -> bool {
        self.key.as_ref().is_none_or(Key::is_hardware)
    }

    fn path(&self) -> PathBuf {
        match &self.place {
            Place::File(path) => path.clone(),
            Place::Agent(directory) => directory.path().join(PUBLIC),
        }
    }
}

impl Asked<'_> {
    /// Whether the signature is the caller's, over this text.
    pub fn verify(&self, signature: &str, text: &str) -> anyhow::Result<()> {
        let signed = Signed::read(signature).map_err(|fault| anyhow!("this approval cannot be used: {fault}"))?;
        let Some(listed) = self.own().find(|listed| signed.is_by(&listed.key)) else {
            bail!(self.unlisted(signed.key().ok().as_ref()))
        };
        signed.verify(&listed.key, text).map_err(|fault| anyhow!("this approval cannot be used: {fault}"))?;
        Ok(())
    }

    fn own(&self) -> impl Iterator<Item = &ListedKey> {
        self.listed.keys.iter().filter(|listed| listed.user == self.user)
    }

    /// The keys that would count now, hardware keys first.
    fn usable(&self) -> Vec<&ListedKey> {
        let mut usable: Vec<_> = self.own().filter(|listed| self.fault(listed).is_none()).collect();
        usable.sort_by_key(|listed| !listed.key.is_hardware());
        usable
    }

    fn fault(&self, listed: &ListedKey) -> Option<String> {
        let key = &listed.key;
        if self.listed.spec.revoked_keys.contains(&key.fingerprint()) {
            Some(format!("{key} is revoked in team {}", self.team))
        } else if let Some(after) = listed.after.filter(|after| *after > self.now) {
            Some(format!("{key} counts only from {after} on, says team {}", self.team))
        } else if let Some(before) = listed.before.filter(|before| *before <= self.now) {
            Some(format!("{key} counts no more since {before}, says team {}", self.team))
        } else if self.proof == Proof::HardwareKey && !key.is_hardware() {
            Some(format!("{key} is a {}, and a rule asks for a hardware key", key.kind()))
        } else {
            None
        }
    }

    fn check(&self, key: &Key) -> anyhow::Result<()> {
        let Some(listed) = self.own().find(|listed| listed.key == *key) else { bail!(self.unlisted(Some(key))) };
        match self.fault(listed) {
            Some(fault) => bail!("{fault}; sign with another of your keys"),
            None => Ok(()),
        }
    }

    /// What an administrator has to add.
    fn unlisted(&self, key: Option<&Key>) -> String {
        let Self { user, team, .. } = self;
        let faults: Vec<_> = self.own().filter_map(|listed| self.fault(listed)).collect();
        let why = if faults.is_empty() { String::new() } else { format!(" ({})", faults.join("; ")) };
        let good = key.filter(|key| self.proof < Proof::HardwareKey || key.is_hardware());
        let (line, how) = match good {
            Some(key) => (key.to_line(), String::new()),
            None => (
                "sk-ssh-ed25519@openssh.com AAAA… (the line of your file ending in .pub)".to_owned(),
                "\nMake a key with ssh-keygen -t ed25519-sk first.".to_owned(),
            ),
        };
        let lacks = match key {
            Some(key) if good.is_some() => format!("team {team} does not list your key {key}"),
            _ => format!("team {team} lists no key of yours ({user}) that would count here{why}"),
        };
        format!(
            "{lacks}. Ask an administrator to add to spec.members of approverteam {team}:\n  - user: {user}\n    keys:\n    \
             - publicKey: {line}{how}"
        )
    }
}

/// The public keys in `~/.ssh`, by file.
fn own_keys() -> Vec<(PathBuf, Key)> {
    let Some(home) = std::env::home_dir() else { return Vec::new() };
    let Ok(entries) = fs::read_dir(home.join(".ssh")) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
    files.sort();
    files.into_iter().filter_map(|path| Some((path.clone(), read_key(&path)?))).collect()
}

/// A shell leaves the `~` of `--sign=~/.ssh/id` as it is.
fn from_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn keys_in_agent() -> Vec<Key> {
    let Ok(output) = Command::new("ssh-add").arg("-L").stderr(Stdio::null()).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| Key::read(line).ok()).collect()
}

fn read_key(path: &Path) -> Option<Key> {
    Key::read(&fs::read_to_string(path).ok()?).ok()
}

fn public_beside(path: &Path) -> Option<Key> {
    if path.extension().is_some_and(|extension| extension == "pub") {
        return read_key(path);
    }
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    read_key(Path::new(&public))
}

/// The private key beside a public one; without it, the agent may have it.
fn private_of(path: &Path) -> PathBuf {
    let private = path.with_extension("");
    let is_public = path.extension().is_some_and(|extension| extension == "pub");
    if is_public && private.exists() { private } else { path.to_owned() }
}

/// Readable by nobody else, and gone afterwards.
fn directory() -> anyhow::Result<TempDir> {
    tempfile::Builder::new().prefix("tagout-").tempdir().context("there is no place for a temporary file")
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Statement;
    use crate::cli::statements::tests::{NOW, statement};

    /// A key in a file, as ssh-keygen makes it.
    pub fn made(directory: &Path) -> PathBuf {
        let path = directory.join("id");
        let status =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status().unwrap();
        assert!(status.success());
        path
    }

    pub fn team(user: &str, path: &Path) -> Team {
        let line = fs::read_to_string(path.with_extension("pub")).unwrap();
        let spec = json!({"members": [{"user": user, "keys": [{"publicKey": line.trim()}]}]});
        Team::read(serde_json::from_value(spec).unwrap())
    }

    /// The statement, signed by its approver, and the team that lists the key.
    pub fn signed(statement: Statement) -> (Statement, Team) {
        let directory = tempfile::tempdir().unwrap();
        let path = made(directory.path());
        let team = team(&statement.approver, &path);
        let signer = Signer { key: None, place: Place::File(path) };
        let signature = Some(signer.sign(&statement.text().unwrap()).unwrap());
        (Statement { signature, ..statement }, team)
    }

    fn asked<'a>(user: &'a str, listed: &'a Team, proof: Proof) -> Asked<'a> {
        Asked { user, team: "sre", listed, proof, now: NOW }
    }

    #[test]
    fn what_ssh_keygen_signs_is_the_callers_and_over_this_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = made(directory.path());
        let team = team("alice", &path);
        let asked = asked("alice", &team, Proof::Signature);
        let text = statement("alice", "sre").text().unwrap();
        let signer = Signer::choose(Some(&path), asked).unwrap();
        assert!(signer.name().starts_with("key in a file SHA256:"), "{}", signer.name());
        let signature = signer.sign(&text).unwrap();
        assert!(asked.verify(&signature, &text).is_ok());
        assert!(asked.verify(&signature, &format!("{text} ")).is_err());
    }

    #[test]
    fn whose_key_is_not_listed_reads_what_an_administrator_has_to_add() {
        let directory = tempfile::tempdir().unwrap();
        let path = made(directory.path());
        let team = team("alice", &path);
        let words = Signer::choose(Some(&path), asked("bob", &team, Proof::Signature)).unwrap_err().to_string();
        let line = team.keys[0].key.to_line();
        assert!(words.contains("- user: bob\n") && words.contains(&format!("- publicKey: {line}")), "{words}");
    }

    #[test]
    fn a_key_in_a_file_is_not_tried_where_a_hardware_key_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = made(directory.path());
        let team = team("alice", &path);
        let words = Signer::choose(Some(&path), asked("alice", &team, Proof::HardwareKey)).unwrap_err().to_string();
        assert!(words.contains("a rule asks for a hardware key"), "{words}");
    }

    #[test]
    fn a_revoked_key_is_not_tried() {
        let directory = tempfile::tempdir().unwrap();
        let path = made(directory.path());
        let mut team = team("alice", &path);
        team.spec.revoked_keys.push(team.keys[0].key.fingerprint());
        let words = Signer::choose(Some(&path), asked("alice", &team, Proof::Signature)).unwrap_err().to_string();
        assert!(words.contains("is revoked in team sre"), "{words}");
    }
}
