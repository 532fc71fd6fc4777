use rstest::rstest;

use super::*;
use crate::notify::told::Data;

/// Writes a configuration with a file beside it, and reads it.
fn configured(text: &str) -> Result<Vec<Settings>, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("url"), "https://hooks.example.com/services/T0/SECRET\n").unwrap();
    fs::write(folder.path().join("token"), "Bearer SECRET\n").unwrap();
    fs::write(folder.path().join("bad-url"), "not a SECRET url").unwrap();
    fs::write(folder.path().join("large"), "x".repeat((1 << 20) + 1)).unwrap();
    std::os::unix::fs::symlink("/proc/self/environ", folder.path().join("link")).unwrap();
    let file = folder.path().join("notifications.yaml");
    fs::write(&file, text).unwrap();
    read(&file)
}

fn sink(rest: &str) -> Result<Settings, String> {
    configured(&format!("clusterName: prod\nsinks:\n- {{name: one, {rest}}}\n")).map(|mut all| all.remove(0))
}

#[test]
fn secrets_are_read_from_files_beside_it() {
    let read = sink("urlFile: url, headersFile: {Authorization: token}, format: Slack").unwrap();
    assert_eq!(read.url, "https://hooks.example.com/services/T0/SECRET");
    assert_eq!(read.headers["authorization"], "Bearer SECRET");
    assert!(read.headers["authorization"].is_sensitive());
    assert_eq!(read.repeat, REPEAT);
}

#[rstest]
#[case("urls: x", "unknown field")]
#[case("'https://a/SECRET': x", "unknown field `(not shown)`")]
#[case("'https://a/SECRET`, expected x': x", "unknown field `(not shown)`")]
#[case("url: 'https://a', headers: {SECRET/: x, SECRET/: x}", "duplicate mapping key: (not shown)")]
#[case("urlFile: /proc/self/environ", "none of yours")]
#[case("urlFile: /sys/kernel/notes", "none of yours")]
#[case("urlFile: /dev/null", "is no file")]
#[case("urlFile: .", "is no file")]
#[case("urlFile: large", "larger than 1 MiB")]
#[case("urlFile: link", "none of yours")]
#[case("format: Slack", "give one of url and urlFile")]
#[case("url: 'https://a', urlFile: url", "give one of url and urlFile")]
#[case("url: 'http://a.example'", "write https, or insecureHttp")]
#[case("url: 'ftp://a.example'", "not https")]
#[case("url: 'https://user:SECRET@a.example'", "password in it")]
#[case("urlFile: bad-url", "the URL")]
#[case("urlFile: missing", "cannot be read")]
#[case("url: 'https://a', headers: {'a b': x}", "the header")]
#[case("url: 'https://a', headers: {Host: x}", "not yours to set")]
#[case("url: 'https://a', format: SECRET", "expected")]
#[case("url: {SECRET: 1}", "expected")]
#[case("url: 'https://a', types: [deleted]", "expected")]
#[case("url: 'https://a', repeat: often", "like 4h")]
#[case("url: 'https://a', proxy: 'https://p'", "http://host:3128")]
#[case("url: 'https://a', proxy: 'http://u:SECRET@p'", "without a password")]
#[case("url: 'http://a/', insecureHttp: true, proxy: 'http://p:1'", "write its port")]
#[case("url: 'https://a', caFile: url", "as PEM")]
#[case("url: 'https://a', format: PagerDuty", "routingKeyFile")]
#[case("url: 'https://a', routingKeyFile: token", "routingKeyFile")]
fn what_is_wrong_is_said_without_what_is_secret(#[case] wrong: &str, #[case] words: &str) {
    let error = sink(wrong).err().unwrap();
    assert!(error.contains(words), "{error}");
    assert!(!error.contains("SECRET"), "{error}");
}

#[test]
fn names_are_needed_and_are_each_their_own() {
    let one = "{name: a, url: 'https://a'}";
    for (text, words) in [
        (format!("sinks: [{one}]"), "clusterName"),
        (format!("clusterName: 'a b'\nsinks: [{one}]"), "clusterName has to be"),
        (format!("clusterName: a\nsinks: [{one}, {one}]"), "two sinks are called a"),
        ("clusterName: a\nsinks: [{name: 'a\"b', url: 'https://a'}]".to_owned(), "a sink's name has to be"),
        ("[]".to_owned(), ""),
        ("\u{0}".to_owned(), ""),
    ] {
        let error = configured(&text).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_sink_hears_what_it_asked_for_and_what_is_about_no_rule() {
    let read = sink("url: 'https://a', types: [denied, unlocked], rules: ['prod*'], namespaces: [payments]").unwrap();
    let told = |kind, rule: &str, namespace: &str| {
        let rules = Some(rule.to_owned()).filter(|rule| !rule.is_empty()).into_iter().collect();
        Notification::new(
            kind,
            jiff::Timestamp::UNIX_EPOCH,
            Data { rules, namespace: namespace.to_owned(), ..Data::default() },
        )
    };
    assert!(read.wants(&told(Kind::Denied, "production", "payments")));
    assert!(!read.wants(&told(Kind::Denied, "staging", "payments")));
    assert!(!read.wants(&told(Kind::Denied, "production", "other")));
    assert!(!read.wants(&told(Kind::BrokeGlass, "production", "payments")));
    assert!(read.wants(&told(Kind::Unlocked, "", "")));
    assert!(read.wants(&told(Kind::NotificationsChanged, "", "")));
}

#[test]
fn what_only_ends_an_alert_is_told_to_who_keeps_alerts() {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let quiet = Notification::new(Kind::Reached, at, Data::default()).quietly();
    for (format, hears) in [("CloudEvents", false), ("Slack", false), ("Alertmanager", true)] {
        let read = sink(&format!("url: 'https://a', format: {format}")).unwrap();
        assert_eq!(read.wants(&quiet), hears, "{format}");
        assert!(read.wants(&Notification { quiet: false, ..quiet.clone() }));
    }
}
