//! What Tagout costs: `make bench`, and `make soak`. Side by side in one run, on a real control plane, with the program as
//! it is released; what comes of it is written into docs/performance.md.

mod constant;
mod driver;
mod figures;
mod latency;
mod load;
mod page;
mod plot;
mod process;
mod review;
mod reviews;
mod scale;
mod soak;
mod stage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use controlplane::{Binaries, Program};

use figures::{Goal, Report};
use page::Page;
use stage::Stage;

/// Measures what Tagout costs
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,

    /// The program, as it is released
    #[arg(long, default_value = "target/bench/tagout")]
    tagout: PathBuf,

    /// Only these parts; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Part>,

    /// Two minutes instead of twenty, to see that it works: the figures go to target/bench and mean little
    #[arg(long, env = "BENCH_QUICK", value_parser = clap::builder::FalseyValueParser::new())]
    quick: bool,

    /// The folder of performance.md
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Role {
    /// Be the server that always says the same
    #[command(hide = true)]
    Constant { address: SocketAddr, folder: PathBuf },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CPU for each review
    Review,
    /// Deletions at a real API server
    Latency,
    /// Rules, namespaces and sizes
    Scale,
    /// Memory, descriptors, start, rest
    Process,
    /// Ten minutes of load
    Soak,
}

impl Part {
    const BENCH: [Self; 4] = [Self::Review, Self::Latency, Self::Scale, Self::Process];

    fn name(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Latency => "latency",
            Self::Scale => "scale",
            Self::Process => "process",
            Self::Soak => "soak",
        }
    }

    /// A part that takes longer hangs.
    fn limit(self) -> Duration {
        match self {
            Self::Review => Duration::from_mins(6),
            Self::Scale | Self::Process => Duration::from_mins(9),
            Self::Latency => Duration::from_mins(12),
            Self::Soak => Duration::from_mins(15),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        Some(Role::Constant { address, folder }) => constant::serve(*address, folder).await,
        None => measure(&arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let quick = arguments.quick;
    ensure!(quick || !cfg!(debug_assertions), "build it for release: make bench");
    let program = arguments.tagout.canonicalize().with_context(|| arguments.tagout.display().to_string())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let usual = if quick { root.join("target/bench") } else { root.join("docs") };
    let page = Page::new(arguments.into.as_deref().unwrap_or(&usual))?;
    let parts = if arguments.only.is_empty() { &Part::BENCH[..] } else { &arguments.only };
    let kubernetes = kubernetes()?;
    let mut goals: Vec<Goal> = Vec::new();
    let mut failed = Vec::new();
    for part in parts {
        println!("== {} (at most {} minutes)", part.name(), part.limit().as_secs() / 60);
        let began = Instant::now();
        let measured = tokio::time::timeout(part.limit(), one(*part, &program, quick, &page)).await;
        match measured.context("it took too long").flatten() {
            Ok(report) => {
                let command = format!("make {}", if *part == Part::Soak { "soak" } else { "bench" });
                let provenance = page::provenance(&command, began.elapsed(), &kubernetes);
                page.write(part.name(), &format!("{provenance}\n{}", report.text()))?;
                goals.extend(report.goals);
            }
            // The others may go well, and this one can be had again with --only.
            Err(error) => failed.push(format!("{}: {error:#}", part.name())),
        }
    }
    for goal in &goals {
        println!("{}", goal.line());
    }
    println!(
        "{} of {} goals are met; see {}",
        goals.iter().filter(|goal| goal.is_met()).count(),
        goals.len(),
        page.file().display()
    );
    ensure!(failed.is_empty(), "not measured: {}", failed.join("; "));
    Ok(())
}

/// Each part begins with a control plane of its own: what one leaves behind is not measured by the next.
async fn one(part: Part, program: &Path, quick: bool, page: &Page) -> Result<Report> {
    let stage = async || Stage::start(program, quick).await;
    match part {
        Part::Review => review::measure(&stage().await?).await,
        Part::Latency => latency::measure(&stage().await?, page).await,
        Part::Scale => scale::measure(quick, page).await,
        Part::Process => process::measure(&stage().await?).await,
        Part::Soak => soak::measure(&stage().await?, page).await,
    }
}

fn kubernetes() -> Result<String> {
    let binaries = Binaries::ensure()?;
    let output = std::process::Command::new(binaries.path(Program::KubeApiserver)).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().trim_start_matches("Kubernetes ").to_owned())
}
