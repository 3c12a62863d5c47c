//! Clients that report what happened to their shards, and shards that are granted too often.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Server, answer, closed_silently, granted, head, waits};

/// Reads a response without content: its head in lower case.
fn no_content(stream: &mut TcpStream) -> String {
    let head = head(stream);
    assert!(head.starts_with("http/1.1 204 no content\r\n"), "{head}");
    head
}

fn report(server: &Server, shard: u32, report: &str) -> String {
    no_content(&mut server.ask_with(&format!("shard={shard}&report={report}")))
}

fn state(server: &Server) -> Value {
    serde_json::from_str(&server.state()).unwrap()
}

#[test]
fn a_report_is_answered_at_once_takes_no_slot_and_is_shown() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    let head = report(&server, 5, "closed");
    for absent in ["content-type", "content-length", "connection"] {
        assert!(!head.contains(absent), "{head}");
    }
    // The bucket is free still.
    granted(&mut server.ask(3));
    server.wait_for_state(r#""last_grants":[{"shard":3,"#);
    report(&server, 3, "ready");
    // The response comes after the report.
    let shards = &state(&server)["shards"];
    let ids: Vec<_> = shards
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["shard"])
        .collect();
    assert_eq!(ids, [3, 5]);
    assert_eq!(shards[0]["last_report"], "ready");
    assert!(shards[0]["last_grant_ms_ago"].is_u64(), "{shards}");
    assert_eq!(shards[1]["last_report"], "closed");
    assert_eq!(shards[1]["last_grant_ms_ago"], Value::Null);
    server.has_metric("gateway_queue_reports_total{report=\"ready\"} 1\n");
    server.has_metric("gateway_queue_reports_total{report=\"closed\"} 1\n");
    server.has_metric("gateway_queue_grants_total 1\n");
    assert_eq!(state(&server)["held_requests"], 0);
}

#[test]
fn a_report_may_have_any_method_a_body_and_a_wait_and_keeps_its_connection_open() {
    let server = Server::start(&[]);
    let query = "/?report=ready&shard=1";
    let mut client = server.send(
        format!("POST {query} HTTP/1.1\r\nhost: q\r\ncontent-length: 3\r\n\r\nabc").as_bytes(),
    );
    no_content(&mut client);
    for request in [
        "HEAD /?report=ready&shard=1",
        "GET /?shard=1&report=closed&wait=9",
    ] {
        let request = format!("{request} HTTP/1.1\r\nhost: q\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        no_content(&mut client);
    }
    client
        .write_all(b"GET /?shard=1 HTTP/1.1\r\nhost: q\r\n\r\n")
        .unwrap();
    granted(&mut client);
    let tunnel = format!("CONNECT {query} HTTP/1.1\r\nhost: q\r\n\r\n");
    assert!(closed_silently(server.send(tunnel.as_bytes())));
}

#[test]
fn a_malformed_report_is_named_and_not_counted() {
    let server = Server::start(&[]);
    for (query, parameter) in [
        ("shard=1&report=", "report"),
        ("shard=1&report=Ready", "report"),
        ("shard=1&report=ready&report=ready", "report"),
        ("report=ready", "shard"),
        ("shard=x&report=ready", "shard"),
        ("shard=1&report=ready&shard=1", "shard"),
        ("shard=1&report=ready&wait=x", "wait"),
    ] {
        let (head, body) = answer(&mut server.ask_with(query));
        assert!(head.starts_with("http/1.1 400 "), "{query}: {head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["reason"], "malformed");
        assert_eq!(body["parameter"], parameter, "{query}");
    }
    assert_eq!(state(&server)["shards"], json!([]));
    server.has_metric("gateway_queue_refusals_total{reason=\"malformed\"} 7\n");
    assert!(!server.metrics().contains("gateway_queue_reports_total{"));
    // None of them was granted.
    granted(&mut server.ask(0));
}

#[test]
fn an_invalid_session_after_a_grant_delays_the_next_grant_of_the_bucket() {
    let spacing = Duration::from_secs(1);
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1s")]);
    granted(&mut server.ask(0));
    // The client may read its grant before the queue knows that it was written.
    server.wait_for_state(r#""last_grants":[{"shard":0,"#);
    let mut next = server.ask(1);
    server.wait_for_state(r#""waiting":1"#);
    let reported = Instant::now();
    report(&server, 0, "invalid_session");
    let delayed = granted(&mut next) - reported;
    assert!(delayed >= spacing, "{delayed:?}");
    assert_eq!(state(&server)["shards"][0]["invalid_sessions"], 1);
}

/// A server that grants each shard twice within this time.
fn twice_within(window: &str) -> Server {
    Server::start(&[
        ("IDENTIFY_INTERVAL", "20ms"),
        ("SHARD_BURST", "2"),
        ("SHARD_WINDOW", window),
    ])
}

#[test]
fn a_shard_that_is_granted_too_often_is_held_and_others_pass() {
    let server = twice_within("2s");
    let first = granted(&mut server.ask(7));
    granted(&mut server.ask(7));
    let mut held = server.ask(7);
    server.wait_for_state(r#""crash_looping":[{"shard":7,"#);
    for shard in 8..12 {
        granted(&mut server.ask(shard));
    }
    assert!(waits(&held));
    let state = state(&server);
    assert_eq!(state["waiting"], 0, "{state}");
    assert_eq!(state["crash_looping"][0]["waiting"], 1, "{state}");
    server.has_metric("gateway_queue_crash_looping_shards 1\n");
    let line = server.wait_for_log(r#""message":"shard crash-looping""#);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["level"], &line["shard"]),
        (&json!("WARN"), &json!(7))
    );
    assert!(line["released_in_ms"].as_u64() <= Some(2000), "{line}");

    let after = granted(&mut held) - first;
    // The client read the first grant a moment after its write.
    let early = Duration::from_millis(100);
    assert!(after + early >= Duration::from_secs(2), "{after:?}");
    assert!(after < Duration::from_secs(3), "{after:?}");
}

#[test]
fn a_client_of_a_held_shard_that_limits_its_wait_is_refused_for_that_reason() {
    let server = twice_within("20s");
    for _ in 0..2 {
        granted(&mut server.ask(7));
    }
    let (head, body) = answer(&mut server.ask_with("shard=7&wait=0.05"));
    assert!(head.starts_with("http/1.1 429 "), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["reason"], "crash_looping");
    assert_eq!(body["position"], Value::Null);
    let back = body["retry_after_ms"].as_u64().unwrap();
    assert!((10_000..=20_000).contains(&back), "{body}");
    server.has_metric("gateway_queue_refusals_total{reason=\"crash_looping\"} 1\n");
}

#[test]
fn without_a_limit_and_without_a_valid_shard_no_request_is_held() {
    let fast = ("IDENTIFY_INTERVAL", "20ms");
    let server = Server::start(&[fast, ("SHARD_BURST", "0")]);
    for _ in 0..20 {
        granted(&mut server.ask(7));
    }
    let server = Server::start(&[fast, ("SHARD_BURST", "1")]);
    for query in ["", "shard=x", "shard=1&shard=1", "wait=9", "Shard=1"] {
        for _ in 0..3 {
            granted(&mut server.ask_with(query));
        }
    }
    let state = state(&server);
    assert_eq!(state["crash_looping"], json!([]));
    assert_eq!(state["shards"], json!([]));
}
