//! The report as one page that needs nothing else: no script, no picture and no style from anywhere.
//!
//! Every name in it was written by somebody in the cluster. All of it is text to the browser, which is told to run and
//! to load nothing.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use base64ct::{Base64, Encoding};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::report::{Report, Requests, Row};
use crate::cli::words::{printable, seconds};

#[derive(Template)]
#[template(path = "report.html", config = "src/cli/preview/askama.toml")]
struct Page {
    style: &'static str,
    style_hash: String,
    source: String,
    time: Option<String>,
    refused: u64,
    objects: usize,
    requests: Requests,
    charts: Vec<Chart>,
    sections: Vec<Section>,
    notes: Vec<String>,
    version: &'static str,
    made: String,
}

struct Chart {
    title: &'static str,
    height: usize,
    bars: Vec<Bar>,
}

struct Bar {
    name: String,
    whole: String,
    count: u64,
    top: usize,
    baseline: usize,
    width: u64,
    end: u64,
}

struct Section {
    title: &'static str,
    /// How its columns are laid out.
    class: &'static str,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

const STYLE: &str = include_str!("report.css");

/// A chart of more bars is no picture any more.
const BARS: usize = 12;
const LINE: usize = 26;
const LEFT: u64 = 340;
const WIDEST: u64 = 480;
/// What fits beside a bar, in letters of one width.
const NAME: usize = 44;

pub fn page(report: &Report, now: Timestamp) -> anyhow::Result<String> {
    let refused: Vec<&Row> = report.rows.iter().filter(|row| row.verdict != "allow").collect();
    let charts = [
        chart("By who asked", &refused, |row| row.requester.clone()),
        chart("By rule and action", &refused, |row| {
            if row.rule.is_empty() { row.action.clone() } else { format!("{}: {}", row.rule, row.action) }
        }),
        chart("By namespace", &refused, |row| row.namespace.clone()),
    ];
    let page = Page {
        style: STYLE,
        style_hash: Base64::encode_string(&Sha256::digest(STYLE)),
        source: printable(&report.source),
        time: report.from.zip(report.until).map(|(from, until)| format!("{} to {}", seconds(from), seconds(until))),
        refused: report.refused(),
        objects: refused.iter().map(|row| row.objects).sum(),
        requests: report.requests,
        charts: charts.into_iter().flatten().collect(),
        sections: sections(report),
        notes: report.notes.iter().map(|note| printable(note)).collect(),
        version: env!("CARGO_PKG_VERSION"),
        made: seconds(now),
    };
    Ok(page.render()?)
}

/// Nothing where there is nothing to compare.
fn chart(title: &'static str, rows: &[&Row], name: impl Fn(&Row) -> String) -> Option<Chart> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        *counts.entry(name(row)).or_default() += row.requests;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
    if counts.len() > BARS {
        let others = counts.split_off(BARS - 1);
        counts.push((format!("{} others", others.len()), others.iter().map(|(_, count)| count).sum()));
    }
    let most = counts.iter().map(|(_, count)| *count).max()?.max(1);
    let bars: Vec<_> = counts.into_iter().enumerate().map(|(at, (name, count))| bar(at, &name, count, most)).collect();
    Some(Chart { title, height: bars.len() * LINE + 8, bars })
}

fn bar(at: usize, name: &str, count: u64, most: u64) -> Bar {
    let name = printable(name);
    let shown = if name.is_empty() { "the cluster".to_owned() } else { name };
    let name = fitted(&shown);
    let width = (count.saturating_mul(WIDEST) / most).max(2);
    Bar { name, whole: shown, count, top: at * LINE + 4, baseline: at * LINE + 18, width, end: LEFT + width + 8 }
}

/// Both ends of a name that is too long: what tells names apart often stands last.
fn fitted(name: &str) -> String {
    // Letters that are no ASCII may be twice as wide.
    let width = |letter: char| if letter.is_ascii() { 1 } else { 2 };
    let within = |most: usize, letters: &mut dyn Iterator<Item = char>| {
        let mut used = 0;
        letters.take_while(|letter| (used += width(*letter), used <= most).1).collect::<Vec<char>>()
    };
    if name.chars().map(width).sum::<usize>() <= NAME {
        return name.to_owned();
    }
    let begin = within(NAME / 3, &mut name.chars());
    let mut end = within(NAME - NAME / 3 - 2, &mut name.chars().rev());
    end.reverse();
    begin.into_iter().chain("…".chars()).chain(end).collect()
}

fn sections(report: &Report) -> Vec<Section> {
    const HEADER: [&str; 12] = [
        "Verdict",
        "Rule",
        "Action",
        "Who",
        "Tool",
        "Kind",
        "Namespace",
        "Requests",
        "Objects",
        "Followed",
        "Last",
        "Rests on",
    ];
    let lines = |rows: Vec<&Row>| rows.into_iter().map(cells).collect();
    let (passed, refused): (Vec<_>, Vec<_>) = report.rows.iter().partition(|row| row.verdict == "allow");
    let untold = report.untold.iter().map(|one| vec![one.requests.to_string(), printable(&one.why)]).collect();
    let examples: BTreeSet<_> = report.rows.iter().flat_map(|row| &row.examples).collect();
    let examples = examples.into_iter().map(|one| vec![printable(one)]).collect();
    let differences = report.agreement.iter().flat_map(|agreement| &agreement.examples);
    let differences = differences.map(|one| vec![printable(one)]).collect();
    let all = [
        Section { title: "Refused", class: "requests", header: HEADER.to_vec(), rows: lines(refused) },
        Section {
            title: "Let pass by approvals and budgets",
            class: "requests",
            header: HEADER.to_vec(),
            rows: lines(passed),
        },
        Section {
            title: "Tried in dry-runs",
            class: "requests",
            header: HEADER.to_vec(),
            rows: lines(report.dry_runs.iter().collect()),
        },
        Section { title: "What cannot be told", class: "", header: vec!["Requests", "Why"], rows: untold },
        Section { title: "Otherwise than at the time", class: "", header: vec!["Request"], rows: differences },
        Section { title: "Examples", class: "", header: vec!["Object"], rows: examples },
    ];
    all.into_iter().filter(|section| !section.rows.is_empty()).collect()
}

fn cells(row: &Row) -> Vec<String> {
    let last = row.last.map(seconds).unwrap_or_default();
    let texts = [&row.verdict, &row.rule, &row.action, &row.requester, &row.tool, &row.kind, &row.namespace];
    let counts = [row.requests.to_string(), row.objects.to_string(), row.consequences.to_string()];
    let ends = [last, printable(&row.rests_on())];
    texts.map(|text| printable(text)).into_iter().chain(counts).chain(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::preview::report::Untold;
    use crate::cli::statements::tests::NOW;

    fn row(requester: &str, requests: u64) -> Row {
        Row {
            rule: "production".to_owned(),
            action: "Delete".to_owned(),
            verdict: "deny".to_owned(),
            requester: requester.to_owned(),
            objects: 1,
            requests,
            examples: vec![format!("deployments.apps \"{requester}\"")],
            ..Row::default()
        }
    }

    #[test]
    fn what_somebody_called_themselves_is_text_wherever_it_stands() {
        let hostile = "</text></svg><script>document.title='gone'</script>\"onload=\"x\u{202e}\u{1b}[2J";
        let mut report = Report { source: hostile.to_owned(), rows: vec![row(hostile, 3)], ..Report::default() };
        report.notes.push(hostile.to_owned());
        report.untold.push(Untold { why: hostile.to_owned(), requests: 1 });
        report.dry_runs.push(row(hostile, 1));
        let page = page(&report, NOW).unwrap();
        assert!(!page.contains("<script") && !page.contains("\"onload"), "{page}");
        assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'), "{page}");
        assert!(page.contains("&#60;script") || page.contains("&lt;script"), "{page}");
    }

    #[test]
    fn the_browser_is_told_to_load_nothing_and_knows_the_style_by_its_hash() {
        let page = page(&Report::default(), NOW).unwrap();
        let hash = Base64::encode_string(&Sha256::digest(STYLE));
        assert!(page.contains(&format!("default-src 'none'; style-src 'sha256-{hash}'")), "{page}");
        assert!(page.contains(&format!("<style>{STYLE}</style>")));
        for loads in ["http://", "https://", "src=", "href=", "url(", " style="] {
            assert!(!page.contains(loads), "{loads}");
        }
    }

    #[test]
    fn a_long_name_fits_beside_its_bar_and_shows_both_its_ends() {
        let long = "system:serviceaccount:continuous-integration-of-payments:deployer-of-everything";
        let shown = fitted(long);
        assert!(shown.starts_with("system:service") && shown.ends_with(":deployer-of-everything"), "{shown}");
        assert_eq!(fitted(&long[..NAME]), long[..NAME]);
        for name in [long.to_owned(), "界".repeat(100), format!("{}x", "é".repeat(50))] {
            let width: usize = fitted(&name).chars().map(|letter| if letter.is_ascii() { 1 } else { 2 }).sum();
            assert!(width <= NAME, "{name}");
        }
        // Letters of 12px are at most 7.3px wide, and the name ends at 330.
        const { assert!(NAME * 73 / 10 <= 330) };
        let page = page(&Report { rows: vec![row(long, 1)], ..Report::default() }, NOW).unwrap();
        assert!(page.contains(&format!("<title>{long}</title>")), "{page}");
    }

    #[test]
    fn what_was_refused_by_no_rule_is_named_by_its_action_alone() {
        let row = Row { rule: String::new(), action: "Loosen".to_owned(), ..row("eve", 1) };
        let page = page(&Report { rows: vec![row], ..Report::default() }, NOW).unwrap();
        assert!(page.contains(">Loosen</text>") && !page.contains(": Loosen"), "{page}");
    }

    #[test]
    fn the_longest_bars_come_first_and_the_rest_is_one() {
        let rows: Vec<_> = (1..=20).map(|number| row(&format!("user-{number}"), number)).collect();
        let rows: Vec<_> = rows.iter().collect();
        let chart = chart("t", &rows, |row| row.requester.clone()).unwrap();
        assert_eq!(chart.bars.len(), BARS);
        assert_eq!((chart.bars[0].name.as_str(), chart.bars[0].count), ("user-20", 20));
        assert_eq!((chart.bars[BARS - 1].name.as_str(), chart.bars[BARS - 1].count), ("9 others", 45));
        assert!(chart.bars.iter().all(|bar| bar.width <= WIDEST));
        assert!(super::chart("t", &[], |row| row.rule.clone()).is_none());
    }
}
