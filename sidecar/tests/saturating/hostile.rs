//! Hostile and broken clients get no byte, delay no other client, and do not make the process
//! grow.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use gateway_queue_testkit::scripted_server::ScriptedServer;
use socket2::{Domain, Socket, Type};

use crate::alone;
use crate::common::{PATIENCE, Server, TOKEN, closed_silently, granted, send};

const SPACING: Duration = Duration::from_millis(500);

/// A good client is granted within this time of the last grant, on a machine that also
/// compiles. One that another client delays waits much longer.
const IN_TIME: Duration = SPACING.saturating_mul(2);

/// The growth of the process that is allowed, in KiB: the allocator does not return all.
const GROWTH: u64 = 4 * 1024;

#[test]
fn garbage_gets_no_byte_and_a_waiting_client_is_granted_after_it() {
    let _alone = alone();
    // GARBAGE=N repeats the requests of a run, beginning with request N.
    let first: u64 = std::env::var("GARBAGE").map_or(1, |seed| seed.parse().unwrap());
    // Without a token nothing is granted.
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let discord = ScriptedServer::reporting(1, 1000, 60_000);
    let server = Server::start(&[
        ("DISCORD_API", &discord.api()),
        ("DISCORD_TOKEN_FILE", token.to_str().unwrap()),
        ("RUST_LOG", "info"),
    ]);
    let mut waiting = server.ask(7);
    server.wait_for_state(r#""waiting":1"#);
    let mut memory = Vec::new();
    for batch in 0..8 {
        let seeds = first + batch * 500..first + (batch + 1) * 500;
        send_garbage(&server, seeds);
        memory.push(server.memory("VmRSS"));
    }
    // The first batch shows how much memory so many connections need.
    assert!(memory[7] < memory[0] + GROWTH, "KiB: {memory:?}");
    let metrics = server.metrics();
    let count = |name: &str| -> u64 {
        let (_, rest) = metrics.split_once(&format!("\n{name} ")).unwrap();
        rest.lines().next().unwrap().parse().unwrap()
    };
    // Some of it is good enough for the queue.
    let (asked, unreadable) = (
        count("gateway_queue_cancelled_requests_total"),
        count("gateway_queue_invalid_shards_total"),
    );
    assert!(asked > 400 && unreadable > 100, "{metrics}");
    assert_eq!(count("gateway_queue_grants_total"), 0);
    fs::write(&token, TOKEN).unwrap();
    granted(&mut waiting);
}

/// Sends the garbage of these seeds, on a connection each, all at the same time.
fn send_garbage(server: &Server, seeds: Range<u64>) {
    let sent: Vec<_> = seeds
        .map(|seed| {
            let garbage = garbage(&mut fastrand::Rng::with_seed(seed));
            let stream = send(server.queue, &garbage);
            (seed, garbage, stream)
        })
        .collect();
    // When the last client is in the queue, all before it were read.
    let last = server.ask(4_000_000_000);
    server.wait_for_state("4000000000");
    drop(last);
    for (seed, garbage, stream) in sent {
        // Those that wait, or whose request is incomplete, would wait without end.
        let _ = stream.shutdown(Shutdown::Write);
        let text = garbage[..garbage.len().min(500)].escape_ascii();
        assert!(closed_silently(stream), "GARBAGE={seed}: {text}");
    }
    server.wait_for_state(r#""waiting":1,"#);
}

/// Returns requests that are nearly good, or noise. Without `wait`, which has other answers.
fn garbage(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    if rng.u8(..10) == 0 {
        bytes.extend((0..rng.usize(..2000)).map(|_| rng.u8(..)));
        return bytes;
    }
    let eol = pick(rng, "\r\n|\n|\r|\r\r\n|");
    for _ in 0..rng.usize(1..4) {
        let line = [
            pick(
                rng,
                "GET|POST|HEAD|CONNECT|OPTIONS|PRI|get||G\0T|\u{16}\u{3}\u{1}",
            ),
            pick(rng, " |  |\t|"),
            pick(rng, "/|*|http://q|//|q:443||/%|/%zz|/#x|/\u{fc}|/\0"),
            pick(
                rng,
                "?shard=1||?|?shard=|?shard=-1|?shard=18446744073709551616|?shard=%31",
            ),
            pick(rng, "|&shard=2|%|%zz|%00|\u{fc}|\0|&&==|?|#|abc"),
            &"x".repeat(if rng.u8(..20) == 0 {
                rng.usize(..70_000)
            } else {
                0
            }),
            pick(rng, " |  |\t|"),
            pick(
                rng,
                "HTTP/1.1|HTTP/1.0|HTTP/0.9|HTTP/2.0|HTTP/1.|HTTP/1.10||x",
            ),
            eol,
        ];
        bytes.extend(line.concat().bytes());
        let flood = rng.u8(..20) == 0;
        for _ in 0..rng.usize(..if flood { 3000 } else { 5 }) {
            let framing = "content-length: 3|content-length: 0|content-length: -1|content-length: 3, 4|\
                content-length: 18446744073709551616|transfer-encoding: chunked|\
                transfer-encoding: gzip, chunked|transfer-encoding: x|te: trailers|expect: 100-continue";
            let other = "host: q|connection: close|connection: upgrade|upgrade: h2c|\
                http2-settings: AAAA| folded|\tfolded|x|: x|x : y|x: \0|x: \u{fc}|";
            let header = if rng.u8(..4) == 0 { framing } else { other };
            bytes.extend(pick(rng, header).bytes().chain(eol.bytes()));
        }
        let body = "|abc|3\r\nabc\r\n0\r\n\r\n|zz\r\n|-1\r\n|ffffffffffffffffff\r\n|3;x\r\nabcd|\
            0\r\nx: y\r\n\r\n|SM\r\n\r\n";
        bytes.extend(eol.bytes().chain(pick(rng, body).bytes()));
    }
    for _ in 0..[0, 0, 1, 5][rng.usize(..4)] {
        let at = rng.usize(..=bytes.len());
        let to = (at + rng.usize(..5)).min(bytes.len());
        let new: Vec<_> = (0..rng.usize(..5)).map(|_| rng.u8(..)).collect();
        bytes.splice(at..to, new);
    }
    if rng.u8(..4) == 0 {
        bytes.truncate(rng.usize(..=bytes.len()));
    }
    bytes
}

/// Picks mostly the first, which is good.
fn pick<'a>(rng: &mut fastrand::Rng, from: &'a str) -> &'a str {
    let from: Vec<_> = from.split('|').collect();
    let good = rng.u8(..5) > 0;
    from[if good { 0 } else { rng.usize(..from.len()) }]
}

#[test]
fn a_client_that_sends_without_end_is_disconnected_and_delays_no_other() {
    let _alone = alone();
    let server = Server::start(&[]);
    granted(&mut server.ask(0));
    let before = server.memory("VmRSS");
    let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = [
        (String::new(), "GET "),
        ("GET /?".to_owned(), "shard=1&"),
        ("GET / HTTP/1.1\r\n".to_owned(), "host: q\r\n"),
        ("GET / HTTP/1.1\r\nx: ".to_owned(), "y"),
        (chunked.to_owned(), "1\r\nx\r\n"),
        (chunked.to_owned() + "1;", "x"),
        (chunked.to_owned() + "0\r\n", "x: y\r\n"),
        (
            "POST / HTTP/1.1\r\ncontent-length: 999999999999\r\n\r\n".to_owned(),
            "x",
        ),
    ];
    thread::scope(|scope| {
        for (head, more) in endless.iter().cycle().take(40) {
            let stream = server.send(head.as_bytes());
            scope.spawn(move || push(stream, more));
        }
        for shard in 0..4 {
            let asked = Instant::now();
            granted(&mut server.ask(shard));
            assert!(asked.elapsed() < IN_TIME, "{:?}", asked.elapsed());
        }
    });
    let after = server.memory("VmRSS");
    assert!(after < before + GROWTH, "{before} KiB, then {after} KiB");
}

/// Repeats these bytes until the connection is closed.
fn push(mut stream: TcpStream, more: &str) {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let more = more.repeat(1000);
    let start = Instant::now();
    let error = loop {
        if let Err(error) = stream.write_all(more.as_bytes()) {
            break error.kind();
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{} is still accepted",
            &more[..10]
        );
    };
    let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(closed.contains(&error), "{}: {error}", &more[..10]);
    assert!(closed_silently(stream), "{}", &more[..10]);
}

#[test]
fn a_client_that_never_reads_is_disconnected_and_delays_no_other() {
    let _alone = alone();
    // Each request is granted immediately, so that answers pile up until the kernel has
    // waited a second for an acknowledgement.
    let server = Server::start(&[("MAX_CONCURRENCY", "4096"), ("RUST_LOG", "info")]);
    granted(&mut server.ask(4095));
    let before = server.memory("VmRSS");
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|n| {
                let queue = server.queue;
                scope.spawn(move || never_read(queue, n * 1000))
            })
            .collect();
        let mut shard = 4000;
        while !clients.iter().all(|client| client.is_finished()) {
            let asked = Instant::now();
            granted(&mut server.ask(shard));
            assert!(asked.elapsed() < IN_TIME, "{:?}", asked.elapsed());
            shard = 4000 + (shard + 1) % 95;
            let grown = server.memory("VmRSS").saturating_sub(before);
            assert!(grown < GROWTH, "by {grown} KiB");
            thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Asks for a thousand shards in turn and reads no answer.
fn never_read(queue: SocketAddr, first: u32) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&queue.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let start = Instant::now();
    for n in (0..1000).cycle() {
        let request = format!("GET /?shard={} HTTP/1.1\r\nhost: q\r\n\r\n", first + n);
        if let Err(error) = stream.write_all(request.as_bytes()) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "it was left waiting");
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "requests are accepted without end"
        );
        // A faster client is disconnected for what it sends while it waits.
        thread::sleep(Duration::from_millis(5));
    }
}
