//! `kubectl tagout completion`: what a shell completes.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Arguments;
use super::words::say;

/// Print a script by which a shell completes this command
///
/// For kubectl-tagout as such: source <(kubectl tagout completion bash)
#[derive(Args, Debug)]
pub struct Options {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = clap::value_parser!(Known))]
    shell: Known,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Known {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    say(&script(options.shell))
}

fn script(shell: Known) -> String {
    let shell = match shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
        Known::Powershell => Shell::PowerShell,
    };
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), "kubectl-tagout", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_every_subcommand() {
        for shell in [Known::Bash, Known::Zsh, Known::Fish, Known::Powershell] {
            let script = script(shell);
            for word in ["approve", "review", "revoke", "status", "verify", "break-glass"] {
                assert!(script.contains(word), "{shell:?} lacks {word}");
            }
        }
    }
}
