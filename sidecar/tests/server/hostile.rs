//! The binary and those who mean it harm, or know no better: none of them gets a
//! byte, holds up another client, or makes the process grow.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::common::{Discord, LONG, Server, closed_silently, granted, machine};

const SPACING: Duration = Duration::from_millis(500);

/// The turn of a good client comes within this time of the last one, on a machine
/// that also compiles. Who is held up by another waits much longer.
const IN_TIME: Duration = SPACING.saturating_mul(2);

/// The process may grow by this, in KiB: the allocator does not give all back.
const GROWTH: u64 = 4 * 1024;

#[test]
fn garbage_gets_not_a_byte_and_who_waits_meanwhile_is_granted_after_it() {
    let _busy = machine::busy();
    // GARBAGE=N plays the same again; each request is one further.
    let first: u64 = std::env::var("GARBAGE").map_or(1, |seed| seed.parse().unwrap());
    // While there is no token nobody has a turn.
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let discord = Discord::start();
    discord.say_limits(1, 1000, 60_000);
    let server = Server::start(&[
        ("DISCORD_API", &discord.url),
        ("DISCORD_TOKEN_FILE", token.to_str().unwrap()),
        ("RUST_LOG", "info"),
    ]);
    let mut waiting = server.ask(7);
    server.wait_for_state(r#""waiting":1"#);
    let mut memory = Vec::new();
    for batch in 0..8 {
        let seeds = first + batch * 500..first + (batch + 1) * 500;
        throw(&server, seeds);
        memory.push(server.memory());
    }
    // The first ones show what so many connections need.
    assert!(memory[7] < memory[0] + GROWTH, "KiB: {memory:?}");
    let metrics = server.page("/metrics").1;
    let count = |name: &str| -> u64 {
        let (_, rest) = metrics.split_once(&format!("\n{name} ")).unwrap();
        rest.lines().next().unwrap().parse().unwrap()
    };
    // The garbage is good enough to get into the queue, too.
    let (asked, unreadable) = (
        count("gateway_queue_cancelled_requests_total"),
        count("gateway_queue_invalid_shards_total"),
    );
    assert!(asked > 400 && unreadable > 100, "{metrics}");
    assert_eq!(count("gateway_queue_grants_total"), 0);
    fs::write(&token, "t0ken.of-the.bot").unwrap();
    granted(&mut waiting);
}

/// Throws the garbage of these seeds at it, all at once.
fn throw(server: &Server, seeds: Range<u64>) {
    let thrown: Vec<_> = seeds
        .map(|seed| {
            let garbage = garbage(&mut fastrand::Rng::with_seed(seed));
            let mut stream = TcpStream::connect(server.queue).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream.set_write_timeout(Some(LONG)).unwrap();
            // It may be closed while we still write.
            let _ = stream.write_all(&garbage);
            (seed, garbage, stream)
        })
        .collect();
    // Who comes after them all is in the queue: they were looked at, too.
    let last = server.ask(4_000_000_000);
    server.wait_for_state("4000000000");
    drop(last);
    for (seed, garbage, stream) in thrown {
        // Those who wait, or are not through yet, would wait for ever.
        let _ = stream.shutdown(Shutdown::Write);
        let text = garbage[..garbage.len().min(500)].escape_ascii();
        assert!(closed_silently(stream), "GARBAGE={seed}: {text}");
    }
    server.wait_for_state(r#""waiting":1,"#);
}

/// Requests that are nearly good, or nothing of the kind. They ask for neither `wait`
/// nor `100-continue`, to which there are other answers.
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

/// Mostly the first, which is good.
fn pick<'a>(rng: &mut fastrand::Rng, from: &'a str) -> &'a str {
    let from: Vec<_> = from.split('|').collect();
    let good = rng.u8(..5) > 0;
    from[if good { 0 } else { rng.usize(..from.len()) }]
}

#[test]
fn a_shard_that_cannot_be_read_waits_as_shard_0_and_is_told_nothing() {
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
        // Two requests at the same instant may overtake each other.
        server.wait_for_state(&format!(r#""waiting":{n},"#));
        client
    });
    let clients: Vec<_> = clients.collect();
    server.wait_for_state(r#""shards":[0,0,0,0,0,0,5,65]"#);
    let metrics = server.page("/metrics").1;
    assert!(
        metrics.contains("gateway_queue_invalid_shards_total 7\n"),
        "{metrics}"
    );
    server.signal("-TERM");
    assert!(clients.into_iter().all(closed_silently));
}

#[test]
fn who_closes_its_half_of_the_connection_is_gone_and_takes_no_turn() {
    let _timed = machine::timed();
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
    assert!(start.elapsed() < spacing, "it was noticed at its turn only");
    let took = granted(&mut server.ask(1)) - start;
    assert!(took < spacing + SPACING, "{took:?}");
    let metrics = server.page("/metrics").1;
    assert!(
        metrics.contains("gateway_queue_grants_total 2\n"),
        "{metrics}"
    );
}

#[test]
fn who_sends_without_end_is_cut_off_and_nobody_waits_for_it() {
    let _busy = machine::busy();
    let server = Server::start(&[]);
    granted(&mut server.ask(0));
    let before = server.memory();
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
        for (start, more) in endless.iter().cycle().take(40) {
            let stream = server.send(start.as_bytes());
            scope.spawn(move || push(stream, more));
        }
        for shard in 0..4 {
            let asked = Instant::now();
            granted(&mut server.ask(shard));
            assert!(asked.elapsed() < IN_TIME, "{:?}", asked.elapsed());
        }
    });
    let after = server.memory();
    assert!(after < before + GROWTH, "{before} KiB, then {after} KiB");
}

/// Sends this again and again until the connection is closed.
fn push(mut stream: TcpStream, more: &str) {
    stream.set_write_timeout(Some(LONG)).unwrap();
    let more = more.repeat(1000);
    let start = Instant::now();
    let error = loop {
        if let Err(error) = stream.write_all(more.as_bytes()) {
            break error.kind();
        }
        assert!(start.elapsed() < LONG, "{} goes on", &more[..10]);
    };
    let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(closed.contains(&error), "{}: {error}", &more[..10]);
    assert!(closed_silently(stream), "{}", &more[..10]);
}

#[test]
fn a_client_that_trickles_is_closed_after_30_s_and_nobody_waits_for_it() {
    let _timed = machine::timed();
    let server = Server::start(&[]);
    granted(&mut server.ask(0));
    let start = Instant::now();
    let mut clients: Vec<_> = [
        "",
        "GET /?shard=",
        "GET / HTTP/1.1\r\nhost: ",
        "POST / HTTP/1.1\r\ncontent-length: 60000\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n",
    ]
    .iter()
    .cycle()
    .take(100)
    .map(|start| server.send(start.as_bytes()))
    .collect();
    let before = server.memory();
    while start.elapsed() < Duration::from_secs(31) {
        for (n, client) in clients.iter_mut().enumerate() {
            // Every fifth says nothing at all.
            let sent = if n % 5 == 0 {
                Ok(())
            } else {
                client.write_all(b"x")
            };
            let early = start.elapsed() < Duration::from_secs(29);
            assert!(sent.is_ok() || !early, "{n} after {:?}", start.elapsed());
        }
        let asked = Instant::now();
        granted(&mut server.ask(0));
        assert!(asked.elapsed() < IN_TIME, "{:?}", asked.elapsed());
    }
    let after = server.memory();
    assert!(after < before + GROWTH, "{before} KiB, then {after} KiB");
    for (n, client) in clients.into_iter().enumerate() {
        assert!(closed_silently(client), "{n}");
    }
    assert!(start.elapsed() < Duration::from_secs(35));
}

#[test]
fn who_never_reads_its_answers_is_closed_and_nobody_waits_for_it() {
    let _busy = machine::busy();
    // Each turn comes at once, so that answers pile up until the kernel has waited
    // a second for one of them to be acknowledged.
    let server = Server::start(&[("MAX_CONCURRENCY", "4096"), ("RUST_LOG", "info")]);
    granted(&mut server.ask(4095));
    let before = server.memory();
    thread::scope(|scope| {
        let deaf: Vec<_> = (0..4)
            .map(|n| {
                let queue = server.queue;
                scope.spawn(move || never_read(queue, n * 1000))
            })
            .collect();
        let mut shard = 4000;
        while !deaf.iter().all(|client| client.is_finished()) {
            let asked = Instant::now();
            granted(&mut server.ask(shard));
            assert!(asked.elapsed() < IN_TIME, "{:?}", asked.elapsed());
            shard = 4000 + (shard + 1) % 95;
            let grown = server.memory().saturating_sub(before);
            assert!(grown < GROWTH, "by {grown} KiB");
            thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Asks for a thousand shards again and again, and has no room for the answers.
fn never_read(queue: SocketAddr, first: u32) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&queue.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(LONG)).unwrap();
    let start = Instant::now();
    for n in (0..1000).cycle() {
        let request = format!("GET /?shard={} HTTP/1.1\r\nhost: q\r\n\r\n", first + n);
        if let Err(error) = stream.write_all(request.as_bytes()) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "it was left waiting");
            return;
        }
        assert!(start.elapsed() < LONG, "it takes requests for ever");
        // Faster ones are cut off for what they send while they wait.
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_thousand_clients_may_come_at_the_same_moment() {
    let _busy = machine::busy();
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    // It has no chance to accept them one by one.
    server.signal("-STOP");
    let clients: Vec<_> = (0..1000)
        .map(|n| {
            let at_once = Duration::from_millis(500);
            TcpStream::connect_timeout(&server.queue, at_once)
                .unwrap_or_else(|error| panic!("client {n}: {error}"))
        })
        .collect();
    server.signal("-CONT");
    drop(clients);
}
