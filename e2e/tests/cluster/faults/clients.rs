//! Plain clients that wait for grants and log what they see.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use gateway_queue_e2e::waits::{End, Figures, Wait, grants, list};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use super::Outcome;
use crate::common::wait::retry;
use crate::wait::wait_until;

const GRANT: &[u8] = b"{\"message\": \"You're free to connect now! :)\"}";

/// The delay of a disconnected client before its next request.
const RETRY: Duration = Duration::from_millis(200);

/// Where a client sends its requests.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The test's name for it.
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
}

/// How many grants a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grants {
    One,
    /// Another one after each grant, until [`Clients::finish`].
    Many,
}

/// Clients with a common log. They disconnect when it is dropped.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    runtime: Runtime,
}

struct Shared {
    started: Instant,
    started_at: SystemTime,
    buckets: u32,
    /// The target of disconnected clients.
    fallback: Target,
    finishing: AtomicBool,
    running: AtomicUsize,
    waits: Mutex<Vec<Wait>>,
}

impl Clients {
    /// No clients yet.
    pub(crate) fn new(buckets: u32, fallback: Target) -> Self {
        Self {
            shared: Arc::new(Shared {
                started: Instant::now(),
                started_at: SystemTime::now(),
                buckets,
                fallback,
                finishing: AtomicBool::new(false),
                running: AtomicUsize::new(0),
                waits: Mutex::default(),
            }),
            // The clients run while the test's own thread is blocked.
            runtime: Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// Starts a client, which repeats its request whenever it is disconnected.
    pub(crate) fn start(&self, shard: u32, target: &Target, grants: Grants) {
        let shared = Arc::clone(&self.shared);
        let target = target.clone();
        shared.running.fetch_add(1, Ordering::SeqCst);
        self.runtime.spawn(async move {
            shared.client(shard, target, grants).await;
            shared.running.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// The time since the start of the log.
    pub(crate) fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// The time of an instant of the system clock, since the start of the log.
    pub(crate) fn time_of(&self, at: SystemTime) -> Duration {
        at.duration_since(self.shared.started_at)
            .unwrap_or_default()
    }

    fn waits(&self) -> Vec<Wait> {
        self.shared.waits.lock().unwrap().clone()
    }

    /// Lets each client stop after its next grant. Returns the log once all have stopped.
    pub(crate) fn finish(&self, patience: Duration) -> Outcome {
        self.shared.finishing.store(true, Ordering::SeqCst);
        retry("all clients to be granted", patience, || {
            match self.shared.running.load(Ordering::SeqCst) {
                0 => Ok(()),
                _ => Err(list(&self.waits())),
            }
        });
        let waits = self.waits();
        let figures = Figures::of(&waits, self.now());
        Outcome { waits, figures }
    }

    /// Waits for this many more grants.
    pub(crate) fn wait_for_grants(&self, count: usize) {
        let enough = grants(&self.waits()).len() + count;
        wait_until("grants", Duration::from_secs(60), || {
            grants(&self.waits()).len() >= enough
        });
    }
}

impl Shared {
    async fn client(&self, mut shard: u32, mut target: Target, grants: Grants) {
        loop {
            let index = self.log(shard, &target);
            let end = request(target.address, shard).await;
            let granted = end == End::Granted;
            self.waits.lock().unwrap()[index].end = Some((self.started.elapsed(), end));
            if !granted {
                sleep(RETRY).await;
                target = self.fallback.clone();
            } else if grants == Grants::One || self.finishing.load(Ordering::SeqCst) {
                return;
            } else {
                // Another one of the bucket: a shard that is granted again and again is held.
                shard += 100 * self.buckets;
            }
        }
    }

    fn log(&self, shard: u32, target: &Target) -> usize {
        let mut waits = self.waits.lock().unwrap();
        waits.push(Wait {
            shard,
            bucket: shard % self.buckets,
            target: target.name.to_owned(),
            sent: self.started.elapsed(),
            end: None,
        });
        waits.len() - 1
    }
}

/// Sends one request, on a connection of its own.
async fn request(address: SocketAddr, shard: u32) -> End {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return End::Refused(error.to_string()),
    };
    let request = format!("GET /?shard={shard} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
    let mut response = Vec::new();
    let read = async {
        stream.write_all(request.as_bytes()).await?;
        while !response.ends_with(GRANT) {
            if stream.read_buf(&mut response).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    let read = read.await;
    if response.starts_with(b"HTTP/1.1 200 OK\r\n") && response.ends_with(GRANT) {
        return End::Granted;
    }
    let response = String::from_utf8_lossy(&response);
    End::Closed(match read {
        Ok(()) => format!("end of {response:?}"),
        Err(error) => format!("{error} after {response:?}"),
    })
}
