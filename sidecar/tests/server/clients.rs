//! The binary and its clients: who is answered, with what, and when.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{GRANT, LONG, Server, answer, closed_silently, granted, machine};

const SPACING: Duration = Duration::from_millis(500);

/// How much later than allowed a grant may be here, on a machine that also
/// compiles. The promise of 2 ms is measured by the benchmarks.
const SLACK: Duration = Duration::from_millis(150);

#[test]
fn turns_come_at_the_interval_and_in_order() {
    let _timed = machine::timed();
    let server = Server::start(&[]);
    let start = granted(&mut server.ask(0));
    let mut clients: Vec<_> = (1..4)
        .map(|n| {
            let client = server.ask(n);
            // Two requests at the same instant may overtake each other.
            server.wait_for_state(&format!(r#""waiting":{n}"#));
            client
        })
        .collect();
    let times: Vec<_> = clients.iter_mut().map(granted).collect();
    for (n, at) in (1..).zip(&times) {
        let earliest = SPACING * n;
        let took = at.duration_since(start);
        // Our clock sees each grant a moment after its write.
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
fn who_asks_whether_to_send_its_body_is_told_nothing_and_then_granted() {
    let server = Server::start(&[]);
    let head =
        "POST /?shard=5 HTTP/1.1\r\nhost: q\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n";
    let mut client = server.send(head.as_bytes());
    // As curl does after a second without an answer.
    let patience = Some(Duration::from_millis(200));
    client.set_read_timeout(patience).unwrap();
    assert!(client.read(&mut [0]).is_err());
    client.set_read_timeout(Some(LONG)).unwrap();
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
fn a_head_request_gets_the_head_alone() {
    let server = Server::start(&[]);
    let request = "HEAD /?shard=0 HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    server
        .send(request.as_bytes())
        .read_to_string(&mut answer)
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[test]
fn a_connection_serves_one_request_after_the_other_and_pipelined_ones_too() {
    let server = Server::start(&[("MAX_CONCURRENCY", "4")]);
    let request = |shard| format!("GET /?shard={shard} HTTP/1.1\r\nhost: q\r\n\r\n");
    let mut client = server.send((request(0) + &request(1)).as_bytes());
    granted(&mut client);
    granted(&mut client);
    client.write_all(request(2).as_bytes()).unwrap();
    granted(&mut client);
}

#[test]
fn what_hyper_would_answer_by_itself_closes_the_connection_instead() {
    let server = Server::start(&[]);
    let mut waiting = {
        granted(&mut server.ask(0));
        server.ask(1)
    };
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
        let mut stream = std::net::TcpStream::connect(server.queue).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        // It may be closed while we still write.
        let _ = stream.write_all(request.as_bytes());
        assert!(
            closed_silently(stream),
            "{}",
            &request[..request.len().min(60)]
        );
    }
    granted(&mut waiting);
}

#[test]
fn who_hangs_up_is_known_at_once_also_after_a_body_or_a_pipelined_request() {
    // So long that nobody's turn comes while this looks.
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
    let metrics = server.page("/metrics").1;
    assert!(
        metrics.contains("gateway_queue_cancelled_requests_total 4\n"),
        "{metrics}"
    );
}

#[test]
fn who_hung_up_takes_no_turn() {
    let _timed = machine::timed();
    let server = Server::start(&[]);
    let start = granted(&mut server.ask(0));
    let gone = server.ask(1);
    server.wait_for_state(r#""waiting":1"#);
    let mut next = server.ask(2);
    server.wait_for_state(r#""waiting":2"#);
    drop(gone);
    let took = granted(&mut next) - start;
    assert!(took < SPACING + SLACK, "{took:?}");
}

#[test]
fn who_sends_more_and_more_while_it_waits_is_cut_off() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "5s")]);
    granted(&mut server.ask(0));
    let mut client = server.ask(0);
    let mut waiting = server.ask(0);
    let _ = client.write_all(&b"GET / HTTP/1.1\r\nhost: q\r\n\r\n".repeat(2000));
    assert!(closed_silently(client));
    granted(&mut waiting);
}

#[test]
fn an_unreadable_shard_is_shard_0_with_one_warning_and_a_counter() {
    let server = Server::start(&[("MAX_CONCURRENCY", "2")]);
    granted(&mut server.send(b"GET /?shard=abc HTTP/1.1\r\nhost: q\r\n\r\n"));
    server.wait_for_log("names no readable shard");
    let mut second = server.send(b"GET /?token=t0psecret HTTP/1.1\r\nhost: q\r\n\r\n");
    granted(&mut second);
    server.wait_for_page("/metrics", "gateway_queue_grants_total 2\n");
    server.wait_for_state(r#""last_grants":[{"shard":0,"bucket":0,"#);
    let metrics = server.page("/metrics").1;
    assert!(
        metrics.contains("gateway_queue_invalid_shards_total 2\n"),
        "{metrics}"
    );
}

#[test]
fn the_start_guard_holds_the_first_turn() {
    let start = Instant::now();
    let server = Server::start(&[("START_GUARD", "true"), ("IDENTIFY_MARGIN", "100ms")]);
    let took = granted(&mut server.ask(0)) - start;
    assert!(took >= Duration::from_millis(600), "{took:?}");
}

#[test]
fn sigterm_ends_it_at_once_and_answers_nobody() {
    for signal in ["-TERM", "-INT"] {
        // So long that none of them is granted before the signal.
        let mut server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
        granted(&mut server.ask(0));
        let waiting: Vec<_> = (0..5).map(|_| server.ask(0)).collect();
        server.wait_for_state(r#""waiting":5"#);
        let start = Instant::now();
        server.signal(signal);
        assert!(waiting.into_iter().all(closed_silently));
        assert!(server.ended().success());
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn sigterm_tells_those_who_opted_in_and_closes_all_others() {
    let mut server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    granted(&mut server.ask(0));
    let waiting: Vec<_> = (0..20).map(|_| server.ask(0)).collect();
    let opted_in: Vec<_> = (0..20)
        .map(|_| server.send(b"GET /?shard=0&wait=60 HTTP/1.1\r\nhost: q\r\n\r\n"))
        .collect();
    server.wait_for_state(r#""waiting":40"#);
    server.signal("-TERM");
    for mut client in opted_in {
        let (head, body) = answer(&mut client);
        assert!(head.starts_with("http/1.1 429 "), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert!(body.starts_with(r#"{"reason":"no_leader","#), "{body}");
        assert!(closed_silently(client));
    }
    assert!(waiting.into_iter().all(closed_silently));
    assert!(server.ended().success());
}

#[test]
fn an_expectation_with_its_body_right_behind_it_is_granted() {
    let server = Server::start(&[("MAX_CONCURRENCY", "4096")]);
    thread::scope(|scope| {
        for client in 0..8 {
            let queue = server.queue;
            scope.spawn(move || {
                for n in 0..250 {
                    let request = format!(
                        "POST /?shard={} HTTP/1.1\r\nhost: q\r\nexpect: 100-continue\r\n\
                         content-length: 1\r\n\r\nx",
                        client * 512 + n
                    );
                    let mut stream = TcpStream::connect(queue).unwrap();
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    stream.write_all(request.as_bytes()).unwrap();
                    granted(&mut stream);
                }
            });
        }
    });
}

#[test]
fn who_holds_the_admin_port_does_not_keep_probes_out() {
    let server = Server::start(&[]);
    let idle: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(server.admin).unwrap();
            stream.write_all(b"GET /livez HT").unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    assert_eq!(server.page("/livez").0, 200);
    assert!(start.elapsed() < Duration::from_secs(1));
    drop(idle);
}

#[test]
fn the_admin_port_tells_the_state_and_is_no_queue() {
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
        let mut stream = TcpStream::connect(server.admin).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: q\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        assert!(closed_silently(stream), "{target}");
    }
}
