//! Stand-ins for the leaders of many queues: they renew the Leases, and do nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use crate::api::{Api, LEASE};

/// The time between two renewals of a Lease, as in a queue.
const PERIOD: Duration = Duration::from_secs(5);

const THREADS: usize = 4;

/// The leaders, until this is dropped. They keep their Leases, as after a crash.
pub(super) struct Leaders {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Leaders {
    /// Starts a leader for each of these queues.
    pub(super) fn start(namespace: &str, queues: &[String]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let share = queues.len().div_ceil(THREADS);
        let threads = queues.chunks(share).map(|queues| {
            let (namespace, queues) = (namespace.to_owned(), queues.to_vec());
            let stop = Arc::clone(&stop);
            thread::spawn(move || renew(&namespace, &queues, &stop))
        });
        let threads = threads.collect();
        Self { stop, threads }
    }
}

impl Drop for Leaders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic while a test fails would abort the process.
            let _ = thread.join();
        }
    }
}

/// The pod that leads a queue.
pub(super) fn leader(queue: &str) -> String {
    format!("{queue}-7d9f")
}

/// Renews the Leases in turn, evenly over each period.
fn renew(namespace: &str, queues: &[String], stop: &AtomicBool) {
    let api = Api::new();
    let pause = PERIOD / u32::try_from(queues.len()).unwrap();
    let mut due = Instant::now();
    for queue in queues.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // Renewals that are late are not made up for.
        due = due.max(Instant::now()) + pause;
        let spec = json!({
            "holderIdentity": format!("{}_1", leader(queue)), "leaseDurationSeconds": 15,
            "renewTime": format!("{:.6}", Timestamp::now()),
        });
        // The API server may be down.
        let _ = api.patch(LEASE, namespace, queue, &json!({ "spec": spec }));
    }
}
