//! Clients that invent shard ids as fast as they can neither exceed the memory of a small pod
//! nor delay a grant.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use rustix::process::setpriority_process;
use serde_json::Value;

use crate::alone;
use crate::common::{PATIENCE, Server, granted, send};
use crate::processor;

/// How long a reservation is valid: longer than it takes to make all, so that thousands expire
/// later.
const RESERVATION_TTL: Duration = Duration::from_secs(20);

/// More shards than there are reservations.
const ALL_RESERVATIONS: u32 = 40_000;

/// More shards than are remembered.
const ALL_SHARDS: u32 = 40_000;

/// How many reservations expire before the attack ends.
const EXPIRED: u32 = 10_000;

/// The memory that the process may use, in KiB.
const MEMORY: u64 = 64 * 1024;

#[test]
fn made_up_shards_stay_within_the_memory_and_delay_no_grant() {
    let _alone = alone();
    let server = Server::start(&[
        // Short, because the lateness of hundreds of grants is measured.
        ("IDENTIFY_INTERVAL", "20ms"),
        ("RESERVATION_TTL", "20s"),
        // The honest client would be held.
        ("SHARD_BURST", "0"),
        // Each grant with its lateness, and no other line for each request.
        ("RUST_LOG", "info,gateway_queue::queue::task=debug"),
    ]);
    let process = server.process();
    let (next, over) = (AtomicU32::new(1), AtomicBool::new(false));
    let reported = AtomicU32::new(1);
    let queue = server.queue;
    let client = || {
        let client = send(queue, b"");
        client.set_nodelay(true).unwrap();
        client
    };
    let start = Instant::now();
    let (grants, samples) = thread::scope(|scope| {
        // Also after a failure: the scope waits for the clients, which otherwise never end.
        let end = SetOnDrop(&over);
        let samples = scope.spawn(|| processor::watch(process, &over));
        for _ in 0..16 {
            scope.spawn(|| {
                // Lowers this thread only: the queue has the processor when it needs it.
                setpriority_process(None, 19).unwrap();
                let mut client = client();
                while !over.load(Ordering::Relaxed) {
                    let shard = next.fetch_add(1, Ordering::Relaxed);
                    come_and_go(&mut client, shard);
                    // All reservations must be made before the first expires, also on a slow
                    // machine. The reports begin only then, so there are two for each shard.
                    if shard > ALL_RESERVATIONS {
                        for _ in 0..2 {
                            report(&mut client, reported.fetch_add(1, Ordering::Relaxed));
                        }
                    }
                }
            });
        }
        let mut honest = client();
        let (mut grants, mut filled) = (0, None);
        while grants <= 600
            || reported.load(Ordering::Relaxed) <= ALL_SHARDS
            || filled.is_none_or(|shards| next.load(Ordering::Relaxed) < shards + EXPIRED)
        {
            assert!(
                start.elapsed() < RESERVATION_TTL + PATIENCE,
                "only {next:?} shards, {reported:?} reports"
            );
            honest
                .write_all(b"GET /?shard=0 HTTP/1.1\r\nhost: q\r\n\r\n")
                .unwrap();
            granted(&mut honest);
            grants += 1;
            if start.elapsed() > RESERVATION_TTL {
                filled.get_or_insert(next.load(Ordering::Relaxed));
            }
        }
        assert!(filled > Some(ALL_RESERVATIONS), "only {filled:?} shards");
        drop(end);
        (grants, samples.join().unwrap())
    });
    let (made_up, peak) = (next.into_inner(), server.memory("VmHWM"));
    let reported = reported.into_inner();
    server.signal("-TERM");
    let log = server.log_to_the_end();
    let (late, unexplained): (Vec<_>, Vec<_>) = log
        .filter_map(|line| Late::of(&line))
        .map(|Late { by, logged }| {
            let explained = processor::explained(&samples, logged - by, logged);
            (by, by.saturating_sub(explained))
        })
        .unzip();
    assert_eq!(late.len(), grants, "the log has a line for each grant");
    let (late, unexplained) = (Spread::of(late), Spread::of(unexplained));
    println!("{made_up} shards, {reported} reports, {grants} grants, {peak} KiB");
    println!("grants late: {late:?}; not for want of a processor: {unexplained:?}");
    assert!(peak < MEMORY, "{peak} KiB at most, of {MEMORY}");
    for (late_by, limit_ms) in [(unexplained.p99, 5), (unexplained.most, 250)] {
        let limit = Duration::from_millis(limit_ms);
        assert!(late_by <= limit, "{late:?}, {unexplained:?}");
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The distribution of delays.
#[derive(Debug)]
struct Spread {
    p99: Duration,
    most: Duration,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self {
            p99: all[all.len() * 99 / 100],
            most: all[all.len() - 1],
        }
    }
}

/// A late grant of the client that invents nothing.
struct Late {
    /// The delay after the instant at which it was due.
    by: Duration,
    /// When it was logged, shortly after it was written.
    logged: SystemTime,
}

impl Late {
    /// Reads a line of the log, if it reports such a grant.
    fn of(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let micros = line["late_us"].as_u64().filter(|_| line["shard"] == 0)?;
        let timestamp: Timestamp = line["timestamp"].as_str()?.parse().unwrap();
        Some(Self {
            by: Duration::from_micros(micros),
            logged: timestamp.into(),
        })
    }
}

/// Asks without waiting, and reads the answer, which ends with its JSON.
fn come_and_go(client: &mut TcpStream, shard: u32) {
    exchange(client, &format!("shard={shard}&wait=0"), b"}");
}

/// Reports something, and reads the answer, which has no body.
fn report(client: &mut TcpStream, shard: u32) {
    exchange(client, &format!("shard={shard}&report=closed"), b"\r\n\r\n");
}

/// Sends a request, and reads the answer, which ends with these bytes.
fn exchange(client: &mut TcpStream, query: &str, end: &[u8]) {
    let request = format!("GET /?{query} HTTP/1.1\r\nhost: q\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 1024];
    let mut length = 0;
    while !answer[..length].ends_with(end) {
        let read = client.read(&mut answer[length..]).unwrap();
        assert_ne!(read, 0, "closed");
        length += read;
    }
}
