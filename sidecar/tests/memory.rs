//! Clients that make up shard ids as fast as they can cost neither more memory than
//! a small pod has nor anybody a grant in time. A program of its own, as it keeps the
//! whole machine busy.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "server/common/mod.rs"]
#[allow(dead_code)]
mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use common::{LONG, Server, granted};

/// For so long the clients come and go.
const ATTACK: Duration = Duration::from_secs(60);

/// What the process may use at most, in KiB.
const MEMORY: u64 = 64 * 1024;

#[test]
fn made_up_shards_stay_within_the_memory_and_delay_no_grant() {
    let server = Server::start(&[
        ("IDENTIFY_INTERVAL", "50ms"),
        // So that places are kept by the thousand, and expire by the thousand, too.
        ("RESERVATION_TTL", "45s"),
        // Each grant with its lateness, and nothing else for each request.
        ("RUST_LOG", "info,gateway_queue::queue::task=debug"),
    ]);
    let (next, queue) = (AtomicU32::new(1), server.queue);
    let start = Instant::now();
    let (grants, control) = thread::scope(|scope| {
        let control = scope.spawn(|| oversleeps(start));
        for _ in 0..16 {
            scope.spawn(|| {
                // Of this thread: the queue has the processor when it needs it.
                setpriority_process(None, 19).unwrap();
                let mut client = connect(queue);
                while start.elapsed() < ATTACK {
                    come_and_go(&mut client, next.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        let mut honest = connect(queue);
        let mut grants = 0_u64;
        while start.elapsed() < ATTACK {
            let ask = "GET /?shard=0 HTTP/1.1\r\nhost: q\r\n\r\n";
            honest.write_all(ask.as_bytes()).unwrap();
            granted(&mut honest);
            grants += 1;
        }
        (grants, control.join().unwrap())
    });
    let (made_up, peak) = (next.into_inner(), server.peak_memory());
    server.signal("-TERM");
    let log = server.log_to_the_end();
    let late: Vec<_> = log.filter_map(|line| lateness(&line)).collect();
    let (late, control) = (Spread::of(late), Spread::of(control));
    println!("{made_up} shards, {grants} grants, {peak} KiB");
    println!("grants late: {late:?}, a thread that does nothing else: {control:?}");
    assert!(made_up > 40_000, "too few to fill what is kept: {made_up}");
    assert!(peak < MEMORY, "{peak} KiB at most, of {MEMORY}");
    assert!(
        grants > 300 && late.count >= grants,
        "{grants} grants, {late:?}"
    );
    // Other programs may take the processor, from any thread alike.
    for (late_by, control) in [(late.p90, control.p90), (late.p99, control.p99)] {
        let in_time = Duration::from_millis(5) + control;
        assert!(late_by <= in_time, "{late:?}, {control:?}");
    }
    assert!(
        late.most <= Duration::from_millis(250) + control.most,
        "{late:?}, {control:?}"
    );
}

/// How late things were.
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

/// How late a thread wakes that sleeps to exact instants, as the queue's does: what
/// the machine costs and not the queue.
fn oversleeps(start: Instant) -> Vec<Duration> {
    let mut late = Vec::new();
    let mut next = start;
    while start.elapsed() < ATTACK {
        next += Duration::from_millis(50);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        late.push(next.elapsed());
    }
    late
}

/// By the server's own measure, from the instant at which a grant was due.
fn lateness(line: &str) -> Option<Duration> {
    let (_, micros) = line.split_once(r#""late_us":"#)?;
    let digits = micros.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Duration::from_micros(digits.parse().unwrap()))
}

fn connect(queue: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(queue).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.set_nodelay(true).unwrap();
    client
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
