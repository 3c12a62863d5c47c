//! Clients that limit their wait, and are answered when it is over.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gateway_queue_testkit::scripted_server::{ScriptedServer, response};

use crate::common::{GRANT, PATIENCE, Server, answer, closed_silently, granted};

/// Returns the value of a header.
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let (_, rest) = head.split_once(&format!("\r\n{name}: ")).unwrap();
    rest.split_once("\r\n").unwrap().0
}

/// Reads a 429: its reason, position, and how long to wait before the next request.
fn refused(stream: &mut TcpStream) -> (String, u64, Duration) {
    let (head, body) = answer(stream);
    assert!(head.starts_with("http/1.1 429 "), "{head}");
    assert_eq!(header(&head, "content-type"), "application/json");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let number = |key: &str| body[key].as_u64().unwrap();
    let millis = number("retry_after_ms");
    assert_eq!(header(&head, "x-retry-after-ms"), millis.to_string());
    let seconds = millis.div_ceil(1000);
    assert_eq!(header(&head, "retry-after"), seconds.to_string());
    let reason = body["reason"].as_str().unwrap().to_owned();
    (reason, number("position"), Duration::from_millis(millis))
}

#[test]
fn a_refusal_has_the_position_and_when_to_ask_again() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "40s")]);
    granted(&mut server.ask(0));
    let _second = server.ask(1);
    server.wait_for_state(r#""waiting":1"#);
    let start = Instant::now();
    let (reason, position, back) = refused(&mut server.ask_with("shard=2&wait=0.3"));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!((reason.as_str(), position), ("waiting", 2));
    // It would be granted in 80 s, but its position is reserved for 60 s only.
    assert_eq!(back, Duration::from_secs(30));
    server.has_metric("gateway_queue_refusals_total{reason=\"waiting\"} 1\n");
}

#[test]
fn a_position_is_reserved_over_refusals_and_the_connection_stays_open() {
    let server = Server::start(&[]);
    let start = granted(&mut server.ask(0));
    let mut patient = server.ask_with("shard=1&wait=0");
    refused(&mut patient);
    let mut later = server.ask(2);
    server.wait_for_state(r#""waiting":1"#);
    patient
        .write_all(b"GET /?shard=1&wait=10 HTTP/1.1\r\nhost: q\r\n\r\n")
        .unwrap();
    let first = granted(&mut patient) - start;
    let second = granted(&mut later) - start;
    assert!(
        first + Duration::from_millis(400) < second,
        "{first:?} {second:?}"
    );
    server.has_metric("reservations_used_total 1\n");
}

#[test]
fn a_refusal_has_the_reason_why_nothing_is_granted() {
    let discord = ScriptedServer::saying(response("503 Oops", ""));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let server = Server::start(&[
        ("DISCORD_API", &discord.api()),
        ("DISCORD_TOKEN_FILE", file.to_str().unwrap()),
    ]);
    let reason = || refused(&mut server.ask_with("shard=0&wait=0.01")).0;
    assert_eq!(reason(), "session_starts_unknown");
    discord.say(response("401 No", ""));
    std::fs::write(&file, "first").unwrap();
    server.wait_for_state(r#""blocked_by":"token_rejected""#);
    assert_eq!(reason(), "token_rejected");
    discord.report(1, 0, 20_000);
    std::fs::write(&file, "second").unwrap();
    server.wait_for_state(r#""blocked_by":"session_starts_exhausted""#);
    let (reason, position, back) = refused(&mut server.ask_with("shard=0&wait=0"));
    assert_eq!((reason.as_str(), position), ("session_starts_exhausted", 1));
    let reset = Duration::from_secs(20);
    assert!(back <= reset && back > reset / 2, "{back:?}");
}

#[test]
fn a_malformed_parameter_is_named() {
    let server = Server::start(&[]);
    for (query, parameter) in [
        ("shard=0&wait=3601", "wait"),
        ("shard=abc&wait=1", "shard"),
        ("shard=1&wait=1&shard=2", "shard"),
    ] {
        let (head, body) = answer(&mut server.ask_with(query));
        assert!(head.starts_with("http/1.1 400 "), "{query}: {head}");
        assert_eq!(header(&head, "content-type"), "application/json");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["parameter"], parameter, "{query}");
    }
    // None of them was granted.
    granted(&mut server.ask(0));
}

#[test]
fn on_one_connection_only_the_request_that_opted_in_is_refused() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    granted(&mut server.ask(0));
    // Pipelined: refused, then nonsense that other servers answer with 400.
    let mut client =
        server.send(b"GET /?shard=0&wait=0 HTTP/1.1\r\nhost: q\r\n\r\nnonsense\r\n\r\n");
    refused(&mut client);
    assert!(closed_silently(client));
}

#[test]
fn clients_that_are_refused_repeatedly_are_all_granted_in_the_end() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "100ms")]);
    granted(&mut server.ask(99));
    let mut waiting: Vec<u32> = (0..5).collect();
    let deadline = Instant::now() + PATIENCE;
    // None is connected for longer than it takes to be refused.
    while !waiting.is_empty() {
        assert!(Instant::now() < deadline, "{waiting:?}");
        waiting.retain(|shard| {
            let (_, body) = answer(&mut server.ask_with(&format!("shard={shard}&wait=0.02")));
            body != GRANT
        });
    }
    server.has_metric("gateway_queue_grants_total 6\n");
}
