//! The binary and its clients: which are answered, with what, and when.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::common::{GRANT, PATIENCE, Server, answer, closed_silently, granted, send};

const SPACING: Duration = Duration::from_millis(500);

/// How late a grant may be on a machine that also compiles. The benchmarks measure the
/// promise of 2 ms.
const SLACK: Duration = Duration::from_millis(150);

#[test]
fn grants_are_an_interval_apart_and_in_order() {
    let server = Server::start(&[]);
    let start = granted(&mut server.ask(0));
    let mut clients: Vec<_> = (1..4)
        .map(|n| {
            let client = server.ask(n);
            // Two requests of one instant may overtake each other.
            server.wait_for_state(&format!(r#""waiting":{n}"#));
            client
        })
        .collect();
    let times: Vec<_> = clients.iter_mut().map(granted).collect();
    for (n, at) in (1..).zip(&times) {
        let earliest = SPACING * n;
        let took = at.duration_since(start);
        // The client reads each grant a moment after its write.
        let early = Duration::from_millis(20);
        assert!(
            took + early >= earliest && took < earliest + SLACK,
            "{n}: {took:?}"
        );
    }
}

#[test]
fn any_request_is_an_identify_request_and_gets_the_exact_answer() {
    let server = Server::start(&[("MAX_CONCURRENCY", "16")]);
    for request in [
        "GET / HTTP/1.1\r\nhost: q\r\n\r\n",
        "POST /any/path?shard=1 HTTP/1.1\r\nhost: q\r\ncontent-length: 1\r\n\r\nx",
        "PUT /?shard=2 HTTP/1.1\r\nhost: q\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "BREW /?shard=3 HTTP/1.1\r\nhost: q\r\n\r\n",
        "GET http://q/?shard=4 HTTP/1.1\r\nhost: q\r\nx-much: yes\r\n\r\n",
    ] {
        let (head, body) = answer(&mut server.send(request.as_bytes()));
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert!(
            head.contains("\r\ncontent-type: application/json\r\n"),
            "{head}"
        );
        assert_eq!(body, GRANT);
    }
}

#[test]
fn a_client_that_expects_100_continue_gets_none_and_then_its_grant() {
    let server = Server::start(&[]);
    let head =
        "POST /?shard=5 HTTP/1.1\r\nhost: q\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n";
    let mut client = server.send(head.as_bytes());
    // As curl does after a second without an answer.
    client
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(client.read(&mut [0]).is_err());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"x").unwrap();
    granted(&mut client);
}

#[test]
fn a_tunnel_is_not_granted() {
    let server = Server::start(&[]);
    let tunnel = b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n\r\n";
    assert!(closed_silently(server.send(tunnel)));
    granted(&mut server.ask(0));
}

#[test]
fn a_grant_and_a_refusal_of_a_head_request_have_no_body() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    for status in ["200 OK", "429 Too Many Requests"] {
        let request = "HEAD /?wait=0&shard=0 HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n";
        let mut answer = String::new();
        let mut client = server.send(request.as_bytes());
        client.read_to_string(&mut answer).unwrap();
        let first = format!("HTTP/1.1 {status}\r\n");
        assert!(answer.starts_with(&first), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[test]
fn a_connection_serves_successive_and_pipelined_requests() {
    let server = Server::start(&[("MAX_CONCURRENCY", "4")]);
    let request = |shard| format!("GET /?shard={shard} HTTP/1.1\r\nhost: q\r\n\r\n");
    let mut client = server.send((request(0) + &request(1)).as_bytes());
    granted(&mut client);
    granted(&mut client);
    client.write_all(request(2).as_bytes()).unwrap();
    granted(&mut client);
}

#[test]
fn an_invalid_request_closes_the_connection_without_a_response() {
    let server = Server::start(&[]);
    granted(&mut server.ask(0));
    let mut waiting = server.ask(1);
    let flood = format!(
        "GET / HTTP/1.1\r\nhost: q\r\n{}\r\n",
        (0..200).map(|n| format!("x{n}: y\r\n")).collect::<String>()
    );
    let long = format!("GET /?{} HTTP/1.1\r\nhost: q\r\n\r\n", "x".repeat(70_000));
    let fat = format!(
        "POST / HTTP/1.1\r\nhost: q\r\ncontent-length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    for request in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}TLS, say\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: q\r\ncontent-length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: q\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &flood,
        &long,
        &fat,
    ] {
        let start = &request[..request.len().min(60)];
        assert!(closed_silently(server.send(request.as_bytes())), "{start}");
    }
    granted(&mut waiting);
}

#[test]
fn a_disconnect_is_noticed_immediately_after_any_request() {
    // So long that no client is granted meanwhile.
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    granted(&mut server.ask(0));
    let plain = "GET /?shard=3 HTTP/1.1\r\nhost: q\r\n\r\n";
    let with_body = "POST /?shard=1 HTTP/1.1\r\nhost: q\r\ncontent-length: 3\r\n\r\nabc";
    for request in [plain, with_body, &plain.repeat(3), &plain.repeat(100)] {
        let client = server.send(request.as_bytes());
        server.wait_for_state(r#""waiting":1"#);
        drop(client);
        server.wait_for_state(r#""waiting":0"#);
    }
    server.has_metric("gateway_queue_cancelled_requests_total 4\n");
}

#[test]
fn a_client_that_closes_its_half_of_the_connection_is_disconnected_and_not_granted() {
    let spacing = Duration::from_secs(2);
    let server = Server::start(&[("IDENTIFY_INTERVAL", "2s")]);
    let start = granted(&mut server.ask(0));
    for (request, complete) in [
        ("GET / HTTP/1.1\r\nhost: q\r\n\r\n", true),
        ("POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\nx", true),
        ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", true),
        ("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nx", false),
        ("GET / HTTP/1.1\r\nho", false),
        ("", false),
    ] {
        let client = server.send(request.as_bytes());
        if complete {
            server.wait_for_state(r#""waiting":1"#);
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert!(closed_silently(client), "{request}");
        server.wait_for_state(r#""waiting":0"#);
    }
    assert!(start.elapsed() < spacing, "noticed only when it was due");
    let took = granted(&mut server.ask(1)) - start;
    assert!(took < spacing + SPACING, "{took:?}");
    server.has_metric("gateway_queue_grants_total 2\n");
}

#[test]
fn an_unreadable_shard_waits_as_shard_0_and_gets_no_answer() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    granted(&mut server.ask(9));
    let requests = [
        "GET /?shard=abc",
        "GET /?shard=-1",
        "GET /?shard=18446744073709551616",
        "GET /?shard=",
        "GET /?shard=%",
        "HEAD /",
        "GET /?shard=5&shard=6",
        "HEAD /?shard=%36%35",
    ];
    let clients = (1..).zip(requests).map(|(n, request)| {
        let client = server.send(format!("{request} HTTP/1.1\r\nhost: q\r\n\r\n").as_bytes());
        // Two requests of one instant may overtake each other.
        server.wait_for_state(&format!(r#""waiting":{n},"#));
        client
    });
    let clients: Vec<_> = clients.collect();
    server.wait_for_state(r#""shards":[0,0,0,0,0,0,5,65]"#);
    server.has_metric("gateway_queue_invalid_shards_total 7\n");
    server.signal("-TERM");
    assert!(clients.into_iter().all(closed_silently));
}

#[test]
fn a_restarted_server_keeps_the_spacing_to_the_last_grant_before() {
    let guarded = [("START_GUARD", "true"), ("IDENTIFY_MARGIN", "100ms")];
    let old = Server::start(&guarded);
    let last = granted(&mut old.ask(0));
    let _waiting = old.ask(2);
    old.signal("-KILL");
    drop(old);
    let new = Server::start(&guarded);
    let gap = granted(&mut new.ask(1)) - last;
    // The client read the last grant a moment after its write.
    assert!(gap > Duration::from_millis(580), "{gap:?}");
}

#[test]
fn a_signal_refuses_clients_that_opted_in_and_closes_all_others() {
    for signal in ["-TERM", "-INT"] {
        // So long that no client is granted before the signal.
        let mut server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
        granted(&mut server.ask(0));
        let waiting: Vec<_> = (0..20).map(|_| server.ask(0)).collect();
        let opted_in: Vec<_> = (0..20)
            .map(|_| server.ask_with("shard=0&wait=60"))
            .collect();
        server.wait_for_state(r#""waiting":40"#);
        let start = Instant::now();
        server.signal(signal);
        for mut client in opted_in {
            let (head, body) = answer(&mut client);
            assert!(head.starts_with("http/1.1 429 "), "{head}");
            assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
            assert!(body.starts_with(r#"{"reason":"no_leader","#), "{body}");
            assert!(closed_silently(client));
        }
        assert!(waiting.into_iter().all(closed_silently));
        assert!(server.ended().success());
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn idle_connections_on_the_admin_port_do_not_block_probes() {
    let server = Server::start(&[]);
    let idle: Vec<_> = (0..200)
        .map(|_| send(server.admin, b"GET /livez HT"))
        .collect();
    let start = Instant::now();
    assert_eq!(server.page("/livez").0, 200);
    assert!(start.elapsed() < Duration::from_secs(1));
    drop(idle);
}

#[test]
fn the_admin_port_reports_the_state_and_grants_nothing() {
    let server = Server::start(&[("MAX_CONCURRENCY", "2"), ("IDENTIFY_INTERVAL", "1h")]);
    for page in ["/livez", "/readyz"] {
        assert_eq!(server.page(page), (200, "ok\n".to_owned()));
    }
    granted(&mut server.ask(3));
    let _first = server.ask(3);
    server.wait_for_state(r#""shards":[3]"#);
    let _second = server.ask(1);
    server.wait_for_state(r#""shards":[3,1]"#);
    let (status, metrics) = server.page("/metrics");
    assert_eq!(status, 200);
    for line in [
        "gateway_queue_max_concurrency 2\n",
        "gateway_queue_grants_total 1\n",
        "gateway_queue_waiting{bucket=\"1\"} 2\n",
        "gateway_queue_waiting{bucket=\"0\"} 0\n",
        "gateway_queue_blocked{reason=\"token_missing\"} 0\n",
        "gateway_queue_grant_lateness_seconds_count 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    let (status, page) = server.page("/elsewhere");
    assert_eq!(status, 404);
    assert!(page.contains("/state"));
    // Any answer would be taken for a grant.
    for target in ["/?shard=3", "/x?wait=1&shard=3", "/state?shard=0"] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: q\r\n\r\n");
        let stream = send(server.admin, request.as_bytes());
        assert!(closed_silently(stream), "{target}");
    }
}
