//! The main job on a real control plane: kubectl is refused, a person approves, kubectl is allowed.
//!
//! `make demo` runs it. With a terminal it leaves everything running to play with, until Ctrl-C.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use controlplane::{Binaries, ControlPlane, Installation, Options, User};

fn main() -> ExitCode {
    match tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo did not go as it should: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<()> {
    let programs = programs()?;
    say("Tagout on a real Kubernetes control plane, all on this machine and gone when it ends.");
    say("The control plane's programs are built from Go modules the first time; later this step takes no time.");
    let binaries = Binaries::ensure()?;
    say("Starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler and three simulated nodes ...");
    let cp = ControlPlane::start(&Options::default())?;

    say("Installing the chart as you would. People of group senior-sre may approve.");
    println!(
        "\nadmin $ helm install tagout charts/tagout -n tagout-system --create-namespace --wait \\\n            \
         --set 'approvers.groups={{senior-sre}}'"
    );
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tagout");
    let _tagout = Installation::helm(&cp, &chart, &programs.join("tagout"), &["approvers.groups={senior-sre}"])?;
    let stage = Stage { cp: &cp, programs: &programs };
    say("Before approvals count, Tagout makes sure that nobody can plant one: ten seconds of trying.");
    stage.awaits("kubectl get protectionrule production -o jsonpath={.status.epoch}")?;
    stage.shows(User::Admin, "kubectl get protectionrules")?;

    say("A production namespace with a service in it:");
    stage.shows(User::Admin, "kubectl create namespace payments")?;
    stage.shows(User::Admin, "kubectl label namespace payments environment=production")?;
    stage.shows(User::Admin, "kubectl create deployment api --image=example.com/api:1 --replicas=3 -n payments")?;
    stage.shows(User::Admin, "kubectl rollout status deployment/api -n payments")?;

    say("An AI agent runs with an engineer's kubeconfig. It is in system:masters: it may do everything.");
    stage.shows(User::Agent, "kubectl auth can-i delete deployments -n payments")?;
    say("It decides to delete and recreate:");
    stage.is_refused(User::Agent, "kubectl delete deployment api -n payments")?;
    stage.is_refused(User::Agent, "kubectl delete deployment --all -n payments --force --grace-period=0")?;
    stage.is_refused(User::Agent, "kubectl delete namespace payments")?;
    say("It looks for another way:");
    stage.is_refused(User::Agent, "kubectl scale deployment api -n payments --replicas=0")?;
    stage.is_refused(User::Agent, "kubectl label namespace payments environment-")?;
    say("It cannot approve for itself:");
    stage.is_refused(User::Agent, "kubectl tagout approve deployment/api -n payments --yes")?;
    say("Nor can it make the rule weaker, or let itself approve:");
    stage.is_refused(User::Agent, "kubectl delete protectionrule production")?;
    stage.is_refused(
        User::Agent,
        "kubectl patch approverteam approvers --type=merge -p {\"spec\":{\"members\":[{\"user\":\"agent-7\"}]}}",
    )?;
    say("Daily work goes on:");
    stage.shows(User::Agent, "kubectl set image deployment/api api=example.com/api:2 -n payments")?;
    stage.shows(User::Agent, "kubectl rollout status deployment/api -n payments")?;

    say("alice@example.com is in senior-sre. She looks, and approves this one deletion:");
    stage.shows(User::Alice, "kubectl tagout impact deployment/api -n payments")?;
    stage.shows(User::Alice, "kubectl tagout approve deployment/api -n payments --reason=OPS-1234 --for=10m --yes")?;
    stage.shows(User::Alice, "kubectl tagout status")?;
    say("Nobody approves their own request, and nothing else is open:");
    stage.is_refused(User::Alice, "kubectl delete deployment api -n payments")?;
    stage.is_refused(User::Agent, "kubectl delete namespace payments")?;
    say("What she approved passes:");
    stage.shows(User::Agent, "kubectl delete deployment api -n payments")?;
    stage.is_refused(User::Agent, "kubectl get deployment api -n payments")?;
    say("That was the whole story, and every step went as it should.");

    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        invite(&cp, &binaries, &programs);
        loop {
            thread::sleep(Duration::from_hours(1));
        }
    }
    Ok(())
}

struct Stage<'c> {
    cp: &'c ControlPlane,
    programs: &'c Path,
}

impl Stage<'_> {
    /// Runs a command that has to succeed, with its real output.
    fn shows(&self, user: User, line: &str) -> Result<()> {
        ensure!(self.runs(user, line)?, "this should have succeeded: {line}");
        Ok(())
    }

    /// Runs a command until it prints something.
    fn awaits(&self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        for _ in 0..120 {
            if !self.cp.kubectl(User::Admin).args(&words).output()?.stdout.is_empty() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        anyhow::bail!("nothing came of {line}")
    }

    /// Runs a command that has to fail.
    fn is_refused(&self, user: User, line: &str) -> Result<()> {
        ensure!(!self.runs(user, line)?, "this should have been refused: {line}");
        Ok(())
    }

    fn runs(&self, user: User, line: &str) -> Result<bool> {
        println!("\n{} $ {line}", user.name());
        std::io::stdout().flush()?;
        let mut words = line.split(' ');
        ensure!(words.next() == Some("kubectl"), "only kubectl is shown");
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap_or_default());
        // Errors belong between the lines, where a person would see them.
        let mut kubectl: Command = self.cp.kubectl(user);
        let status = kubectl.args(words).env("PATH", path).stderr(std::io::stdout()).status()?;
        Ok(status.success())
    }
}

fn invite(cp: &ControlPlane, binaries: &Binaries, programs: &Path) {
    say("It is all still running; Ctrl-C ends it. In another terminal:");
    println!("\nexport PATH={}:{}:$PATH", binaries.folder().display(), programs.display());
    for (user, what) in [
        (User::Agent, "the agent"),
        (User::Alice, "alice, who may approve"),
        (User::Bob, "bob, who may approve"),
        (User::Carol, "carol, who may not"),
    ] {
        println!("export KUBECONFIG={}    # {what}", cp.kubeconfig(user).display());
    }
    println!("\nkubectl create deployment web --image=x -n payments");
    println!("kubectl delete deployment web -n payments");
    println!("kubectl get protectionrules,approverteams");
    println!("kubectl explain protectionrule.spec");
    println!("kubectl edit protectionrule production");
}

fn say(line: &str) {
    let (bold, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}# {line}{plain}");
}

/// The folder of the programs that were built with this one.
fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("this program is in no folder")?.to_owned();
    for program in ["tagout", "kubectl-tagout"] {
        ensure!(folder.join(program).exists(), "{program} is not built; run `make demo`");
    }
    Ok(folder)
}
