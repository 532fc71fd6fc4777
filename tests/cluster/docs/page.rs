//! A page of the documentation, as the commands that it tells people to run.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use controlplane::{ControlPlane, User};
use tempfile::TempDir;

use crate::world::{Outcome, root, with_plugin};

/// Its commands are run in the order in which they stand there, each or with the reason why not.
pub struct Page {
    name: &'static str,
    cp: &'static ControlPlane,
    commands: VecDeque<Written>,
    /// Where they are run: a home with nothing but what the test puts there, and the chart.
    folder: TempDir,
    /// What stands in the page for what is another in each cluster.
    instead: Vec<(String, String)>,
}

/// A page that is not read to its end yet.
pub struct Aside(&'static str, VecDeque<Written>);

#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    line: usize,
    /// In a transcript, at whose prompt it is.
    who: Option<String>,
    text: String,
}

impl Written {
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Page {
    pub fn open(name: &'static str, cp: &'static ControlPlane) -> Self {
        let text = fs::read_to_string(root().join(name)).expect("the page is there");
        let folder = tempfile::tempdir().expect("a folder");
        for shown in ["charts", "deploy"] {
            symlink(root().join(shown), folder.path().join(shown)).expect("a link");
        }
        Self { name, cp, commands: commands(&text).into(), folder, instead: Vec::new() }
    }

    /// What somebody has written here.
    pub fn written(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("it was written")
    }

    /// Makes a key where a person's keys are; the line that teams list.
    pub fn key_of(&self, user: User) -> String {
        let folder = self.home(user).join(".ssh");
        fs::create_dir_all(&folder).expect("a folder");
        let key = folder.join("id_ed25519").display().to_string();
        let keygen = ["-q", "-t", "ed25519", "-N", "", "-C", user.name(), "-f", &key];
        Outcome::of(Command::new("ssh-keygen").args(keygen), "").succeeds();
        fs::read_to_string(format!("{key}.pub")).expect("a key").trim().to_owned()
    }

    fn home(&self, user: User) -> PathBuf {
        self.folder.path().join("home").join(user.name())
    }

    pub fn file(&self, name: &str, contents: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, contents).expect("it is written");
    }

    /// From here on one stands for the other.
    pub fn instead_of(&mut self, written: &str, real: &str) {
        self.instead.retain(|(known, _)| known != written);
        self.instead.push((written.to_owned(), real.to_owned()));
    }

    /// Runs the next command, which begins so, as this user. Asked, people answer yes.
    #[track_caller]
    pub fn run(&mut self, user: User, beginning: &str) -> Outcome {
        let next = self.next(beginning);
        self.runs(user, &next)
    }

    /// Runs the next command in a shell in which something else was done before.
    #[track_caller]
    pub fn run_after(&mut self, before: &str, user: User, beginning: &str) -> Outcome {
        let mut next = self.next(beginning);
        next.text = format!("{before}\n{}", next.text);
        self.runs(user, &next)
    }

    /// Takes the next command to run it later: pages show first what they explain afterwards.
    #[track_caller]
    pub fn next(&mut self, beginning: &str) -> Written {
        let next = self.commands.pop_front().unwrap_or_else(|| panic!("{} has no {beginning:?} any more", self.name));
        assert!(next.text.starts_with(beginning), "{}:{} says {:?} here", self.name, next.line, next.text);
        next
    }

    #[track_caller]
    pub fn runs(&self, user: User, written: &Written) -> Outcome {
        Outcome::of(&mut self.command(user, written), "y\n")
    }

    /// Runs what stands in no block. Asked, people answer yes.
    pub fn types(&self, user: User, text: &str) -> Outcome {
        Outcome::of(&mut self.shell(user, text), "y\n")
    }

    #[track_caller]
    pub fn command(&self, user: User, written: &Written) -> Command {
        let by = written.who.as_deref();
        assert!(by.is_none_or(|who| who == user.name()), "{}:{} is by {by:?}", self.name, written.line);
        let text = self.instead.iter().fold(written.text.clone(), |text, (written, real)| text.replace(written, real));
        self.shell(user, &text)
    }

    /// The command, and then another one.
    #[track_caller]
    pub fn command_and(&self, user: User, written: &Written, then: &str) -> Command {
        self.shell(user, &format!("{} && {then}", without_remark(&written.text)))
    }

    #[track_caller]
    pub fn leave(&mut self, beginning: &str, why: &str) {
        self.next(beginning);
        assert!(why.len() > 10, "why?");
    }

    /// The same people go on with another page, in the same folder.
    #[track_caller]
    pub fn turn_to(&mut self, name: &'static str) {
        self.ends();
        let text = fs::read_to_string(root().join(name)).expect("the page is there");
        (self.name, self.commands, self.instead) = (name, commands(&text).into(), Vec::new());
    }

    /// What is left of this page, to come back to.
    pub fn put_aside(&mut self) -> Aside {
        Aside(self.name, std::mem::take(&mut self.commands))
    }

    pub fn turn_back(&mut self, Aside(name, commands): Aside) {
        self.ends();
        (self.name, self.commands) = (name, commands);
    }

    #[track_caller]
    pub fn ends(&self) {
        assert!(self.commands.is_empty(), "nobody tries in {}: {:#?}", self.name, self.commands);
    }

    /// A shell with a terminal, as a person has one, in which `kubectl` and `helm` are this user's.
    fn shell(&self, user: User, text: &str) -> Command {
        let (kubectl, helm) = (self.cp.kubectl(user), self.cp.helm(user));
        let asks = ["approve", "unlock", "revoke"].iter().any(|word| text.contains(&format!("kubectl tagout {word}")));
        let mut shell = if asks {
            let mut script = Command::new("script");
            script.args(["--quiet", "--return", "--command", text, "/dev/null"]);
            script
        } else {
            let mut bash = Command::new("bash");
            bash.args(["-o", "pipefail", "-c", text]);
            bash
        };
        for tool in [&helm, &kubectl] {
            shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        shell.current_dir(self.folder.path()).env("HOME", self.home(user)).env("SHELL", "/bin/bash");
        with_plugin(&mut shell);
        let path = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
        let mut path = path.expect("a PATH").to_string_lossy().into_owned();
        for tool in [&helm, &kubectl] {
            path = format!("{}:{path}", Path::new(tool.get_program()).parent().expect("a folder").display());
        }
        shell.env("PATH", path);
        shell
    }
}

/// What is said of a command behind it.
fn without_remark(text: &str) -> &str {
    text.split("  #").next().unwrap_or(text)
}

/// What a person would type; everything else in a block is what comes back.
const PROGRAMS: [&str; 15] = [
    "kubectl",
    "helm",
    "make",
    "cargo",
    "docker",
    "git",
    "ssh-keygen",
    "curl",
    "openssl",
    "cat",
    "printf",
    "echo",
    "LC_ALL=C",
    "signature=$(awk",
    "mv",
];

/// The commands in the blocks of a page that name no other language than a shell's.
fn commands(page: &str) -> Vec<Written> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate().map(|(at, line)| (at + 1, line));
    while let Some((_, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let block: Vec<_> = lines.by_ref().take_while(|(_, line)| line.trim() != "```").collect();
        let block: Vec<_> = block.iter().map(|(at, line)| (*at, line.get(indent..).unwrap_or_default())).collect();
        if ["", "sh", "console"].contains(&language) {
            found.extend(of_block(&block));
        }
    }
    found
}

fn of_block(block: &[(usize, &str)]) -> Vec<Written> {
    let transcript = block.iter().any(|(_, line)| prompt(line).is_some());
    let mut found = Vec::new();
    let mut lines = block.iter();
    while let Some((line, text)) = lines.next() {
        let (who, first) = match prompt(text) {
            Some((who, typed)) => (who, typed),
            None if !transcript && PROGRAMS.contains(&text.split(' ').next().unwrap_or_default()) => (None, *text),
            None => continue,
        };
        let mut text = first.to_owned();
        let mut more = |text: &mut String| {
            let next = lines.next().map(|(_, next)| *next);
            next.inspect(|next| text.extend(["\n", next])).map(str::to_owned)
        };
        while text.trim_end().ends_with(['\\', '|']) && more(&mut text).is_some() {}
        if let Some((_, end)) = first.split_once("<<") {
            while more(&mut text).is_some_and(|next| next != end.trim()) {}
        }
        found.push(Written { line: *line, who, text });
    }
    found
}

/// `agent-7 $ kubectl …`, or `$ kubectl …`.
fn prompt(line: &str) -> Option<(Option<String>, &str)> {
    let (before, typed) = line.split_once("$ ")?;
    match before.trim_end() {
        "" => Some((None, typed)),
        who if !who.contains(' ') && before.ends_with(' ') => Some((Some(who.to_owned()), typed)),
        _ => None,
    }
}

#[test]
fn commands_are_found_with_their_continuations_and_what_comes_back_is_none() {
    let page = "\
```
kubectl get pods \\
  -A
kubectl apply -f - <<END
kind: Pod
END
Error from server
```
1. in a list:

   ```
   agent-7 $ kubectl delete pod a
   kubectl is what it says
   $ helm list
   ```
```yaml
kubectl: no
```
";
    let found = commands(page);
    let said: Vec<_> = found.iter().map(|one| (one.line, one.who.as_deref(), one.text.as_str())).collect();
    let expected = [
        (2, None, "kubectl get pods \\\n  -A"),
        (4, None, "kubectl apply -f - <<END\nkind: Pod\nEND"),
        (12, Some("agent-7"), "kubectl delete pod a"),
        (14, None, "helm list"),
    ];
    assert_eq!(said, expected);
}
