//! `kubectl tagout man`: the manual, in the words of `--help`.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};

use super::Arguments;
use super::words::say;

/// Write the manual pages into a folder
///
/// One page for each command. Where man looks: kubectl tagout man ~/.local/share/man/man1; man kubectl-tagout-approve
#[derive(Args, Debug)]
pub struct Options {
    /// The folder; it is made if it is not there
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let folder = options.folder.display();
    fs::create_dir_all(&options.folder).with_context(|| format!("cannot make {folder}"))?;
    clap_mangen::generate_to(Arguments::command(), &options.folder)
        .with_context(|| format!("cannot write the manual into {folder}"))?;
    say(&format!("The manual is in {folder}.\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_help_names_has_a_page_with_its_options() {
        let folder = tempfile::tempdir().unwrap();
        run(&Options { folder: folder.path().join("man1") }).unwrap();
        let page = |name: &str| fs::read_to_string(folder.path().join("man1").join(name)).unwrap();
        assert!(page("kubectl-tagout.1").contains("kubectl\\-tagout\\-approve"));
        assert!(page("kubectl-tagout-approve.1").contains("break\\-glass"));
        for command in Arguments::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let text = page(&format!("kubectl-tagout-{}.1", command.get_name()));
            assert!(text.contains(".SH NAME"), "{}", command.get_name());
        }
    }
}
