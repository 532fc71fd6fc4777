//! `kubectl tagout completion`: what a shell completes, by itself or by way of kubectl.

use clap::{Arg, Args, Command, CommandFactory};
use clap_complete::{Shell, generate};

use super::Arguments;
use super::words::say;

/// Print a script by which a shell completes this command
///
/// For kubectl-tagout as such: source <(kubectl tagout completion bash). For kubectl tagout, which completes what kubectl
/// itself completes: kubectl tagout completion kubectl > kubectl_complete-tagout, made executable, on the PATH.
#[derive(Args, Debug)]
pub struct Options {
    /// The shell, or kubectl
    #[arg(value_name = "SHELL", value_parser = clap::value_parser!(Known))]
    shell: Known,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Known {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Kubectl,
}

/// The word by which the program is asked.
pub const ASKED: &str = "__complete";

/// kubectl looks for a program called `kubectl_complete-tagout`.
const FOR_KUBECTL: &str = "#!/bin/sh\nexec kubectl-tagout __complete \"$@\"\n";

pub fn run(options: &Options) -> anyhow::Result<()> {
    say(&script(options.shell))
}

/// Answers in kubectl's own protocol, given all that was typed behind `kubectl tagout`: a line for each candidate, and
/// what the shell shall do with them.
pub fn complete(words: &[String]) -> anyhow::Result<()> {
    const NO_FILES: u8 = 4;
    let mut root = Arguments::command();
    // Global options become those of each command.
    root.build();
    let mut said = candidates(&root, words).join("\n");
    if !said.is_empty() {
        said.push('\n');
    }
    say(&format!("{said}:{NO_FILES}\n"))
}

fn script(shell: Known) -> String {
    let shell = match shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
        Known::Powershell => Shell::PowerShell,
        Known::Kubectl => return FOR_KUBECTL.to_owned(),
    };
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), "kubectl-tagout", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// What may stand where the last word stands.
fn candidates(root: &Command, words: &[String]) -> Vec<String> {
    let Some((last, before)) = words.split_last() else { return Vec::new() };
    let mut command = root;
    let mut awaits: Option<&Arg> = None;
    for word in before {
        if awaits.take().is_some() {
            continue;
        }
        if let Some(option) = option(command, word) {
            awaits = Some(option).filter(|option| option.get_action().takes_values() && !word.contains('='));
        } else if let Some(sub) = command.find_subcommand(word) {
            command = sub;
        }
    }
    let all: Vec<(String, String)> = if let Some(option) = awaits {
        values(option)
    } else if last.starts_with('-') {
        let shown = command.get_arguments().filter(|option| !option.is_hide_set());
        shown.filter_map(|option| Some((format!("--{}", option.get_long()?), help(option.get_help())))).collect()
    } else {
        let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let subs = subs.map(|sub| (sub.get_name().to_owned(), help(sub.get_about())));
        subs.chain(command.get_positionals().flat_map(values)).collect()
    };
    let fitting = all.into_iter().filter(|(word, _)| word.starts_with(last.as_str()));
    fitting.map(|(word, help)| if help.is_empty() { word } else { format!("{word}\t{help}") }).collect()
}

fn option<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let name = word.split('=').next().unwrap_or_default();
    command.get_arguments().find(|option| {
        let long = option.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long));
        long || option.get_short().is_some_and(|short| name == format!("-{short}"))
    })
}

fn values(option: &Arg) -> Vec<(String, String)> {
    let shown = option.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
    shown.map(|value| (value.get_name().to_owned(), help(value.get_help()))).collect()
}

fn help(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(|text| text.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_shell_is_told_every_subcommand() {
        for shell in [Known::Bash, Known::Zsh, Known::Fish, Known::Powershell] {
            let script = script(shell);
            for word in ["approve", "review", "revoke", "status", "verify", "break-glass"] {
                assert!(script.contains(word), "{shell:?} lacks {word}");
            }
            assert!(!script.contains("__complete"), "{shell:?}");
        }
    }

    #[rstest]
    #[case(&["app"], &["approve"])]
    #[case(&["status", "-o", ""], &["text", "json"])]
    #[case(&["status", "--output", "j"], &["json"])]
    #[case(&["--context", "approve", "sta"], &["static-manifest", "status"])]
    #[case(&["approve", "--break"], &["--break-glass"])]
    #[case(&["approve", "--kubec"], &["--kubeconfig"])]
    #[case(&["approve", "deploy/api", "--as", ""], &[])]
    #[case(&["completion", "k"], &["kubectl"])]
    #[case(&["__comp"], &[])]
    #[case(&["no", "such", "\u{1b}"], &[])]
    #[case(&[], &[])]
    fn kubectl_is_told_what_may_follow(#[case] words: &[&str], #[case] expected: &[&str]) {
        let mut root = Arguments::command();
        root.build();
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let said = candidates(&root, &words);
        let mut said: Vec<_> = said.iter().map(|line| line.split('\t').next().unwrap()).collect();
        let mut expected = expected.to_vec();
        said.sort_unstable();
        expected.sort_unstable();
        assert_eq!(said, expected);
    }
}
