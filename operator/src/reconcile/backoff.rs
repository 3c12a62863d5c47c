//! The pause before a failed reconcile is retried. Each object has its own count, so that one
//! that keeps failing does not delay others.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;

use crate::api::Stored;
use crate::lock;
use crate::pause::{doubled, jittered};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// The consecutive failures of each object.
#[derive(Debug, Default)]
pub struct Backoffs {
    failures: Mutex<HashMap<ObjectRef<Stored>, u32>>,
}

impl Backoffs {
    /// Counts a failure and returns the pause. `jitter` is from 0 to 1.
    pub fn failed(&self, object: ObjectRef<Stored>, jitter: f64) -> Duration {
        let mut failures = lock(&self.failures);
        let count = failures.entry(object).or_default();
        *count = count.saturating_add(1);
        jittered(pause(*count), jitter)
    }

    /// Whether the last reconcile of an object failed.
    pub fn has_failed(&self, object: &ObjectRef<Stored>) -> bool {
        lock(&self.failures).contains_key(object)
    }

    /// Forgets the failures of an object that succeeded or was deleted.
    pub fn forget(&self, object: &ObjectRef<Stored>) {
        lock(&self.failures).remove(object);
    }
}

/// Doubles with each failure, up to [`MAX_PAUSE`].
fn pause(failures: u32) -> Duration {
    doubled(FIRST_PAUSE, failures.saturating_sub(1), MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_five_minutes() {
        let waits: Vec<u64> = (1..=11).map(|n| pause(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pause(u32::MAX), MAX_PAUSE);
    }

    #[test]
    fn objects_do_not_wait_for_each_other() {
        let backoffs = Backoffs::default();
        let (a, b) = (ObjectRef::new("a"), ObjectRef::new("b"));
        backoffs.failed(a.clone(), 1.0);
        assert_eq!(backoffs.failed(a.clone(), 1.0), Duration::from_secs(2));
        assert_eq!(backoffs.failed(b, 1.0), Duration::from_secs(1));
        backoffs.forget(&a);
        assert_eq!(backoffs.failed(a, 0.0), Duration::from_millis(500));
    }
}
