//! What doctor says: one finding for each opening, by stable names.

use serde::{Serialize, Serializer};

use crate::cli::words::printable;

#[derive(Serialize, clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// An opening, or what will become one.
    Warning,
    /// Somebody can pass by what Tagout guards.
    Danger,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Danger => "danger",
        }
    }
}

/// How far a cluster has come: what the chart does by itself is no fault until it is to be the last word.
#[derive(Serialize, clap::ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Audit,
    #[default]
    Enforce,
    Hardened,
}

impl Stage {
    /// Of what the chart does unless one says otherwise.
    pub fn default_choice(self) -> Severity {
        if self == Self::Hardened { Severity::Warning } else { Severity::Note }
    }
}

/// What is looked at together, and may be left out together.
#[derive(Serialize, clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    Access,
    Admission,
    Rules,
    Namespaces,
    Approvals,
    Teams,
    Versions,
    Tagout,
}

impl Check {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Admission => "admission",
            Self::Rules => "rules",
            Self::Namespaces => "namespaces",
            Self::Approvals => "approvals",
            Self::Teams => "teams",
            Self::Versions => "versions",
            Self::Tagout => "tagout",
        }
    }
}

/// A kind of finding. Its name never changes: people name it in their files.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    pub id: &'static str,
    pub check: Check,
    /// Why it matters.
    pub why: &'static str,
}

macro_rules! known {
    ($($name:ident = $check:ident $id:literal $why:literal;)*) => {
        $(pub static $name: Known = Known { id: $id, check: Check::$check, why: $why };)*
        /// All there are.
        pub static ALL: &[&Known] = &[$(&$name),*];
    };
}

known! {
    STRONG_RIGHTS = Access "strong-rights"
        "Whoever has these rights can approve as somebody else, act as what Tagout trusts, or switch off what guards.";
    CLUSTER_ADMINS = Access "cluster-admins"
        "They may do everything, also impersonate an approver: with proof Identity they pass every rule alone.";
    INDIRECT_RIGHTS = Access "indirect-rights"
        "Whoever may start a pod as a service account, or have its token, has all of its rights.";
    MANAGED_RIGHTS = Access "managed-rights"
        "Whoever is in these groups of the cluster's provider or installer may do everything.";
    MASTERS_CALLER = Access "masters-caller"
        "The API server asks nobody whether system:masters may; no role takes it away, and it includes impersonating.";
    MASTERS_BOUND = Access "masters-bound"
        "A binding that names system:masters hides in a group that passes every check by itself.";
    MASTERS_MAPPED = Access "masters-mapped"
        "Whoever has that role of the cloud is in system:masters: nothing in the cluster limits them.";
    CERTIFICATE_FOR_OTHERS = Access "certificate-for-others"
        "Whoever holds the key of that certificate is, to the API server, whom it names, until it ends.";
    DANGLING_BINDING = Access "dangling-binding"
        "Whoever may create the missing role decides what these have.";
    OTHER_AUTHORIZATION = Access "other-authorization"
        "What is allowed outside of RBAC cannot be read from the cluster: nobody can tell here who may do what.";
    MUTATING_WEBHOOK = Admission "mutating-webhook"
        "It runs before Tagout, and can change what an approver writes while it is being written, or protected objects.";
    MUTATING_POLICY = Admission "mutating-policy"
        "It runs before Tagout, and can change what an approver writes while it is being written, or protected objects.";
    OTHERS_FAIL_OPEN = Admission "others-fail-open"
        "When they are away, what they would refuse passes. They guard nothing of Tagout's.";
    RULE_UNREADABLE = Rules "rule-unreadable"
        "What it protects cannot be told; requests that reach it are refused.";
    RULE_MATCHES_NOTHING = Rules "rule-matches-nothing"
        "A rule that covers nothing protects nothing, and its name says that something is protected.";
    RULE_MATCHES_EVERYTHING = Rules "rule-matches-everything"
        "Routine deletions everywhere wait for a person, until somebody takes the whole rule away.";
    RULE_NOT_ENFORCING = Rules "rule-not-enforcing"
        "It refuses nothing yet.";
    RULE_FAILS_OPEN = Rules "rule-fails-open"
        "Whoever can keep Tagout from answering deletes what the rule covers.";
    RULE_LACKS_ACTIONS = Rules "rule-lacks-actions"
        "What an action would have been asked about passes: destroyed by another name is destroyed.";
    PROOF_IDENTITY = Rules "proof-identity"
        "Whoever uses a person's kubeconfig, an agent too, is that person to the API server, and can approve as them.";
    PROOF_SOFTWARE = Rules "proof-software"
        "Whatever runs on an approver's machine can sign with a key that is a file.";
    OWNER_UNCOVERED = Rules "owner-uncovered"
        "Deleting the owner asks nobody, and the garbage collector follows it; only Tagout then stands in its way.";
    PRODUCTION_UNPROTECTED = Namespaces "production-unprotected"
        "By its name or labels people depend on it, and everything in it can be deleted without a person.";
    PRODUCTION_PARTLY = Namespaces "production-partly-protected"
        "By its name or labels people depend on it, and no rule refuses the deletion of what is in it.";
    APPROVAL_OPEN = Approvals "approval-open"
        "It can be used now: what it names is open for destruction.";
    APPROVAL_LONG = Approvals "approval-long"
        "An approval that stands for days is a standing permission.";
    APPROVAL_STALE = Approvals "approval-stale"
        "It does not count now; a signed one may count again when it is put somewhere else, and all of them mislead.";
    NOBODY_CAN_APPROVE = Teams "nobody-can-approve"
        "A guard that nobody can open is a guard that gets removed.";
    TEAM_TOO_SMALL = Teams "team-too-small"
        "Nobody approves their own request: when that person asks, nobody is left.";
    GROUP_OF_UNKNOWN_SIZE = Teams "group-of-unknown-size"
        "Whoever may add people to the group makes approvers, and nothing in the cluster tells who is in it.";
    TEAM_WITHOUT_HARDWARE_KEYS = Teams "team-without-hardware-keys"
        "Only a key that somebody touches keeps out what runs on their machine.";
    TEAM_MISSING = Teams "team-missing"
        "Whoever may create the team that a rule asks says who approves.";
    OLD_API_SERVER = Versions "old-api-server"
        "What Tagout relies on is not there before Kubernetes 1.33.";
    VERSIONS_DIFFER = Versions "versions-differ"
        "Commands and cluster may understand rules differently.";
    REPLICAS_DIFFER = Versions "replicas-differ"
        "Two versions of Tagout write and answer at once; that is right during an upgrade only.";
    AGGREGATED_API = Versions "aggregated-api"
        "What an API server of its own serves can be deleted there, and no webhook is asked.";
    LOCK_OPEN = Tagout "lock-open"
        "Whoever may write Tagout's configurations or its namespace can open what rules protect.";
    UNLOCKED = Tagout "unlocked"
        "Until it ends, they may change what makes Tagout work.";
    NOT_ENFORCED = Tagout "not-enforced"
        "The rule says that it refuses, and the API server does not.";
    RULE_NOT_READY = Tagout "rule-not-ready"
        "The rule is not in force as it is written.";
    NO_EPOCH = Tagout "no-epoch"
        "Approvals by identity count for nothing until Tagout is certain that nobody can plant any.";
    CONFIGURATION_CHANGED = Tagout "configuration-changed"
        "What the API server asks Tagout about is not what the rules say.";
    STRAY_CONFIGURATION = Tagout "stray-configuration"
        "It is named like Tagout's own, and belongs to no rule.";
    STATIC_MANIFEST = Tagout "static-manifest-unseen"
        "Whoever may delete the policies that keep Tagout has a second or two; only the API server's own files close that.";
    SECRETS_UNSEEN = Tagout "secrets-unseen"
        "Approvals and owners on Secrets are not looked at by who may not list Secrets, which is as it should be.";
    IGNORE_EXPIRED = Tagout "ignore-expired"
        "What somebody accepted for a time is to be looked at again.";
    IGNORE_UNMATCHED = Tagout "ignore-unmatched"
        "An entry that matches nothing will swallow what comes back under its name.";
}

/// How to close it: in words, and by commands where one line does.
#[derive(Serialize, Debug, Default, Clone, PartialEq, Eq)]
pub struct Fix {
    pub words: String,
    /// Each as the words of a command line, as no shell has to read them. Those that only look stand first.
    pub commands: Vec<Vec<String>>,
}

impl Fix {
    pub fn words(words: impl Into<String>) -> Self {
        Self { words: words.into(), commands: Vec::new() }
    }

    /// A command that names things of others' making; left out where its words cannot be shown as they are.
    pub fn run(mut self, command: &[&str]) -> Self {
        if command.iter().all(|word| printable(word) == *word) {
            self.commands.push(command.iter().map(|word| (*word).to_owned()).collect());
        }
        self
    }

    /// One more word for the last command.
    pub fn with_last(mut self, word: &str) -> Self {
        if let Some(command) = self.commands.last_mut() {
            command.push(word.to_owned());
        }
        self
    }

    /// `kubectl VERB KIND FLAGS -- NAME`: what begins with a dash is a name here.
    pub fn kubectl(self, verb: &str, kind: &str, flags: &[&str], name: &str) -> Self {
        let dashes: &[&str] = if name.starts_with('-') { &["--"] } else { &[] };
        self.run(&[&["kubectl", verb, kind][..], flags, dashes, &[name]].concat())
    }
}

#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    #[serde(rename = "id", serialize_with = "id")]
    pub known: &'static Known,
    pub severity: Severity,
    /// What it is about, as `Kind/name`.
    pub object: String,
    /// What was found.
    pub says: String,
    pub why: &'static str,
    /// Of rights: by which short names they are called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rights: Vec<&'static str>,
    pub fix: Fix,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn id<S: Serializer>(known: &&'static Known, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(known.id)
}

impl Finding {
    pub fn new(known: &'static Known, severity: Severity, object: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            known,
            severity,
            object: object.into(),
            says: says.into(),
            why: known.why,
            rights: Vec::new(),
            fix: Fix::default(),
        }
    }

    pub fn fix(self, fix: Fix) -> Self {
        Self { fix, ..self }
    }
}

/// Something that could not be looked at, and what was left out by it.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    pub check: Check,
    pub what: String,
    pub reason: String,
}

/// A command as a shell reads it.
pub fn shell(command: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|it| it.is_ascii_alphanumeric() || "-_./:=,@+".contains(it));
    let quoted = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use rstest::rstest;

    use super::*;

    #[test]
    fn no_two_kinds_of_findings_share_a_name() {
        let ids: BTreeSet<_> = ALL.iter().map(|known| known.id).collect();
        assert_eq!(ids.len(), ALL.len());
    }

    #[test]
    fn the_page_about_doctor_tells_of_every_kind_of_finding_and_of_no_other() {
        let page = include_str!("../../../docs/doctor.md");
        let told: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
        let known: Vec<_> = ALL.iter().map(|known| known.id).collect();
        assert_eq!(told, known);
    }

    #[rstest]
    #[case::a_command("$(touch /tmp/pwned)")]
    #[case::quotes("it's; \"x\" `y`")]
    #[case::spaces("a  b")]
    #[case::a_variable("$HOME")]
    #[case::a_star("*")]
    fn a_name_that_a_shell_would_read_otherwise_comes_out_as_it_went_in(#[case] name: &str) {
        let fix = Fix::default().run(&["printf", "%s", name]);
        let output = Command::new("sh").args(["-c", &shell(&fix.commands[0])]).output().expect("a shell");
        assert_eq!(String::from_utf8(output.stdout).expect("text"), name);
    }

    #[test]
    fn a_name_that_looks_like_a_flag_stands_behind_two_dashes() {
        let fix = Fix::default().kubectl("get", "clusterrolebinding", &["-o", "yaml"], "--all");
        assert_eq!(shell(&fix.commands[0]), "kubectl get clusterrolebinding -o yaml -- --all");
    }

    #[rstest]
    #[case("a\nrm -rf /")]
    #[case("a\u{1b}[2Jb")]
    #[case("a\u{202e}b")]
    fn a_name_that_cannot_be_shown_makes_no_command(#[case] name: &str) {
        assert!(Fix::default().kubectl("get", "clusterrolebinding", &[], name).commands.is_empty());
    }
}
