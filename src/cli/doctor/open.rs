//! Approvals that lie about.

use jiff::{SignedDuration, Timestamp};

use super::finding::{APPROVAL_LONG, APPROVAL_OPEN, APPROVAL_STALE, Finding, Fix, Severity, Stage};
use super::snapshot::Snapshot;
use crate::api::{APPROVAL, Action, kind_parts};
use crate::cli::approvals::OpenApproval;
use crate::cli::words::moment;

/// Longer than a shift, and nobody remembers that it stands.
const LONG: SignedDuration = SignedDuration::from_hours(24);

pub fn check(snapshot: &Snapshot, _: Stage) -> Vec<Finding> {
    let gone = |one: &OpenApproval| {
        let (plural, group) = kind_parts(&one.kind);
        let objects = snapshot.objects.get(&(group.to_owned(), plural.to_owned()));
        let there = |objects: &Vec<super::snapshot::Seen>| {
            objects.iter().any(|seen| seen.namespace == one.namespace && seen.name == one.name)
        };
        // What is to return is not there.
        one.action != Some(Action::Recreate) && objects.is_some_and(|objects| !there(objects))
    };
    judge(&snapshot.approvals, gone, snapshot.now())
}

fn judge(approvals: &[OpenApproval], gone: impl Fn(&OpenApproval) -> bool, now: Timestamp) -> Vec<Finding> {
    let stale = |one: &OpenApproval| one.remark.clone().or_else(|| gone(one).then(|| "its object is gone".to_owned()));
    let finding = |one| match stale(one) {
        Some(remark) => {
            let mut beside = approvals.iter().filter(|other| place(other) == place(one));
            let all = beside.all(|other| stale(other).is_some());
            let says = format!("says {}, and does not count: {remark}", about(one));
            Finding::new(&APPROVAL_STALE, Severity::Note, object(one), says).fix(take_away(one, gone(one), all))
        }
        None => counts(one, now),
    };
    approvals.iter().map(finding).collect()
}

fn counts(one: &OpenApproval, now: Timestamp) -> Finding {
    let until = one.expires.map_or_else(|| "-".to_owned(), |expires| moment(expires, now));
    let whom = one.requester.as_deref().map_or_else(|| "anyone".to_owned(), |one| format!("{one:?}"));
    let says = format!("lets {whom} do {}, until {until}", about(one));
    let fix = revoke(one, "If nobody is about to use it, revoke it.");
    let long = one.expires.is_some_and(|expires| expires.duration_since(now) > LONG);
    let (known, severity) = if long { (&APPROVAL_LONG, Severity::Warning) } else { (&APPROVAL_OPEN, Severity::Note) };
    Finding::new(known, severity, object(one), says).fix(fix)
}

/// What takes one away that is stale, and nothing that counts. `gone` is its object, and `all` that stands in its place
/// is stale.
fn take_away(one: &OpenApproval, gone: bool, all: bool) -> Fix {
    let words = "Take it away; that needs no approval.";
    match &one.approval {
        Some(name) if all => Fix::words(words).kubectl("delete", "approval", &[], name),
        None if one.hash.is_none() && all => {
            let nothing =
                format!(r#"{{"metadata":{{"labels":{{"{APPROVAL}":null}},"annotations":{{"{APPROVAL}":null}}}}}}"#);
            let flags = [&namespace(one)[..], &["--type=merge", "-p", &nothing]].concat();
            Fix::words(words).kubectl("patch", &one.kind, &flags, &one.name)
        }
        _ if one.hash.is_none() => Fix::words("Others beside it count. When those are over, take them all away."),
        _ if gone => Fix::words("Nothing to take it from: its object is gone."),
        _ => revoke(one, words),
    }
}

/// Takes back this one, and none beside it.
fn revoke(one: &OpenApproval, words: &str) -> Fix {
    let what = format!("{}/{}", one.kind, one.name);
    let hash: Vec<&str> = one.hash.as_deref().map_or_else(Vec::new, |hash| vec!["--hash", hash]);
    Fix::words(words).run(&[&["kubectl", "tagout", "revoke", &what][..], &namespace(one), &hash].concat())
}

fn namespace(one: &OpenApproval) -> Vec<&str> {
    if one.namespace.is_empty() { Vec::new() } else { vec!["-n", &one.namespace] }
}

/// Where it stands: what is taken away there goes together.
fn place(one: &OpenApproval) -> (Option<&str>, &str, &str, &str) {
    match &one.approval {
        Some(name) => (Some(name), "", "", ""),
        None => (None, &one.kind, &one.namespace, &one.name),
    }
}

fn object(one: &OpenApproval) -> String {
    one.approval.as_ref().map_or_else(|| named(one), |name| format!("Approval/{name}"))
}

fn about(one: &OpenApproval) -> String {
    let action = one.action.map_or("something", Action::as_str);
    format!("{action} of {}, by {}", named(one), one.approver.as_deref().unwrap_or("nobody that can be read"))
}

fn named(one: &OpenApproval) -> String {
    let namespace = if one.namespace.is_empty() { String::new() } else { format!("{}/", one.namespace) };
    format!("{}/{namespace}{}", one.kind, one.name)
}

#[cfg(test)]
mod tests {
    use super::super::finding::shell;
    use super::*;
    use crate::cli::statements::tests::NOW;

    fn approval(hours: i64) -> OpenApproval {
        OpenApproval {
            kind: "deployments.apps".into(),
            namespace: "payments".into(),
            name: "api".into(),
            action: Some(Action::Delete),
            approver: Some("alice".into()),
            expires: Some(NOW + SignedDuration::from_hours(hours)),
            ..OpenApproval::default()
        }
    }

    fn judged(approvals: &[OpenApproval], gone: bool) -> Vec<Finding> {
        judge(approvals, |_| gone, NOW)
    }

    fn commands(finding: &Finding) -> Vec<String> {
        finding.fix.commands.iter().map(|command| shell(command)).collect()
    }

    #[test]
    fn what_stands_is_told_by_whether_it_counts_and_for_how_long() {
        assert_eq!(judged(&[approval(1)], false)[0].known, &APPROVAL_OPEN);
        assert_eq!(judged(&[approval(100)], false)[0].known, &APPROVAL_LONG);
        assert_eq!(judged(&[approval(1)], true)[0].known, &APPROVAL_STALE);
        assert_eq!(judged(&[stale()], false)[0].known, &APPROVAL_STALE);
    }

    fn stale() -> OpenApproval {
        OpenApproval { remark: Some("expired".into()), hash: Some("sha256:old".into()), ..approval(-1) }
    }

    fn unreadable() -> OpenApproval {
        let OpenApproval { kind, namespace, name, .. } = approval(1);
        let remark = Some("it has the label and no approval".into());
        OpenApproval { kind, namespace, name, remark, ..OpenApproval::default() }
    }

    #[test]
    fn one_that_is_stale_goes_alone_and_takes_none_with_it_that_counts() {
        let living = OpenApproval { hash: Some("sha256:new".into()), ..approval(1) };
        let findings = judged(&[stale(), living, unreadable()], false);
        assert_eq!(
            commands(&findings[0]),
            ["kubectl tagout revoke deployments.apps/api -n payments --hash sha256:old"]
        );
        assert_eq!(
            commands(&findings[1]),
            ["kubectl tagout revoke deployments.apps/api -n payments --hash sha256:new"]
        );
        assert_eq!(commands(&findings[2]), Vec::<String>::new());
    }

    #[test]
    fn where_nothing_counts_label_and_annotation_go_together() {
        let nothing =
            r#"{"metadata":{"labels":{"tagout.dev/approval":null},"annotations":{"tagout.dev/approval":null}}}"#;
        let expected = format!("kubectl patch deployments.apps -n payments --type=merge -p '{nothing}' api");
        assert_eq!(commands(&judged(&[unreadable(), stale()], false)[0]), [expected]);
    }

    #[test]
    fn an_approval_is_deleted_when_all_that_it_says_is_stale() {
        let within = |one: OpenApproval| OpenApproval { approval: Some("delete-1".into()), ..one };
        let all = judged(&[within(stale()), within(stale()), approval(1)], false);
        assert_eq!(commands(&all[0]), ["kubectl delete approval delete-1"]);
        let some = judged(&[within(stale()), within(approval(1))], false);
        assert_eq!(commands(&some[0]), ["kubectl tagout revoke deployments.apps/api -n payments --hash sha256:old"]);
    }
}
