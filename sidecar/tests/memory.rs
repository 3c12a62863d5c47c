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
        ("PLACE_KEPT", "45s"),
        ("RUST_LOG", "info"),
    ]);
    let (next, queue) = (AtomicU32::new(1), server.queue);
    let start = Instant::now();
    let grants = thread::scope(|scope| {
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
        grants
    });
    let (made_up, peak) = (next.into_inner(), server.peak_memory());
    let metrics = server.page("/metrics").1;
    let count = |line: &str| -> u64 {
        let (_, rest) = metrics.split_once(line).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    const LATENESS: &str = "\ngateway_queue_grant_lateness_seconds_";
    let in_time = count(&format!("{LATENESS}bucket{{le=\"0.005\"}} "));
    let all = count(&format!("{LATENESS}count "));
    println!("{made_up} shards, {grants} grants, {in_time} of {all} in time, {peak} KiB");
    assert!(made_up > 40_000, "too few to fill what is kept: {made_up}");
    assert!(peak < MEMORY, "{peak} KiB at most, of {MEMORY}");
    assert!(grants > 300, "{grants} grants");
    // Other programs may take the processor for a moment, but not for this long.
    assert!(in_time * 10 >= all * 9, "{in_time} of {all}:\n{metrics}");
    let at_last = count(&format!("{LATENESS}bucket{{le=\"0.25\"}} "));
    assert_eq!(at_last, all, "{metrics}");
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
