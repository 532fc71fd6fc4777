//! What a command said, for tests to judge.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What a command said.
#[derive(Debug)]
pub struct Outcome {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn of(command: &mut Command, input: &str) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        // A command that does not read its input may have closed it.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
        Self {
            ok: status.success(),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.ok, "it should have succeeded: {}{}", self.out, self.err);
        self
    }

    /// It failed, and said each of these.
    #[expect(clippy::wrong_self_convention, reason = "it reads as the assertion it is")]
    #[track_caller]
    pub fn is_refused(self, words: &[&str]) -> Self {
        assert!(!self.ok, "it should have been refused: {}", self.out);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in: {}", self.err);
        }
        self
    }
}
