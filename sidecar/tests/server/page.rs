//! The status page and its event stream.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gateway_queue_testkit::scripted_server::{ScriptedServer, response};

use crate::common::{PATIENCE, Server, TOKEN, granted, send};

/// Sends a request to the admin port.
fn open(server: &Server, method: &str, path: &str) -> BufReader<TcpStream> {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: q\r\n\r\n");
    BufReader::new(send(server.admin, request.as_bytes()))
}

/// Reads the head of an answer, in lower case.
fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "closed: {head}");
    }
    head.to_ascii_lowercase()
}

/// Reads until a line contains this text, and returns the line.
fn line(stream: &mut BufReader<TcpStream>, text: &str) -> String {
    let start = Instant::now();
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line);
        assert!(read.unwrap() > 0, "it ended, without {text}: {seen}");
        assert!(start.elapsed() < PATIENCE, "never {text}: {seen}");
        if line.contains(text) {
            return line;
        }
        seen += &line;
    }
}

/// Whether the stream ends after what was sent before.
fn ends(mut stream: BufReader<TcpStream>) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn the_page_and_its_parts_have_a_strict_policy() {
    let server = Server::start(&[]);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/state", "application/json"),
        ("/nothing", "text/plain; charset=utf-8"),
    ] {
        let whole = head(&mut open(&server, "GET", path));
        let without_date = |head: &str| {
            let lines = head.lines().filter(|line| !line.starts_with("date:"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut only_head = open(&server, "HEAD", path);
        let alone = head(&mut only_head);
        if path != "/state" {
            assert_eq!(without_date(&alone), without_date(&whole));
        }
        for line in [
            &format!("content-type: {kind}"),
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(whole.contains(&format!("\r\n{line}\r\n")), "{whole}");
        }
        let (_, policy) = whole.split_once("content-security-policy: ").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!whole.contains("unsafe") && !whole.contains("access-control"));
    }
    let posted = head(&mut open(&server, "POST", "/"));
    assert!(posted.starts_with("http/1.1 405 "), "{posted}");
}

#[test]
fn the_event_stream_shows_a_waiter_and_then_its_grant() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "5s")]);
    granted(&mut server.ask(7));
    let mut stream = open(&server, "GET", "/events");
    let head = head(&mut stream);
    assert!(head.contains("content-type: text/event-stream\r\n"));
    assert_eq!(head.matches("content-length").count(), 0);
    // The client may read its grant before the queue knows that it was written.
    line(&mut stream, r#""last_grants":[{"shard":7,"bucket":0,"#);
    let mut waiter = server.ask(8);
    let waits = line(&mut stream, r#""waiting":1,"shards":[8]}"#);
    assert!(waits.starts_with(r#"data: {"role":"leader","#), "{waits}");
    assert!(!waits.contains(r#""next_grant_in_ms":0,"#), "{waits}");
    granted(&mut waiter);
    let after = line(&mut stream, r#""last_grants":[{"shard":8,"#);
    assert!(after.contains(r#""waiting":0,"#), "{after}");
}

#[test]
fn a_head_request_for_the_events_is_answered_and_complete() {
    let server = Server::start(&[]);
    let mut stream = open(&server, "HEAD", "/events");
    assert!(head(&mut stream).contains("text/event-stream"));
    let next = b"GET /livez HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n";
    stream.get_mut().write_all(next).unwrap();
    assert!(head(&mut stream).starts_with("http/1.1 200 "));
}

#[test]
fn open_event_streams_do_not_delay_the_end_of_the_process() {
    let mut server = Server::start(&[]);
    let mut streams: Vec<_> = (0..3).map(|_| open(&server, "GET", "/events")).collect();
    for stream in &mut streams {
        line(stream, "data: ");
    }
    let start = Instant::now();
    server.signal("-TERM");
    assert!(server.ended().success());
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(streams.into_iter().all(ends));
}

#[test]
fn an_event_stream_that_is_not_read_takes_little_memory() {
    let server = Server::start(&[("MAX_CONCURRENCY", "4096"), ("IDENTIFY_INTERVAL", "1h")]);
    let mut reader = open(&server, "GET", "/events");
    line(&mut reader, "data: ");
    let before = server.memory("VmRSS");
    let _unread: Vec<_> = (0..15).map(|_| open(&server, "GET", "/events")).collect();
    // Each is a change, with an event of some kilobytes.
    for shard in 0..24 {
        granted(&mut server.ask(shard));
        line(
            &mut reader,
            &format!(r#""last_grants":[{{"shard":{shard},"#),
        );
    }
    let more = server.memory("VmRSS").saturating_sub(before);
    assert!(more < 8 * 1024, "{more} KiB");
}

#[test]
fn no_page_and_no_log_contains_the_token_or_what_clients_sent() {
    let discord = ScriptedServer::reporting(1, 1000, 60_000);
    // So long that the waiter is seen before its grant.
    let settings = [("IDENTIFY_INTERVAL", "1h"), ("RUST_LOG", "trace")];
    let server = Server::with_discord(&discord, &settings);
    let mut stream = open(&server, "GET", "/events");
    granted(&mut server.ask(0));
    let ask = format!(
        "POST /?shard=1&token={TOKEN} HTTP/1.1\r\nhost: {TOKEN}\r\ncontent-length: 16\r\n\r\n{TOKEN}"
    );
    let _waiter = server.send(ask.as_bytes());
    let event = line(&mut stream, r#""shards":[1]"#);
    assert!(!event.contains("t0ken"), "{event}");
    for path in ["/", "/page.js", "/page.css", "/state", "/metrics"] {
        assert!(!server.page(path).1.contains("t0ken"), "{path}");
    }
    server.signal("-TERM");
    for line in server.log_to_the_end() {
        assert!(!line.contains("t0ken"), "{line}");
    }
    // Nor when the token is what is wrong.
    discord.say(response("401 Unauthorized", TOKEN));
    let server = Server::with_discord(&discord, &[]);
    let mut stream = open(&server, "GET", "/events");
    let event = line(&mut stream, "token_rejected");
    assert!(
        event.contains(r#""message":"Discord rejects the token."#),
        "{event}"
    );
    assert!(!event.contains("t0ken"), "{event}");
}
