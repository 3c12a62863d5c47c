//! Clients that invent shard ids as fast as they can neither exceed the memory of a small pod
//! nor delay a grant.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use crate::alone;
use crate::common::{PATIENCE, Server, granted, send};

/// How long a reservation is valid: longer than it takes to make all, so that thousands expire
/// later.
const RESERVATION_TTL: Duration = Duration::from_secs(20);

/// More shards than there are reservations.
const ALL_RESERVATIONS: u32 = 40_000;

/// How many reservations expire before the attack ends.
const EXPIRED: u32 = 10_000;

/// How often the wait of the queue for a processor is read.
const SAMPLE: Duration = Duration::from_millis(5);

/// The memory that the process may use, in KiB.
const MEMORY: u64 = 64 * 1024;

#[test]
fn made_up_shards_stay_within_the_memory_and_delay_no_grant() {
    let _alone = alone();
    let server = Server::start(&[
        // Short, because the lateness of hundreds of grants is measured.
        ("IDENTIFY_INTERVAL", "20ms"),
        ("RESERVATION_TTL", "20s"),
        // Each grant with its lateness, and no other line for each request.
        ("RUST_LOG", "info,gateway_queue::queue::task=debug"),
    ]);
    let process = server.process();
    let (next, over) = (AtomicU32::new(1), AtomicBool::new(false));
    let queue = server.queue;
    let client = || {
        let client = send(queue, b"");
        client.set_nodelay(true).unwrap();
        client
    };
    let honest = || {
        let mut client = client();
        let start = Instant::now();
        let (mut grants, mut filled) = (0_u64, None);
        while grants <= 600
            || filled.is_none_or(|shards| next.load(Ordering::Relaxed) < shards + EXPIRED)
        {
            let end = RESERVATION_TTL + PATIENCE;
            assert!(start.elapsed() < end, "only {next:?} shards");
            client
                .write_all(b"GET /?shard=0 HTTP/1.1\r\nhost: q\r\n\r\n")
                .unwrap();
            granted(&mut client);
            grants += 1;
            if start.elapsed() > RESERVATION_TTL {
                filled.get_or_insert(next.load(Ordering::Relaxed));
            }
        }
        assert!(filled > Some(ALL_RESERVATIONS), "only {filled:?} shards");
        grants
    };
    let (grants, samples) = thread::scope(|scope| {
        let samples = scope.spawn(|| processor_waits(process, &over));
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = client();
                while !over.load(Ordering::Relaxed) {
                    come_and_go(&mut client, next.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        let grants = scope.spawn(honest).join();
        // Also after a failure, for which the scope waits.
        over.store(true, Ordering::Relaxed);
        (grants.unwrap(), samples.join().unwrap())
    });
    let (made_up, peak) = (next.into_inner(), server.memory("VmHWM"));
    server.signal("-TERM");
    let log = server.log_to_the_end();
    let (late, own): (Vec<_>, Vec<_>) = log
        .filter_map(|line| Late::of(&line))
        .map(|late| (late.by, late.own(&samples)))
        .unzip();
    let (late, own) = (Spread::of(late), Spread::of(own));
    println!("{made_up} shards, {grants} grants, {peak} KiB");
    println!("grants late: {late:?}, without the time of other programs: {own:?}");
    assert!(peak < MEMORY, "{peak} KiB at most, of {MEMORY}");
    assert!(own.count >= grants, "{grants} grants");
    assert!(own.p99 <= Duration::from_millis(5), "{own:?}");
    assert!(own.most <= Duration::from_millis(250), "{own:?}");
}

/// The distribution of delays.
#[derive(Debug)]
struct Spread {
    count: u64,
    p99: Duration,
    most: Duration,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self {
            count: all.len() as u64,
            p99: all[all.len() * 99 / 100],
            most: all[all.len() - 1],
        }
    }
}

/// How long the threads of the queue had been ready to run without a processor.
struct ProcessorWait {
    at: SystemTime,
    total: Duration,
}

impl ProcessorWait {
    fn now(process: u32) -> Self {
        let at = SystemTime::now();
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let nanos = threads.filter_map(|thread| {
            // A thread that has just ended has no file.
            let stat = fs::read_to_string(thread.unwrap().path().join("schedstat")).ok()?;
            let wait = stat.split_whitespace().nth(1).unwrap();
            Some(wait.parse::<u64>().unwrap())
        });
        Self {
            at,
            total: Duration::from_nanos(nanos.sum()),
        }
    }
}

/// Reads the waits of this process until `over`.
fn processor_waits(process: u32, over: &AtomicBool) -> Vec<ProcessorWait> {
    let mut samples = Vec::new();
    while !over.load(Ordering::Relaxed) {
        samples.push(ProcessorWait::now(process));
        thread::sleep(SAMPLE);
    }
    samples.push(ProcessorWait::now(process));
    samples
}

/// A grant's delay after the instant at which it was due.
struct Late {
    by: Duration,
    until: SystemTime,
}

impl Late {
    /// Reads a line of the log, if it reports a grant.
    fn of(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let micros = line["late_us"].as_u64()?;
        let timestamp: Timestamp = line["timestamp"].as_str()?.parse().unwrap();
        Some(Self {
            by: Duration::from_micros(micros),
            until: timestamp.into(),
        })
    }

    /// Returns the delay without the time during which other programs had the processors.
    fn own(&self, samples: &[ProcessorWait]) -> Duration {
        let from = self.until - self.by;
        let before = samples.partition_point(|sample| sample.at <= from);
        let after = samples.partition_point(|sample| sample.at < self.until);
        let total = |index: usize| samples.get(index).map(|sample| sample.total);
        let before = total(before.saturating_sub(1)).unwrap_or_default();
        let after = total(after).unwrap_or(before);
        self.by.saturating_sub(after.saturating_sub(before))
    }
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
