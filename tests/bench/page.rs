//! The page with the figures. People write its words; between two marks stands what was measured, each part by itself,
//! so that one of them can be measured again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;

pub struct Page {
    /// The folder that has the page and the pictures.
    folder: PathBuf,
}

impl Page {
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("performance"))?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub fn file(&self) -> PathBuf {
        self.folder.join("performance.md")
    }

    pub fn picture(&self, name: &str) -> PathBuf {
        self.folder.join("performance").join(name).with_extension("svg")
    }

    /// Puts the figures of a part where its marks are, and at the end where there are none.
    pub fn write(&self, part: &str, figures: &str) -> Result<()> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        fs::write(self.file(), with(&text, part, figures))?;
        Ok(())
    }
}

fn with(text: &str, part: &str, figures: &str) -> String {
    let (begin, end) = (format!("<!-- bench:{part} -->"), format!("<!-- /bench:{part} -->"));
    let block = format!("{begin}\n{}\n{end}", figures.trim());
    match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) if from < to => format!("{}{block}{}", &text[..from], &text[to + end.len()..]),
        _ => format!("{text}\n{block}\n"),
    }
}

/// Where, when and of what it was measured: without that, a figure says nothing.
pub fn provenance(command: &str, took: Duration, kubernetes: &str) -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory =
        memory.trim_end_matches(" kB").parse::<u64>().map_or(memory.clone(), |kib| format!("{} GiB", kib >> 20));
    let commit =
        said("git", &["describe", "--always", "--dirty", "--abbrev=12"]).unwrap_or_else(|_| "unknown".to_owned());
    let rustc = said("rustc", &["--version"]).unwrap_or_else(|_| "unknown".to_owned());
    format!(
        "*{date}, `{command}`, {seconds} s. {model}, {cores} cores, {memory}, Linux {kernel}; Kubernetes {kubernetes}, \
         Tagout {version} ({commit}), {rustc}.*\n",
        date = Timestamp::now().strftime("%Y-%m-%d"),
        seconds = took.as_secs(),
        model = field(&cpu, "model name"),
        kernel = read("/proc/sys/kernel/osrelease").trim(),
        version = env!("CARGO_PKG_VERSION"),
        rustc = rustc.split(" (").next().unwrap_or_default(),
    )
}

fn said(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    let text = String::from_utf8(output.stdout)?.trim().to_owned();
    Some(text).filter(|text| output.status.success() && !text.is_empty()).context("it says nothing")
}
