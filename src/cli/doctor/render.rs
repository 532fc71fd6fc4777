//! The findings, for people.

use std::fmt::Write;

use super::Report;
use super::finding::{Finding, Severity, shell};
use crate::cli::words::printable;

pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for severity in [Severity::Danger, Severity::Warning, Severity::Note] {
        let found: Vec<_> = report.findings.iter().filter(|finding| finding.severity == severity).collect();
        if found.is_empty() {
            continue;
        }
        text.extend([&severity.as_str().to_uppercase(), " (", &found.len().to_string(), ")\n"]);
        for finding in found {
            text.push_str(&one(finding));
        }
        text.push('\n');
    }
    for unread in &report.incomplete {
        let allowed = if unread.allowed { " (allowed)" } else { "" };
        writeln!(
            text,
            "Not looked at{allowed}: {} ({}): {}",
            printable(&unread.unread.what),
            unread.unread.check.as_str(),
            printable(&unread.unread.reason)
        )
        .expect("a string takes it");
    }
    text.push_str(&summary(report));
    text
}

fn one(finding: &Finding) -> String {
    let Finding { known, object, says, why, fix, .. } = finding;
    let mut text = format!("  {} {}\n    {}\n    Why: {why}\n", known.id, printable(object), printable(says));
    if !fix.words.is_empty() {
        text.extend(["    Fix: ", &printable(&fix.words), "\n"]);
    }
    for command in &fix.commands {
        text.extend(["      ", &printable(&shell(command)), "\n"]);
    }
    text
}

fn summary(report: &Report) -> String {
    let summary = &report.summary;
    let of = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let found = if report.findings.is_empty() {
        "Nothing is open here that doctor knows of".to_owned()
    } else {
        format!("{} danger, {}, {}", summary.danger, of(summary.warning, "warning"), of(summary.note, "note"))
    };
    let mut text = found;
    if summary.ignored > 0 {
        write!(text, ", {} ignored", summary.ignored).expect("a string takes it");
    }
    let missing = report.incomplete.iter().filter(|one| !one.allowed).count();
    if missing > 0 {
        let what = if missing == 1 { "one thing" } else { "several things" };
        write!(text, "; {what} could not be looked at, so this is not all").expect("a string takes it");
    }
    text + ".\n"
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::cli::doctor::finding::{Check, Fix, PROOF_IDENTITY, STRONG_RIGHTS, Stage, Unread};
    use crate::cli::doctor::{Incomplete, Summary};

    #[test]
    fn the_gravest_comes_first_and_what_was_not_looked_at_last() {
        let fix = Fix::words("Narrow it.").kubectl("edit", "clusterrolebinding", &[], "it's");
        let findings = vec![
            Finding::new(&PROOF_IDENTITY, Severity::Note, "ProtectionRule/r", "is met by unsigned approvals"),
            Finding::new(&STRONG_RIGHTS, Severity::Danger, "User/eve\u{1b}[2J", "may\nimpersonate").fix(fix),
        ];
        let unread = Unread { check: Check::Access, what: "roles".into(), reason: "forbidden".into() };
        let report = Report {
            schema_version: "v1",
            cluster: None,
            server: None,
            user: "alice".into(),
            time: Timestamp::UNIX_EPOCH,
            stage: Stage::Enforce,
            fail_on: Severity::Warning,
            exit_code: 3,
            summary: Summary { danger: 1, note: 1, ignored: 2, ..Summary::default() },
            findings,
            ignored: Vec::new(),
            incomplete: vec![Incomplete { unread, allowed: false }],
        };
        let text = text(&report);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], ["DANGER (1)", "  strong-rights User/eve [2J", "    may impersonate"]);
        assert!(lines.contains(&r"      kubectl edit clusterrolebinding 'it'\''s'"), "{text}");
        assert!(lines.contains(&"NOTE (1)"), "{text}");
        assert_eq!(
            lines[lines.len() - 2..],
            [
                "Not looked at: roles (access): forbidden",
                "1 danger, 0 warnings, 1 note, 2 ignored; one thing could not be looked at, so this is not all.",
            ]
        );
    }
}
