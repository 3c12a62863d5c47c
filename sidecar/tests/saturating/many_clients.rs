//! Many clients connect at the same moment, as all shards do after a restart of a bot.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::alone;
use crate::common::Server;

#[test]
fn a_thousand_clients_may_connect_at_the_same_moment() {
    let _alone = alone();
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    // It cannot accept them one by one.
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

/// The kernel sends the keepalive probes of all of them in the same instant, and loopback drops
/// most: a client must not count as lost because of that.
#[test]
fn clients_that_connected_at_the_same_moment_stay_connected_while_they_wait() {
    const CLIENTS: u32 = 8000;
    /// Longer than it takes until a client counts as lost: 25 s.
    const WATCHED: Duration = Duration::from_secs(28);
    let _alone = alone();
    let mut files = getrlimit(Resource::Nofile);
    // Only root may raise the maximum.
    files.maximum = files.maximum.map(|files| files.max(10_000));
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    let clients: Vec<_> = (0..CLIENTS).map(|shard| server.ask(shard)).collect();
    // One is granted at once.
    let held = format!("gateway_queue_held_requests {}\n", CLIENTS - 1);
    server.wait_for_page("/metrics", &held);
    let all_wait = Instant::now();
    while all_wait.elapsed() < WATCHED {
        server.has_metric("gateway_queue_cancelled_requests_total 0\n");
        thread::sleep(Duration::from_secs(1));
    }
    drop(clients);
}
