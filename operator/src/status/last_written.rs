//! What was told of each GatewayQueue. The watch brings a status back a moment after
//! it was written; until then the one that is stored is old, and to compare with it
//! would tell the same once more.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::runtime::reflector::ObjectRef;

use crate::api::{GatewayQueue, GatewayQueueStatus, Stored, reference};

/// See the module.
#[derive(Debug, Default)]
pub struct LastWritten {
    last: Mutex<HashMap<ObjectRef<Stored>, Last>>,
}

#[derive(Debug)]
struct Last {
    /// The object of which it was told, as it was seen then.
    uid: Option<String>,
    version: Option<String>,
    status: GatewayQueueStatus,
}

impl LastWritten {
    /// Notes what was told of a GatewayQueue.
    pub fn note(&self, queue: &GatewayQueue, status: &GatewayQueueStatus) {
        let last = Last {
            uid: queue.metadata.uid.clone(),
            version: queue.metadata.resource_version.clone(),
            status: status.clone(),
        };
        self.lock().insert(reference(queue), last);
    }

    /// The GatewayQueue with what was told of it last, should it not have been seen
    /// since.
    pub fn newest<'a>(&self, queue: &'a GatewayQueue) -> Cow<'a, GatewayQueue> {
        let all = self.lock();
        let last = all.get(&reference(queue)).filter(|last| {
            let metadata = &queue.metadata;
            last.version.is_some()
                && (&last.uid, &last.version) == (&metadata.uid, &metadata.resource_version)
        });
        match last {
            None => Cow::Borrowed(queue),
            Some(last) => {
                let mut newest = queue.clone();
                newest.status = Some(last.status.clone());
                Cow::Owned(newest)
            }
        }
    }

    /// Forgets a GatewayQueue that is gone.
    pub fn forget(&self, queue: &ObjectRef<Stored>) {
        self.lock().remove(queue);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<Stored>, Last>> {
        // Each note is whole, whatever happened to another thread.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn queue(version: &str) -> GatewayQueue {
        let mut queue = crate::testing::queue(json!({}));
        queue.metadata.resource_version = Some(version.to_owned());
        queue
    }

    #[test]
    fn what_was_told_counts_until_something_newer_is_seen() {
        let last_written = LastWritten::default();
        let status = GatewayQueueStatus {
            leader: Some("my-bot-1".to_owned()),
            ..GatewayQueueStatus::default()
        };
        assert_eq!(last_written.newest(&queue("7")).status, None);
        last_written.note(&queue("7"), &status);
        assert_eq!(
            last_written.newest(&queue("7")).status,
            Some(status.clone())
        );
        assert_eq!(last_written.newest(&queue("8")).status, None);
        let mut another = queue("7");
        another.metadata.uid = Some("0666".to_owned());
        assert_eq!(last_written.newest(&another).status, None);
        last_written.forget(&reference(&queue("7")));
        assert_eq!(last_written.newest(&queue("7")).status, None);
    }
}
