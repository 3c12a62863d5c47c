//! Stand-ins for the leaders of many queues: they renew the Leases, and do nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use crate::api::{Api, LEASE, QUEUE};

const THREADS: usize = 4;

/// The leaders, until this is dropped. They keep their Leases, as after a crash.
pub(crate) struct Leaders {
    namespace: String,
    count: usize,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Leaders {
    /// Starts a leader for each of these queues, which renews the Lease once in each period.
    pub(crate) fn start(namespace: &str, queues: &[String], period: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let share = queues.len().div_ceil(THREADS);
        let threads = queues.chunks(share).map(|queues| {
            let (namespace, queues) = (namespace.to_owned(), queues.to_vec());
            let stop = Arc::clone(&stop);
            thread::spawn(move || renew(&namespace, &queues, period, &stop))
        });
        let threads = threads.collect();
        Self {
            namespace: namespace.to_owned(),
            count: queues.len(),
            stop,
            threads,
        }
    }

    /// The finding that the status of some queues does not name the leader.
    pub(crate) fn unreported(&self, api: &Api) -> Option<String> {
        let queues = api.list(QUEUE, &self.namespace);
        let led = queues.iter().filter(|queue| {
            let name = queue["metadata"]["name"].as_str().unwrap();
            queue["status"]["leader"] == leader(name)
        });
        let (led, all) = (led.count(), self.count);
        (led != all).then(|| format!("{led} of {all} have a leader"))
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
fn leader(queue: &str) -> String {
    format!("{queue}-7d9f")
}

/// Renews the Leases in turn, evenly over each period.
fn renew(namespace: &str, queues: &[String], period: Duration, stop: &AtomicBool) {
    let api = Api::new();
    let pause = period / u32::try_from(queues.len()).unwrap();
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
        let _ = api.patch(
            LEASE,
            namespace,
            &LEASE.child_of(queue),
            &json!({ "spec": spec }),
        );
    }
}
