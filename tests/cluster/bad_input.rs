//! Whatever is sent to the process, it answers with a clear refusal, stays up, and answers the next proper review.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{World, shared, text};

/// A text that every bad body holds, and no answer and no log.
const MARKER: &str = "hunter2-MARKER";
pub const RULE: &str = "/v1/rules/production";
const APPROVALS: &str = "/v1/approvals";
pub const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

#[derive(Debug)]
pub struct Reply {
    /// 0: there was no answer.
    pub status: u16,
    pub body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

pub fn curl(world: &World, path: &str, args: &[&str], input: &[u8]) -> Reply {
    let url = format!("https://{}{path}", world.tagout.address());
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--insecure",
        "--http1.1",
        "--path-as-is",
        "--max-time",
        "40",
        "--write-out",
        "\n%{http_code}",
    ]);
    command.args(args).arg(url).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("curl is installed");
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let out = child.wait_with_output().expect("it ends").stdout;
    let out = String::from_utf8_lossy(&out).into_owned();
    let (body, status) = out.rsplit_once('\n').expect("a status");
    Reply { status: status.parse().expect("a number"), body: body.to_owned() }
}

pub fn post(path: &str, body: impl AsRef<[u8]>) -> Reply {
    curl(shared(), path, &[&JSON[..], &["--data-binary", "@-"]].concat(), body.as_ref())
}

/// A deletion as the API server would review it.
pub fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0b4f0c1e-1f0a-4d1e-9d53-000000000001",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "name": "api",
            "namespace": "nowhere",
            "operation": "DELETE",
            "userInfo": {"username": "agent-7", "groups": ["system:masters"]},
            "object": null,
            "oldObject": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "api", "namespace": "nowhere", "uid": "u-1", "annotations": {"note": MARKER}},
                "spec": {"note": MARKER},
            },
            "dryRun": false,
        },
    })
}

fn with(path: &str, value: Value) -> String {
    let mut review = review();
    let (parent, field) = path.rsplit_once('/').expect("a path");
    review.pointer_mut(parent).expect("it is there")[field] = value;
    review.to_string()
}

fn without(path: &str) -> String {
    let mut review = review();
    let (parent, field) = path.rsplit_once('/').expect("a path");
    review.pointer_mut(parent).and_then(Value::as_object_mut).expect("it is there").remove(field);
    review.to_string()
}

/// An object presented for approval, as the API server would review it.
fn presented() -> Value {
    let object = |annotations: Value| json!({"metadata": {"name": "api", "uid": "u-1", "labels": {"tagout.dev/approval": ""}, "annotations": annotations}});
    let mut review = review();
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["oldObject"] = object(json!({"note": MARKER}));
    review["request"]["object"] = object(json!({"note": MARKER, "tagout.dev/approval": "[]"}));
    review
}

#[track_caller]
pub fn is_a_denial(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json()["response"].clone();
    assert_eq!(answer["allowed"], false, "{reply:?}");
    answer
}

/// The process is the one it was, and answers.
#[track_caller]
pub fn serves(world: &World) {
    let started = Instant::now();
    let reply = curl(world, RULE, &[&JSON[..], &["--data-binary", "@-"]].concat(), review().to_string().as_bytes());
    is_a_denial(&reply);
    assert!(started.elapsed() < Duration::from_secs(5), "answered after {:?}", started.elapsed());
    assert_eq!(curl(world, "/healthz", &[], b"").body, "ok\n");
    // A process that was started anew would have said so again.
    assert_eq!(world.tagout.log().matches("\"serving\"").count(), 1);
}

/// A denial in so many words: what cannot be read may have been made so, and an error would be let pass by entries that
/// are open while Tagout is away.
fn is_denied(reply: &Reply) -> bool {
    reply.status == 200 && reply.body.contains("\"allowed\":false") && reply.body.contains("\"Undecided\"")
}

/// Each is answered with this status, or denied, and with these words, and never holds what was sent.
#[track_caller]
fn all_are_refused(cases: &[(&str, Reply, &[u16], &str)]) {
    let wrong: Vec<_> = cases
        .iter()
        .filter(|(_, reply, statuses, words)| {
            !(statuses.contains(&reply.status) || (statuses.contains(&400) && is_denied(reply)))
                || !reply.body.contains(words)
                || reply.body.trim().is_empty()
                || reply.body.contains(MARKER)
                || reply.body.replace(' ', "").contains("\"allowed\":true")
        })
        .map(|(what, reply, statuses, words)| format!("{what}: {reply:?}, not {statuses:?} {words:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!shared().tagout.log().contains(MARKER));
    serves(shared());
}

#[test]
fn a_proper_review_is_answered_as_the_api_server_expects() {
    let reply = post(RULE, review().to_string());
    let answer = is_a_denial(&reply);
    assert_eq!(
        (&reply.json()["apiVersion"], &reply.json()["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    assert_eq!(answer["uid"], review()["request"]["uid"]);
    let status = &answer["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
    assert!(text(&status["message"]).starts_with("tagout: denied Delete of deployments.apps \"api\" in \"nowhere\""));
    let details = &status["details"];
    for (field, value) in [("name", "api"), ("group", "apps"), ("kind", "deployments"), ("uid", "u-1")] {
        assert_eq!(details[field], value, "{field}");
    }
    let causes = details["causes"].as_array().expect("causes");
    assert!(causes.contains(&json!({"reason": "ApprovalRequired", "message": "rule production"})), "{causes:?}");
    let audit = answer["auditAnnotations"].as_object().expect("audit annotations");
    assert!(!audit.is_empty());
    for (key, value) in audit {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        assert!(key.len() <= 63 && key.chars().all(plain), "{key}");
        assert!(ends(key.chars().next()) && ends(key.chars().last()), "{key}");
        assert!(value.is_string(), "{key}");
    }
    assert!(!reply.body.contains(MARKER));
}

#[test]
fn warnings_stay_within_what_the_api_server_passes_on() {
    let world = shared();
    let mut warning = crate::world::rule("bad-input-warn", "bad-input-warn");
    warning["spec"]["mode"] = json!("Warn");
    world.rule(&warning);
    let mut long = review();
    long["request"]["oldObject"]["metadata"]["name"] = json!(format!("a\r\n\u{1b}[31m{}", "ä".repeat(100)));
    let answer = post("/v1/rules/bad-input-warn", long.to_string()).json()["response"].clone();
    let warnings = answer["warnings"].as_array().expect("warnings");
    for warning in warnings {
        let warning = text(warning);
        assert!(warning.chars().count() <= 256 && !warning.chars().any(char::is_control), "{warning:?}");
    }
    let message = text(&is_a_denial(&post(RULE, long.to_string()))["status"]["message"]);
    let strange = |c: char| c.is_control() && c != '\n';
    assert!(!message.contains(strange) && message.lines().count() < 12, "{message:?}");
}

#[test]
fn another_method_path_or_content_type_is_told_what_is_right() {
    const TYPE: &str = "Content-Type must be application/json";
    let body = review().to_string();
    let world = shared();
    let with_type = |kind: &str| curl(world, RULE, &["-H", kind, "--data-binary", "@-"], body.as_bytes());
    let method = |path: &str, method: &str| curl(world, path, &["-X", method], b"");
    all_are_refused(&[
        ("GET a rule", method(RULE, "GET"), &[405], ""),
        ("PUT a rule", method(RULE, "PUT"), &[405], ""),
        ("DELETE a rule", method(RULE, "DELETE"), &[405], ""),
        ("OPTIONS a rule", method(RULE, "OPTIONS"), &[405], ""),
        ("an invented method", method(RULE, "BREW"), &[405], ""),
        ("GET approvals", method(APPROVALS, "GET"), &[405], ""),
        ("POST healthz", method("/healthz", "POST"), &[405], ""),
        ("POST readyz", method("/readyz", "POST"), &[405], ""),
        ("the root", post("/", &body), &[404], ""),
        ("no rule", post("/v1/rules/", &body), &[404], ""),
        ("all rules", post("/v1/rules", &body), &[404], ""),
        ("a rule below a rule", post("/v1/rules/production/x", &body), &[404], ""),
        ("another version", post("/v2/rules/production", &body), &[404], ""),
        ("a way up", post("/v1/../v1/rules/production", &body), &[404], ""),
        ("metrics on the webhook's port", curl(world, "/metrics", &[], b""), &[404], ""),
        ("a form", with_type("Content-Type: application/x-www-form-urlencoded"), &[400], TYPE),
        ("plain text", with_type("Content-Type: text/plain"), &[400], TYPE),
        ("YAML", with_type("Content-Type: application/yaml"), &[400], TYPE),
        ("nearly JSON", with_type("Content-Type: application/jsonx"), &[400], TYPE),
        ("no type", with_type("Content-Type:"), &[400], TYPE),
    ]);
    is_a_denial(&with_type("Content-Type: application/json; charset=utf-8"));
}

#[test]
fn a_rule_that_is_not_known_is_never_an_answer() {
    const WORDS: &str = "is not in force as far as this replica knows";
    let body = review().to_string();
    let unknown = |name: &str| post(&format!("/v1/rules/{name}"), &body);
    all_are_refused(&[
        ("unknown", unknown("nobody-made-this"), &[500], WORDS),
        ("250 characters", unknown(&"a".repeat(250)), &[500, 404, 400], ""),
        ("20,000 characters", unknown(&"a".repeat(20_000)), &[500, 404, 400, 414, 431], ""),
        ("a slash", unknown("a%2Fb"), &[500, 404, 400], ""),
        ("a way up", unknown("..%2Fproduction"), &[500, 404, 400], ""),
        ("a line break", unknown("a%0d%0ab"), &[500, 404, 400], ""),
        ("no UTF-8", unknown("%ff%fe"), &[400, 404], ""),
        ("a NUL", unknown("production%00"), &[500, 404, 400], ""),
        ("upper case", unknown("Production"), &[500, 404, 400], ""),
    ]);
}

#[test]
fn a_body_that_is_no_review_is_told_what_it_lacks() {
    const NOT: &str = "the body is not an AdmissionReview";
    const METADATA: &str = "no object with metadata";
    let whole = review().to_string();
    let cut = |at: usize| post(RULE, &whole[..at]);
    let spoilt = |bytes: &[u8]| post(RULE, [whole.as_bytes(), bytes].concat());
    let in_text = |bytes: &[u8]| {
        let at = whole.find(MARKER).expect("it is there");
        post(RULE, [&whole.as_bytes()[..at], bytes, &whole.as_bytes()[at..]].concat())
    };
    let twice = whole.replacen("\"request\":", "\"request\":{},\"request\":", 1);
    all_are_refused(&[
        ("empty", post(RULE, ""), &[400], "it ends early"),
        ("text", post(RULE, MARKER), &[400], NOT),
        ("a string", post(RULE, format!("\"{MARKER}\"")), &[400], NOT),
        ("a list", post(RULE, format!("[{whole}]")), &[400], NOT),
        ("null", post(RULE, "null"), &[400], NOT),
        ("an empty object", post(RULE, "{}"), &[400], "admission.k8s.io/v1 and AdmissionReview"),
        ("half", cut(whole.len() / 2), &[400], NOT),
        ("all but the end", cut(whole.len() - 1), &[400], "it ends early"),
        ("something after it", spoilt(b"{}"), &[400], NOT),
        ("a NUL after it", spoilt(b"\0"), &[400], NOT),
        ("a NUL in a text", in_text(b"\0"), &[400], NOT),
        ("no UTF-8 in a text", in_text(b"\xff\xfe"), &[400, 200], ""),
        ("a request twice", post(RULE, twice), &[400], NOT),
        ("v1beta1", post(RULE, with("/apiVersion", json!("admission.k8s.io/v1beta1"))), &[400], "admission.k8s.io/v1"),
        ("another kind", post(RULE, with("/kind", json!("Pod"))), &[400], "AdmissionReview"),
        ("no kind", post(RULE, without("/kind")), &[400], "AdmissionReview"),
        ("no request", post(RULE, without("/request")), &[400], "the review has no request"),
        ("null request", post(RULE, with("/request", Value::Null)), &[400], "the review has no request"),
        ("no uid", post(RULE, without("/request/uid")), &[400], "line 1 column"),
        ("an empty uid", post(RULE, with("/request/uid", json!(""))), &[400], "no uid"),
        ("no user", post(RULE, without("/request/userInfo")), &[400], "no userInfo.username"),
        ("a user without a name", post(RULE, with("/request/userInfo", json!({}))), &[400], "no userInfo.username"),
        ("null user", post(RULE, with("/request/userInfo", Value::Null)), &[400], ""),
        ("no resource", post(RULE, without("/request/resource")), &[400], NOT),
        ("no old object", post(RULE, without("/request/oldObject")), &[400], "no oldObject"),
        ("null old object", post(RULE, with("/request/oldObject", Value::Null)), &[400], "no oldObject"),
        ("no metadata", post(RULE, without("/request/oldObject/metadata")), &[400], METADATA),
        ("null metadata", post(RULE, with("/request/oldObject/metadata", Value::Null)), &[400], METADATA),
        (
            "an object without uid",
            post(RULE, without("/request/oldObject/metadata/uid")),
            &[400],
            "oldObject.metadata.uid",
        ),
        (
            "an object without name",
            post(RULE, without("/request/oldObject/metadata/name")),
            &[400],
            "oldObject.metadata.uid and name",
        ),
        ("a number as name", post(RULE, with("/request/oldObject/metadata/name", json!(5))), &[400], METADATA),
        ("a number as uid", post(RULE, with("/request/uid", json!(5))), &[400], NOT),
        ("a number as user", post(RULE, with("/request/userInfo/username", json!(5))), &[400], NOT),
        ("a text as groups", post(RULE, with("/request/userInfo/groups", json!(MARKER))), &[400], NOT),
        ("a text as dryRun", post(RULE, with("/request/dryRun", json!("true"))), &[400], NOT),
        (
            "numbers as labels",
            post(RULE, with("/request/oldObject/metadata/labels", json!({"a": 1}))),
            &[400],
            METADATA,
        ),
        (
            "a list as annotations",
            post(RULE, with("/request/oldObject/metadata/annotations", json!([1]))),
            &[400],
            METADATA,
        ),
        (
            "a number as approval",
            post(RULE, with("/request/oldObject/metadata/annotations", json!({"tagout.dev/approval": 1}))),
            &[400],
            METADATA,
        ),
    ]);
}

#[test]
fn a_path_answers_its_own_operation_only() {
    let operation = |path: &str, of: &Value, operation: &str| {
        let mut review = of.clone();
        review["request"]["operation"] = json!(operation);
        post(path, review.to_string())
    };
    let (deletion, presenting) = (review(), presented());
    let lacking = |field: &str| {
        let mut review = presented();
        review["request"][field] = Value::Null;
        post(APPROVALS, review.to_string())
    };
    let bare = |field: &str| {
        let mut review = presented();
        review["request"][field] = json!({"note": MARKER});
        post(APPROVALS, review.to_string())
    };
    all_are_refused(&[
        (
            "CREATE",
            operation(RULE, &deletion, "CREATE"),
            &[400],
            "this path is for DELETE, UPDATE and eviction requests",
        ),
        ("UPDATE without an object", operation(RULE, &deletion, "UPDATE"), &[400], "no object"),
        (
            "CONNECT",
            operation(RULE, &deletion, "CONNECT"),
            &[400],
            "this path is for DELETE, UPDATE and eviction requests",
        ),
        ("an invented one", operation(RULE, &deletion, "BREW"), &[400], "line 1 column"),
        ("lower case", operation(RULE, &deletion, "delete"), &[400], "line 1 column"),
        (
            "DELETE of approvals",
            operation(APPROVALS, &presenting, "DELETE"),
            &[400],
            "this path is for UPDATE requests",
        ),
        (
            "CREATE of approvals",
            operation(APPROVALS, &presenting, "CREATE"),
            &[400],
            "this path is for UPDATE requests",
        ),
        ("no object", lacking("object"), &[400], "no object"),
        ("no old object", lacking("oldObject"), &[400], "no oldObject"),
        ("an object without metadata", bare("object"), &[400], "object with metadata"),
        ("an old object without metadata", bare("oldObject"), &[400], "object with metadata"),
        ("empty", post(APPROVALS, ""), &[400], "it ends early"),
        ("text", post(APPROVALS, MARKER), &[400], "it is not JSON"),
    ]);
}

#[test]
fn nesting_without_end_and_statements_that_are_none_change_nothing() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let placed = |path: &str, n: usize| with(path, json!("HERE")).replace("\"HERE\"", &deep(n));
    let open = [
        ("1 MB of opening brackets", post(RULE, "[".repeat(1 << 20)), &[400][..], ""),
        ("1 MB of opening braces", post(RULE, "{\"a\":".repeat(200_000)), &[400], ""),
        ("in labels", post(RULE, placed("/request/oldObject/metadata/labels", 500_000)), &[400], ""),
        ("in userInfo", post(RULE, placed("/request/userInfo/groups", 500_000)), &[400], ""),
        (
            "in annotations",
            post(RULE, placed("/request/oldObject/metadata/annotations/note", 500_000)),
            &[400, 200],
            "",
        ),
        ("in the spec", post(RULE, placed("/request/oldObject/spec", 500_000)), &[400, 200], ""),
        ("approvals", post(APPROVALS, placed("/request/oldObject", 500_000)), &[400], ""),
    ];
    all_are_refused(&open);
    for statements in [
        deep(100_000),
        deep(40),
        "{}".into(),
        "[{}]".into(),
        "not JSON".into(),
        String::new(),
        format!("[{}]", "1,".repeat(50_000)),
    ] {
        let mut review = review();
        review["request"]["oldObject"]["metadata"]["labels"] = json!({"tagout.dev/approval": ""});
        review["request"]["oldObject"]["metadata"]["annotations"]["tagout.dev/approval"] = json!(statements);
        let denial = is_a_denial(&post(RULE, review.to_string()));
        assert!(text(&denial["status"]["message"]).len() < 4096);
    }
}

#[test]
fn a_body_larger_than_any_review_is_refused_announced_or_not() {
    let mut large = review();
    large["request"]["oldObject"]["spec"] = json!(MARKER.repeat(10 * 1024 * 1024 / MARKER.len()));
    let large = large.to_string();
    let chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", "@-"];
    let chunked = curl(shared(), RULE, &[&JSON[..], &chunked].concat(), large.as_bytes());
    all_are_refused(&[
        ("announced", post(RULE, &large), &[413], "the body is larger than 7 MiB"),
        ("chunked", chunked, &[413], "the body is larger than 7 MiB"),
        ("approvals", post(APPROVALS, &large), &[413], "the body is larger than 7 MiB"),
    ]);
    // What two objects of the API server's own limit make is read.
    let mut room = review();
    room["request"]["oldObject"]["spec"] = json!("x".repeat(6 * 1024 * 1024));
    is_a_denial(&post(RULE, room.to_string()));
}

#[test]
fn a_timeout_is_a_duration_and_never_a_way_to_wait_for_ever() {
    const WORDS: &str = "timeout must be a duration such as 10s";
    let asked = |timeout: &str| post(&format!("{RULE}?timeout={timeout}"), review().to_string());
    for timeout in ["10s", "0s", "100ms", "1m"] {
        is_a_denial(&asked(timeout));
    }
    all_are_refused(&[
        ("negative", asked("-1s"), &[400], WORDS),
        ("a word", asked("abc"), &[400], WORDS),
        ("empty", asked(""), &[400], WORDS),
        ("no unit", asked("10"), &[400], WORDS),
        ("no UTF-8", asked("%ff"), &[400], ""),
        ("twice", asked("1s&timeout=2s"), &[400], ""),
        ("a thousand years", asked("9999999h"), &[200, 400], ""),
        ("more than a number holds", asked("99999999999999999999999h"), &[400], WORDS),
        ("approvals", post(&format!("{APPROVALS}?timeout=abc"), presented().to_string()), &[400], WORDS),
    ]);
}
