//! What a person names on the command line.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::Arguments;

/// Something to approve, look at or take back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An object, by kind and name.
    Named { kind: String, name: String },
    /// A request that was refused, by the id in its refusal: `to-3f9a2c41`.
    Request(String),
}

/// `KIND/NAME …`, `KIND NAME …`, or ids of requests.
pub fn targets(words: &[String]) -> Result<Vec<Target>, String> {
    let Some(first) = words.first() else { return Err("name an object, like deployment/api".to_owned()) };
    if !first.contains('/') && !is_request_id(first) {
        let names = &words[1..];
        if names.is_empty() {
            return Err(format!("name the object too, like {first}/NAME"));
        }
        if let Some(both) = names.iter().find(|name| name.contains('/')) {
            return Err(format!("name every object alike, as KIND/NAME: {both:?} is, and {first:?} is not"));
        }
        return names.iter().map(|name| named(first, name)).collect();
    }
    words.iter().map(|word| target(word)).collect()
}

fn target(word: &str) -> Result<Target, String> {
    if is_request_id(word) {
        return Ok(Target::Request(word.to_owned()));
    }
    let (kind, name) = word.split_once('/').ok_or_else(|| format!("name the object as KIND/NAME, like {word}/NAME"))?;
    named(kind, name)
}

fn named(kind: &str, name: &str) -> Result<Target, String> {
    if kind.is_empty() || name.is_empty() || name.contains('/') {
        return Err("name the object as KIND/NAME, like deployment/api".to_owned());
    }
    Ok(Target::Named { kind: kind.to_owned(), name: name.to_owned() })
}

fn is_request_id(word: &str) -> bool {
    let digits = word.strip_prefix("to-").unwrap_or_default();
    digits.len() == 8 && digits.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit))
}

/// As clap itself answers wrong usage.
pub fn misused(command: &str, words: String) -> ! {
    let mut all = Arguments::command();
    all.build();
    let one = all.find_subcommand(command).cloned();
    one.unwrap_or(all).error(ErrorKind::ValueValidation, words).exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Vec<Target>, String> {
        targets(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn object(kind: &str, name: &str) -> Target {
        Target::Named { kind: kind.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn an_object_is_named_by_one_word_or_two() {
        assert_eq!(read(&["deploy/api"]), Ok(vec![object("deploy", "api")]));
        assert_eq!(read(&["deploy", "api"]), Ok(vec![object("deploy", "api")]));
    }

    #[test]
    fn several_objects_are_named_as_kubectl_has_them_named() {
        assert_eq!(read(&["deploy/api", "sts/db"]), Ok(vec![object("deploy", "api"), object("sts", "db")]));
        assert_eq!(read(&["deploy", "api", "web"]), Ok(vec![object("deploy", "api"), object("deploy", "web")]));
    }

    #[test]
    fn a_request_is_named_by_its_id() {
        assert_eq!(read(&["to-3f9a2c41"]), Ok(vec![Target::Request("to-3f9a2c41".to_owned())]));
        assert!(read(&["to-3f9a2c4"]).is_err());
        assert!(read(&["to-3F9A2C41"]).is_err());
    }

    #[test]
    fn what_names_no_object_is_answered_with_what_to_type() {
        assert!(read(&["deploy"]).unwrap_err().contains("deploy/NAME"));
        assert!(read(&["deploy", "sts/db"]).unwrap_err().contains("alike"));
        assert!(read(&["deploy/"]).is_err());
        assert!(read(&["deploy/api/status"]).is_err());
        assert!(read(&[]).is_err());
    }
}
