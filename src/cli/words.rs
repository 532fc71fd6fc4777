//! How things are said on a terminal.

use std::io::{ErrorKind, Write};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::{SignedDuration, Timestamp};

pub use crate::api::printable;
use crate::guard::Missing;

/// To standard output. A reader that has seen enough (`| head`) is no error.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Where words for people go: beside what programs read, if that is on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    Out,
    Error,
}

impl Voice {
    pub fn say(self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Out => say(text),
            Self::Error => {
                eprint!("{text}");
                Ok(())
            }
        }
    }
}

/// `2026-11-21T10:30:05Z (in 30m)`
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", seconds(at), relative(at, now))
}

pub fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let distance = at.duration_since(now);
    if distance.is_negative() { format!("{} ago", rough(distance.abs())) } else { format!("in {}", rough(distance)) }
}

/// The two largest units, as kubectl's AGE says it.
pub fn rough(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", seconds / 86_400), ("h", seconds / 3600 % 24), ("m", seconds / 60 % 60), ("s", seconds % 60)];
    let Some(first) = units.iter().position(|(_, count)| *count > 0) else { return "0s".to_owned() };
    let said = units[first..].iter().take(2).filter(|(_, count)| *count > 0);
    said.flat_map(|(unit, count)| [count.to_string(), (*unit).to_owned()]).collect()
}

pub fn people(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// One long cell, which anyone may write, would push all others off the screen. Names are at most 253.
const WIDEST: usize = 253;

/// Columns like kubectl's, without lines.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| {
            let cell = printable(&cell);
            if cell.chars().count() <= WIDEST { cell } else { cell.chars().take(WIDEST).chain("…".chars()).collect() }
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "0s")]
    #[case(59, "59s")]
    #[case(1800, "30m")]
    #[case(1799, "29m59s")]
    #[case(5400, "1h30m")]
    #[case(86_400 + 59, "1d")]
    #[case(90_000, "1d1h")]
    fn a_duration_is_said_in_its_two_largest_units(#[case] seconds: i64, #[case] said: &str) {
        assert_eq!(rough(SignedDuration::from_secs(seconds)), said);
    }

    #[test]
    fn a_moment_is_said_in_full_and_by_its_distance() {
        let now: Timestamp = "2026-11-21T10:00:05.25Z".parse().unwrap();
        let at: Timestamp = "2026-11-21T10:30:05.25Z".parse().unwrap();
        assert_eq!(moment(at, now), "2026-11-21T10:30:05Z (in 30m)");
        assert_eq!(moment(now, at), "2026-11-21T10:00:05Z (30m ago)");
    }

    #[test]
    fn no_control_character_of_others_reaches_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\nb"), "a [2J b");
        assert!(!table(["A"], [["\u{1b}[31mred".to_owned()]]).contains('\u{1b}'));
    }

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_words_end() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "N"], rows), "NAME     N\na        1\nlonger\n");
    }
}
