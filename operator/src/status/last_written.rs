//! The status that was last written for each GatewayQueue. Until the watch returns it, the cached
//! status is old, and comparing with that would report the same change again.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;

use kube::runtime::reflector::ObjectRef;

use crate::api::{GatewayQueue, GatewayQueueStatus, Stored, reference};
use crate::lock;

/// The last written statuses.
#[derive(Debug, Default)]
pub struct LastWritten {
    last: Mutex<HashMap<ObjectRef<Stored>, Last>>,
}

#[derive(Debug)]
struct Last {
    /// The UID of the GatewayQueue, and the version that was observed.
    uid: Option<String>,
    version: Option<String>,
    status: GatewayQueueStatus,
}

impl LastWritten {
    /// Records the status written for a GatewayQueue.
    pub fn note(&self, queue: &GatewayQueue, status: &GatewayQueueStatus) {
        let last = Last {
            uid: queue.metadata.uid.clone(),
            version: queue.metadata.resource_version.clone(),
            status: status.clone(),
        };
        lock(&self.last).insert(reference(queue), last);
    }

    /// Returns the GatewayQueue with its last written status, if no newer version was observed.
    pub fn newest<'a>(&self, queue: &'a GatewayQueue) -> Cow<'a, GatewayQueue> {
        let mut all = lock(&self.last);
        let reference = reference(queue);
        let Some(last) = all.get(&reference) else {
            return Cow::Borrowed(queue);
        };
        let metadata = &queue.metadata;
        let is_newest = last.version.is_some()
            && (&last.uid, &last.version) == (&metadata.uid, &metadata.resource_version);
        if is_newest {
            let mut newest = queue.clone();
            newest.status = Some(last.status.clone());
            Cow::Owned(newest)
        } else {
            // From now on, the watch returns what was written.
            all.remove(&reference);
            Cow::Borrowed(queue)
        }
    }

    /// Forgets a deleted GatewayQueue.
    pub fn forget(&self, queue: &ObjectRef<Stored>) {
        lock(&self.last).remove(queue);
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
    fn the_last_written_status_counts_until_a_newer_version_is_observed() {
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
