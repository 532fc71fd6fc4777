//! Connections that are slow, silent, many or of another protocol: each is ended or refused, and others are served.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bad_input::{JSON, RULE, curl, is_a_denial, review, serves};
use crate::rules::apart;
use crate::world::{World, shared};

/// A TLS connection that sends what it is told, when it is told.
fn openssl(world: &World, input: &str) -> (Child, ChildStdin) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", &world.tagout.address().to_string()]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    (child, stdin)
}

fn half_a_body(length: usize, timeout: &str) -> String {
    format!(
        "POST {RULE}?timeout={timeout} HTTP/1.1\r\nHost: tagout\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{\"kind\":"
    )
}

#[test]
fn who_stops_in_the_middle_of_a_body_is_told_when_time_is_up_while_others_are_served() {
    let world = shared();
    let started = Instant::now();
    let (mut child, stdin) = openssl(world, &half_a_body(1000, "2s"));
    serves(world);
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut first).expect("text");
    assert!(first.starts_with("HTTP/1.1 504"), "{first}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(stdin);
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn a_crowd_that_announces_large_bodies_and_sends_none_keeps_nobody_from_being_served() {
    let world = apart();
    let mut crowd: Vec<_> = (0..12).map(|_| openssl(world, &half_a_body(7 * 1024 * 1024, "30s"))).collect();
    std::thread::sleep(Duration::from_secs(1));
    let started = Instant::now();
    let served = curl(
        world,
        &format!("{RULE}?timeout=10s"),
        &[&JSON[..], &["--data-binary", "@-"]].concat(),
        review().to_string().as_bytes(),
    );
    for (child, _) in &mut crowd {
        let _ = child.kill();
        let _ = child.wait();
    }
    is_a_denial(&served);
    assert!(started.elapsed() < Duration::from_secs(5), "answered after {:?}", started.elapsed());
}

#[test]
fn connections_that_say_nothing_or_speak_no_tls_keep_nobody_from_being_served() {
    let world = shared();
    let connect = || TcpStream::connect(world.tagout.address()).expect("it listens");
    let silent: Vec<_> = (0..200).map(|_| connect()).collect();
    serves(world);
    for garbage in [
        &b"GET /healthz HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\xff\xff",
        b"\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        connect().write_all(garbage).expect("it is sent");
    }
    serves(world);
    drop(silent);
}

fn handshake(args: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &shared().tagout.address().to_string()]).args(args);
    let output = command.stdin(Stdio::null()).output().expect("openssl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn tls_is_of_this_decade_and_http_is_1_1() {
    let world = shared();
    for version in ["1.2", "1.3"] {
        let args = [format!("--tlsv{version}"), "--tls-max".to_owned(), version.to_owned()];
        assert_eq!(curl(world, "/healthz", &args.each_ref().map(String::as_str), b"").body, "ok\n");
    }
    let old = handshake(&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    assert!(old.contains("SSL alert number") && old.contains("Cipher is (NONE)"), "{old}");
    let h2 = handshake(&["-alpn", "h2"]);
    assert!(h2.contains("no application protocol") && !h2.contains("ALPN protocol: h2"), "{h2}");
    let both = handshake(&["-alpn", "h2,http/1.1"]);
    assert!(both.contains("ALPN protocol: http/1.1"), "{both}");
    serves(world);
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let url = format!("https://{}/healthz", shared().tagout.address());
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--http1.1", "--write-out", "%{num_connects} ", &url, &url])
        .output()
        .expect("curl is installed");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n1 ok\n0 ");
}

#[test]
fn a_flood_of_headers_is_refused() {
    let headers: Vec<_> = (0..500).flat_map(|n| ["-H".to_owned(), format!("X-{n}: {}", "a".repeat(200))]).collect();
    let args: Vec<_> = headers.iter().map(String::as_str).collect();
    let reply = curl(shared(), "/healthz", &args, b"");
    assert!((400..500).contains(&reply.status), "{reply:?}");
    serves(shared());
}
