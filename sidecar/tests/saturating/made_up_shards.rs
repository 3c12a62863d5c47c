//! Clients that invent shard ids as fast as they can neither exceed the memory of a small pod
//! nor delay a grant.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use crate::alone;
use crate::common::{PATIENCE, Server, granted, send};

/// How long a reservation is valid: longer than it takes to make all, so that thousands expire
/// later.
const RESERVATION_TTL: Duration = Duration::from_secs(20);

/// More shards than there are reservations.
const ALL_RESERVATIONS: u32 = 40_000;

/// How many reservations expire before the attack ends.
const EXPIRED: u32 = 10_000;

/// The time between two grants: short, because the lateness of hundreds of them is measured.
const INTERVAL: Duration = Duration::from_millis(20);

/// The memory that the process may use, in KiB.
const MEMORY: u64 = 64 * 1024;

#[test]
fn made_up_shards_stay_within_the_memory_and_delay_no_grant() {
    let _alone = alone();
    let server = Server::start(&[
        ("IDENTIFY_INTERVAL", "20ms"),
        ("RESERVATION_TTL", "20s"),
        // Each grant with its lateness, and no other line for each request.
        ("RUST_LOG", "info,gateway_queue::queue::task=debug"),
    ]);
    let (next, over) = (AtomicU32::new(1), AtomicBool::new(false));
    let client = || {
        let client = send(server.queue, b"");
        client.set_nodelay(true).unwrap();
        client
    };
    let start = Instant::now();
    let (grants, control) = thread::scope(|scope| {
        let control = scope.spawn(|| oversleeps(&over));
        for _ in 0..16 {
            scope.spawn(|| {
                // Lowers this thread only: the queue has the processor when it needs it.
                setpriority_process(None, 19).unwrap();
                let mut client = client();
                while !over.load(Ordering::Relaxed) {
                    come_and_go(&mut client, next.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        let mut honest = client();
        let (mut grants, mut filled) = (0_u64, None);
        while grants <= 600
            || filled.is_none_or(|shards| next.load(Ordering::Relaxed) < shards + EXPIRED)
        {
            assert!(
                start.elapsed() < RESERVATION_TTL + PATIENCE,
                "only {next:?} shards"
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
        over.store(true, Ordering::Relaxed);
        assert!(
            filled > Some(ALL_RESERVATIONS),
            "too few shards: {filled:?}"
        );
        (grants, control.join().unwrap())
    });
    let (made_up, peak) = (next.into_inner(), server.memory("VmHWM"));
    server.signal("-TERM");
    let log = server.log_to_the_end();
    let late: Vec<_> = log.filter_map(|line| lateness(&line)).collect();
    let (late, control) = (Spread::of(late), Spread::of(control));
    println!("{made_up} shards, {grants} grants, {peak} KiB");
    println!("grants late: {late:?}, a thread that does nothing else: {control:?}");
    assert!(peak < MEMORY, "{peak} KiB at most, of {MEMORY}");
    assert!(late.count >= grants, "{grants} grants, {late:?}");
    // Other programs delay any thread alike.
    for (late_by, control) in [(late.p90, control.p90), (late.p99, control.p99)] {
        let in_time = Duration::from_millis(5) + control;
        assert!(late_by <= in_time, "{late:?}, {control:?}");
    }
    assert!(
        late.most <= Duration::from_millis(250) + control.most,
        "{late:?}, {control:?}"
    );
}

/// The distribution of delays.
#[derive(Debug)]
struct Spread {
    count: u64,
    p90: Duration,
    p99: Duration,
    most: Duration,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self {
            count: all.len() as u64,
            p90: all[all.len() * 90 / 100],
            p99: all[all.len() * 99 / 100],
            most: all[all.len() - 1],
        }
    }
}

/// Returns how late a thread wakes that sleeps to exact instants like the queue: the share of
/// the machine.
fn oversleeps(over: &AtomicBool) -> Vec<Duration> {
    let mut late = Vec::new();
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        next += INTERVAL;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        late.push(next.elapsed());
    }
    late
}

/// Returns the lateness of a grant in the log: from the instant at which it was due.
fn lateness(line: &str) -> Option<Duration> {
    let (_, micros) = line.split_once(r#""late_us":"#)?;
    let digits = micros.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Duration::from_micros(digits.parse().unwrap()))
}

/// Asks without waiting, and reads the answer, which ends with its JSON.
fn come_and_go(client: &mut TcpStream, shard: u32) {
    let ask = format!("GET /?shard={shard}&wait=0 HTTP/1.1\r\nhost: q\r\n\r\n");
    client.write_all(ask.as_bytes()).unwrap();
    let mut answer = [0; 1024];
    let mut length = 0;
    while length == 0 || answer[length - 1] != b'}' {
        let read = client.read(&mut answer[length..]).unwrap();
        assert_ne!(read, 0, "closed");
        length += read;
    }
}
