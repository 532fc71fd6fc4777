//! How many instructions a decision takes: `make bench-gate`. Times vary from run to run; what is executed hardly does.
//!
//! Each case runs twice under callgrind, with few calls and with many: the difference is the calls' own, without what
//! starting takes. What is counted is compared with `gate.txt`, which `UPDATE=1` writes.

mod driver;
mod reviews;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use authenticator::Kind;

use driver::{Asked, Beside, Driver};
use reviews::Said;

struct Case {
    name: &'static str,
    what: What,
    /// How many calls more one run makes than the other.
    calls: u64,
}

#[derive(Clone, Copy)]
enum What {
    /// A deletion, of an object of so many bytes, carrying this.
    Decided(usize, Said),
    /// One that is under way already: nothing is looked up.
    UnderWay(usize),
    /// A deletion with so many rules beside, about the same kind.
    Among(usize),
    /// The review is read, and nothing else.
    Read(usize),
}

const SMALL: usize = 6_000;
const LARGE: usize = 1_000_000;

const CASES: [Case; 9] = [
    Case { name: "read-6k", what: What::Read(SMALL), calls: 400 },
    Case { name: "read-1m", what: What::Read(LARGE), calls: 8 },
    Case { name: "under-way-6k", what: What::UnderWay(SMALL), calls: 400 },
    Case { name: "under-way-1m", what: What::UnderWay(LARGE), calls: 8 },
    Case { name: "refused-6k", what: What::Decided(SMALL, Said::Nothing), calls: 100 },
    Case { name: "refused-1m", what: What::Decided(LARGE, Said::Nothing), calls: 8 },
    Case { name: "approved-ed25519-6k", what: What::Decided(SMALL, Said::Signed(Kind::Ed25519)), calls: 40 },
    Case { name: "approved-sk-ed25519-6k", what: What::Decided(SMALL, Said::Signed(Kind::SkEd25519)), calls: 40 },
    Case { name: "refused-among-100-rules", what: What::Among(100), calls: 40 },
];

/// In percent. Runs of one program differ by less than a half: by the order in which threads run, and by the seeds of
/// maps. Another CPU has memory copied by other instructions, which is a percent of a large review. A look-up more is
/// seven of a small one, and reading the review once more is half of a large one; merely copying it is not seen.
const TOLERANCE: f64 = 3.0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match *words {
        ["run", case, calls] => run(case, calls).await.map(|()| ExitCode::SUCCESS),
        [] => compare(),
        _ => Err(anyhow::anyhow!("it takes no arguments")),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

async fn run(case: &str, calls: &str) -> Result<()> {
    let case = CASES.iter().find(|known| known.name == case).context("there is no such case")?;
    let calls: u64 = calls.parse()?;
    let decided = |bytes, said| Asked { bytes, said, under_way: false };
    let (asked, alike) = match case.what {
        What::Decided(bytes, said) => (decided(bytes, said), 0),
        What::UnderWay(bytes) => (Asked { under_way: true, ..decided(bytes, Said::Nothing) }, 0),
        What::Among(rules) => (decided(SMALL, Said::Nothing), rules),
        What::Read(bytes) => (decided(bytes, Said::Nothing), 0),
    };
    let driver = Driver::new(asked, Beside { alike, ..Beside::default() })?;
    for _ in 0..calls {
        match case.what {
            What::Read(_) => driver.read()?,
            _ => driver.decide().await?,
        }
    }
    Ok(())
}

fn compare() -> Result<ExitCode> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/gate.txt");
    let known = Baseline::read(&file)?;
    let by = built_by()?;
    let mut counted = BTreeMap::new();
    let mut worse = Vec::new();
    for case in &CASES {
        let now = count(case)?;
        counted.insert(case.name, now);
        let Some(before) = known.counts.get(case.name) else {
            println!("{:<26} {now:>12}   not known yet", case.name);
            worse.push(format!("{} is not in {}", case.name, file.display()));
            continue;
        };
        let change = (float(now) / float(*before) - 1.0) * 100.0;
        let verdict = if change.abs() <= TOLERANCE { "" } else { "   <-" };
        println!("{:<26} {now:>12}   was {before:>12}   {change:+6.1} %{verdict}", case.name);
        if change > TOLERANCE {
            worse.push(format!("{} takes {change:.1} % more instructions: {now} and not {before}", case.name));
        } else if change < -TOLERANCE {
            worse.push(format!(
                "{} takes {:.1} % less: write that down, or it may rise again unseen",
                case.name, -change
            ));
        }
    }
    if env::var_os("UPDATE").is_some() {
        fs::write(&file, Baseline::text(&by, &counted))?;
        println!("{} is written: commit it, with the reason", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if known.by != by {
        println!("\nThe numbers in {} are by {}, these by {by}.", file.display(), known.by);
    }
    if worse.is_empty() {
        println!("\nno case changed by more than {TOLERANCE} %");
        return Ok(ExitCode::SUCCESS);
    }
    for line in &worse {
        println!("{line}");
    }
    println!(
        "\nWhere it is meant to be so: UPDATE=1 make bench-gate, and say in the commit why. Where the instructions go:\n  \
         CARGO_PROFILE_RELEASE_STRIP=none make bench-gate\n  \
         valgrind --tool=callgrind {} run CASE 20; callgrind_annotate callgrind.out.*",
        own_program()?.display()
    );
    Ok(ExitCode::FAILURE)
}

/// The instructions of one call.
fn count(case: &Case) -> Result<u64> {
    let few = collected(case.name, 2)?;
    let many = collected(case.name, 2 + case.calls)?;
    ensure!(many > few, "{}: more calls took no more instructions", case.name);
    Ok((many - few) / case.calls)
}

fn collected(case: &str, calls: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own_program()?)
        .args(["run", case, &calls.to_string()])
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{case}: {words}");
    let line = words.lines().find_map(|line| line.split_once("Collected :")).context("callgrind says no number")?;
    line.1.trim().parse().with_context(|| format!("{case}: {}", line.1))
}

fn own_program() -> Result<PathBuf> {
    env::current_exe().context("this program has no name")
}

fn built_by() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    let version = String::from_utf8(output.stdout)?;
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Ok(format!("{}, {profile}, {}", version.trim(), env::consts::ARCH))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

#[derive(Default)]
struct Baseline {
    by: String,
    counts: BTreeMap<String, u64>,
}

impl Baseline {
    fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut baseline = Self::default();
        for line in text.lines() {
            if let Some(by) = line.strip_prefix("# by ") {
                by.clone_into(&mut baseline.by);
            } else if let Some((name, count)) = line.split_once(' ').filter(|_| !line.starts_with('#')) {
                baseline.counts.insert(name.to_owned(), count.trim().parse().with_context(|| line.to_owned())?);
            }
        }
        Ok(baseline)
    }

    fn text(by: &str, counts: &BTreeMap<&str, u64>) -> String {
        let mut text =
            format!("# Instructions for each call, by callgrind: `UPDATE=1 make bench-gate` writes this.\n# by {by}\n");
        for (name, count) in counts {
            writeln!(text, "{name} {count}").expect("a string takes it");
        }
        text
    }
}
