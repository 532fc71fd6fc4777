//! The text of a statement: what a person reads, and what is signed.
//!
//! One line for each thing that is said, in a fixed order. No value can make a line, so no two statements share a
//! text. Documented in docs/signing.md, for whoever signs with `printf` and `ssh-keygen` alone.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Scope, Statement, printable};

/// The longest name that Tagout reads from a review; a reason that is longer is a story.
const LONGEST: usize = 1024;

/// Why a statement has no text, and so can neither be shown nor signed, and never counts.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum Unsignable {
    #[error("its {0} is empty")]
    Empty(&'static str),
    #[error("its {0} is longer than {LONGEST} bytes")]
    TooLong(&'static str),
    #[error("its {0} cannot be shown as it is: it has characters that are invisible, or blanks at its ends")]
    Unprintable(&'static str),
}

impl Statement {
    /// The text in version 1.
    pub fn text(&self) -> Result<String, Unsignable> {
        let mut text = String::from("Tagout approval, version 1\n");
        let mut line = |key: &'static str, value: &str| {
            if value.is_empty() {
                return Err(Unsignable::Empty(key));
            }
            if value.len() > LONGEST {
                return Err(Unsignable::TooLong(key));
            }
            if value != printable(value) || value != value.trim() {
                return Err(Unsignable::Unprintable(key));
            }
            writeln!(text, "{key}: {value}").expect("a string takes everything");
            Ok(())
        };
        line("action", self.action.as_str())?;
        line("resource", &self.resource)?;
        if !self.namespace.is_empty() {
            line("namespace", &self.namespace)?;
        }
        line("name", &self.name)?;
        line("uid", &self.uid)?;
        if self.scope == Scope::Contents {
            line("scope", "Contents")?;
        }
        if self.delete_only {
            line("deleteOnly", "true")?;
        }
        if let Some(new_spec) = &self.new_spec {
            line("newSpec", new_spec)?;
        }
        if let Some(protects) = &self.protects {
            line("protects", &protects.digest)?;
            for uid in &protects.uids {
                line("protects uid", uid)?;
            }
            for kind in &protects.unlisted {
                line("protects unlisted", kind)?;
            }
        }
        line("cluster", &self.cluster)?;
        if let Some(epoch) = &self.epoch {
            line("epoch", epoch)?;
        }
        line("approver", &self.approver)?;
        line("team", &self.team)?;
        match &self.requester {
            Some(requester) => line("requester", requester)?,
            // No name of a requester looks like this line.
            None => line("any requester", "yes")?,
        }
        line("approvedAt", &self.approved_at.to_string())?;
        line("expires", &self.expires.to_string())?;
        if self.break_glass {
            line("breakGlass", "true")?;
        }
        // Last, so that what somebody else had a person write pushes nothing out of sight.
        if let Some(reason) = &self.reason {
            line("reason", reason)?;
        }
        Ok(text)
    }

    /// The hash of the text, by which a statement is revoked.
    pub fn hash(&self) -> Result<String, Unsignable> {
        Ok(sha256(self.text()?.as_bytes()))
    }
}

/// `sha256:` and hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use proptest::option;
    use proptest::prelude::{Just, Strategy, any, prop_oneof};

    use super::*;
    use crate::api::{Action, Protects};

    const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

    fn statement() -> Statement {
        Statement {
            action: Action::Delete,
            uid: "5f0c".into(),
            resource: "deployments.apps".into(),
            namespace: "payments".into(),
            name: "api".into(),
            cluster: "9a1e".into(),
            epoch: None,
            approver: "alice@example.com".into(),
            team: "senior-sre".into(),
            requester: None,
            reason: Some("OPS-1234".into()),
            protects: None,
            new_spec: None,
            approved_at: NOW,
            expires: NOW + SignedDuration::from_mins(30),
            break_glass: false,
            delete_only: false,
            scope: Scope::Object,
            signature: None,
        }
    }

    #[test]
    fn the_text_is_lines_that_a_person_can_read_and_type() {
        let text = "\
Tagout approval, version 1
action: Delete
resource: deployments.apps
namespace: payments
name: api
uid: 5f0c
cluster: 9a1e
approver: alice@example.com
team: senior-sre
any requester: yes
approvedAt: 2026-11-21T10:00:00Z
expires: 2026-11-21T10:30:00Z
reason: OPS-1234
";
        assert_eq!(statement().text().unwrap(), text);
        assert_eq!(statement().hash().unwrap(), sha256(text.as_bytes()));
    }

    #[test]
    fn what_is_rarely_said_has_its_line_too() {
        let all = Statement {
            namespace: String::new(),
            resource: "namespaces".into(),
            name: "payments".into(),
            scope: Scope::Contents,
            new_spec: Some("deleted".into()),
            protects: Some(Protects {
                digest: "sha256:00".into(),
                uids: vec!["u1".into()],
                unlisted: vec!["secrets".into()],
            }),
            epoch: Some("e1".into()),
            requester: Some("agent-7".into()),
            break_glass: true,
            delete_only: true,
            ..statement()
        };
        let text = all.text().unwrap();
        for line in [
            "\nscope: Contents\n",
            "\nnewSpec: deleted\n",
            "\nprotects: sha256:00\nprotects uid: u1\nprotects unlisted: secrets\n",
            "\nepoch: e1\n",
            "\nrequester: agent-7\n",
            "\nbreakGlass: true\n",
            "\ndeleteOnly: true\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("any requester") && !text.contains("\nnamespace:"));
    }

    #[test]
    fn a_value_that_would_make_a_line_or_hide_one_has_no_text() {
        for reason in ["a\nrequester: x", "a\r", " a", "a ", "\u{202e}a", "a\u{200b}b", "\u{85}", "\u{2028}"] {
            let spoofed = Statement { reason: Some(reason.into()), ..statement() };
            assert_eq!(spoofed.text(), Err(Unsignable::Unprintable("reason")), "{reason:?}");
        }
        assert_eq!(Statement { name: String::new(), ..statement() }.text(), Err(Unsignable::Empty("name")));
        assert_eq!(
            Statement { requester: Some(String::new()), ..statement() }.text(),
            Err(Unsignable::Empty("requester"))
        );
    }

    /// Reads a text back. If this finds every field again, no two statements share a text.
    fn read(text: &str) -> Statement {
        let mut lines = text.strip_suffix('\n').unwrap().split('\n');
        assert_eq!(lines.next(), Some("Tagout approval, version 1"));
        let lines: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
        let find = |key: &str| lines.iter().find(|(own, _)| *own == key).map(|(_, value)| (*value).to_owned());
        let all =
            |wanted: &str| lines.iter().filter(|(key, _)| *key == wanted).map(|(_, one)| (*one).to_owned()).collect();
        let (uids, unlisted) = (all("protects uid"), all("protects unlisted"));
        Statement {
            action: if find("action").unwrap() == "Delete" { Action::Delete } else { Action::Loosen },
            uid: find("uid").unwrap(),
            resource: find("resource").unwrap(),
            namespace: find("namespace").unwrap_or_default(),
            name: find("name").unwrap(),
            cluster: find("cluster").unwrap(),
            epoch: find("epoch"),
            approver: find("approver").unwrap(),
            team: find("team").unwrap(),
            requester: find("requester"),
            reason: find("reason"),
            protects: find("protects").map(|digest| Protects { digest, uids, unlisted }),
            new_spec: find("newSpec"),
            approved_at: find("approvedAt").unwrap().parse().unwrap(),
            expires: find("expires").unwrap().parse().unwrap(),
            break_glass: find("breakGlass").is_some(),
            delete_only: find("deleteOnly").is_some(),
            scope: if find("scope").is_some() { Scope::Contents } else { Scope::Object },
            signature: None,
        }
    }

    /// Words that try to be lines.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z:]{1,6}",
            Just("any requester: yes".to_owned()),
            Just("a\nteam: b".to_owned()),
            Just("requester: a".to_owned()),
            Just(String::new()),
            ".{0,8}",
        ]
    }

    fn statements() -> impl Strategy<Value = Statement> {
        let words = (word(), word(), word(), word(), word(), word(), word());
        let options = (option::of(word()), option::of(word()), option::of(word()), option::of(word()));
        let several = || proptest::collection::vec(word(), 0..3);
        let protects = option::of((word(), several(), several()));
        let rest = (0..2_000_000_i64, 0..2_000_000_000_i64, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (words, options, protects, rest).prop_map(|(words, options, protects, rest)| Statement {
            uid: words.0,
            resource: words.1,
            namespace: words.2,
            name: words.3,
            cluster: words.4,
            approver: words.5,
            team: words.6,
            epoch: options.0,
            requester: options.1,
            reason: options.2,
            new_spec: options.3,
            protects: protects.map(|(digest, uids, unlisted)| Protects { digest, uids, unlisted }),
            approved_at: NOW + SignedDuration::from_secs(rest.0),
            expires: NOW + SignedDuration::from_nanos(rest.1),
            action: if rest.2 { Action::Delete } else { Action::Loosen },
            break_glass: rest.3,
            delete_only: rest.5,
            scope: if rest.4 { Scope::Contents } else { Scope::Object },
            signature: None,
        })
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(5000))]
        #[test]
        fn no_two_statements_share_a_text(statement in statements()) {
            if let Ok(text) = statement.text() {
                proptest::prop_assert_eq!(read(&text), statement);
            }
        }
    }
}
