//! The same as drawings. Names in them were given by anyone: they are quoted so that they stay names.

use std::fmt::Write;

use super::report::Impact;
use crate::api::printable;

/// For Graphviz.
pub fn dot(impacts: &[Impact]) -> String {
    let mut text = "digraph impact {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    draw(impacts, |id, label, alarm| {
        let label = dot_quoted(label);
        let colour = if alarm { ", color=red, fontcolor=red" } else { "" };
        let _ = writeln!(text, "  {id} [label={label}{colour}];");
    });
    draw_edges(impacts, |from, to| {
        let _ = writeln!(text, "  {from} -> {to};");
    });
    text.push_str("}\n");
    text
}

/// For Markdown.
pub fn mermaid(impacts: &[Impact]) -> String {
    let mut text = "graph LR\n".to_owned();
    let mut alarms = Vec::new();
    draw(impacts, |id, label, alarm| {
        let _ = writeln!(text, "  {id}[\"{}\"]", mermaid_quoted(label));
        if alarm {
            alarms.push(id.to_owned());
        }
    });
    draw_edges(impacts, |from, to| {
        let _ = writeln!(text, "  {from} --> {to}");
    });
    if !alarms.is_empty() {
        let _ = writeln!(text, "  classDef destroyed stroke:#c00,color:#c00\n  class {} destroyed", alarms.join(","));
    }
    text
}

fn draw(impacts: &[Impact], mut node: impl FnMut(&str, &str, bool)) {
    for (number, impact) in impacts.iter().enumerate() {
        node(&root(number), &impact.object.title(), false);
        for (at, branch) in impact.goes().branches.iter().enumerate() {
            node(&place(number, at), &branch.text, branch.alarm);
        }
    }
}

fn draw_edges(impacts: &[Impact], mut edge: impl FnMut(&str, &str)) {
    for (number, impact) in impacts.iter().enumerate() {
        for (at, branch) in impact.goes().branches.iter().enumerate() {
            let from = branch.parent.map_or_else(|| root(number), |parent| place(number, parent));
            edge(&from, &place(number, at));
        }
    }
}

fn root(number: usize) -> String {
    format!("r{number}")
}

fn place(number: usize, at: usize) -> String {
    format!("r{number}n{at}")
}

fn dot_quoted(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('\\', "\\\\").replace('"', "\\\""))
}

/// Mermaid reads markup in labels: what is not plain is written as its number.
fn mermaid_quoted(text: &str) -> String {
    let mut quoted = String::new();
    for character in printable(text).chars() {
        if character.is_alphanumeric() || " -._/:,×…".contains(character) {
            quoted.push(character);
        } else {
            let _ = write!(quoted, "#{};", u32::from(character));
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::impact::report::tests::impact;

    #[test]
    fn everything_is_joined_to_what_takes_it_along() {
        let drawn = dot(&[impact()]);
        assert!(drawn.contains("r0n1 [label=\"Pod api-1-\\\"x, ready\"];"), "{drawn}");
        assert!(drawn.contains("r0 -> r0n0;") && drawn.contains("r0n0 -> r0n1;"), "{drawn}");
        let drawn = mermaid(&[impact(), impact()]);
        assert!(drawn.starts_with("graph LR\n  r0[\"Deployment api in payments\"]\n"), "{drawn}");
        assert!(drawn.contains("r0n0 --> r0n1") && drawn.contains("r1n0 --> r1n1"), "{drawn}");
        assert!(drawn.contains("r0n1[\"Pod api-1-#34;x, ready\"]"), "{drawn}");
    }

    #[test]
    fn no_name_ends_its_quotation() {
        assert_eq!(dot_quoted(r#"a"];x\"#), r#""a\"];x\\""#);
        assert_eq!(mermaid_quoted("a\"]\n<b>"), "a#34;#93; #60;b#62;");
        assert_eq!(mermaid_quoted("Pod api-1, ready"), "Pod api-1, ready");
    }
}
