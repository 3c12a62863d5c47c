//! What this pod knows about its connection to the leader. All client connections and the
//! monitor of the leader share it.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway_queue_core::leadership::leader_health::Health;
use gateway_queue_core::time::Moment;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::changes::send_if_new;

/// A missing response counts this long: waiting requests are retried sooner.
const SILENT_FOR: Duration = Duration::from_secs(5);

/// A missing response is logged again after this time without one.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// How long the Service takes to notice that a pod is not ready: three probes of the
/// kubelet, and the propagation to the nodes.
const DRAIN_AFTER: Duration = Duration::from_secs(15);

/// When the leader last responded, when it last did not, and the resulting health.
#[derive(Debug)]
pub struct Reach {
    /// The last missing response, in nanoseconds of [`Moment`]; 0 for none.
    silent: AtomicU64,
    /// The last response, likewise.
    answered: AtomicU64,
    /// Notified when an unreachable leader responds.
    heard: Notify,
    health: watch::Sender<Health>,
    drain_after: Duration,
}

impl Default for Reach {
    fn default() -> Self {
        Self::new(DRAIN_AFTER)
    }
}

impl Reach {
    /// Returns a state without any response. Clients are disconnected from a pod that has not
    /// been ready for `drain_after`.
    pub fn new(drain_after: Duration) -> Self {
        Self {
            silent: AtomicU64::default(),
            answered: AtomicU64::default(),
            heard: Notify::new(),
            health: watch::channel(Health::default()).0,
            drain_after,
        }
    }

    /// Records that a leader did not respond, twice at least: one that resigns does not
    /// respond once. Returns whether to log it.
    pub fn silent(&self, now: Moment) -> bool {
        let before = self.silent.swap(now.as_nanos(), Ordering::Relaxed);
        before == 0 || now.since(Moment::from_nanos(before)) > LOG_INTERVAL
    }

    /// Returns whether a response was missing recently.
    pub fn is_silent(&self, now: Moment) -> bool {
        let at = self.silent.load(Ordering::Relaxed);
        at != 0 && now.since(Moment::from_nanos(at)) < SILENT_FOR
    }

    /// Records that the leader responded to a forwarded request.
    pub fn answered(&self, now: Moment) {
        self.answered.fetch_max(now.as_nanos(), Ordering::Relaxed);
        if matches!(*self.health.borrow(), Health::Unreachable { .. }) {
            self.heard.notify_one();
        }
    }

    /// Waits until an unreachable leader has responded to a forwarded request.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }

    /// Returns the time of the last response.
    pub fn answered_at(&self) -> Moment {
        Moment::from_nanos(self.answered.load(Ordering::Relaxed))
    }

    /// Publishes the health of the leader.
    pub fn publish(&self, health: Health) {
        let silent_since = match &health {
            Health::Unreachable { since, .. } => Some(*since),
            _ => None,
        };
        send_if_new(&self.health, health);
        // A response just before this has notified no task.
        if silent_since.is_some_and(|since| self.answered_at() > since) {
            self.heard.notify_one();
        }
    }

    /// Returns the health of the leader.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Returns a receiver of the changes of [`Reach::health`].
    pub fn subscribe(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Waits until this pod has not been ready for so long that a client which is
    /// disconnected reconnects to another pod.
    pub async fn drained(&self) {
        let mut health = self.health.subscribe();
        loop {
            if health.wait_for(|health| !health.is_ready()).await.is_err() {
                // The sender is in `self`, so this cannot happen.
                return pending().await;
            }
            let ready = health.wait_for(Health::is_ready);
            if timeout(self.drain_after, ready).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_queue_core::leadership::state::Leader;

    fn unready() -> Health {
        Health::Unreachable {
            leader: Leader {
                holder: "a".to_owned(),
                address: ([10, 0, 0, 1], 9091).into(),
            },
            since: Moment::ZERO,
            lives: true,
        }
    }

    #[test]
    fn a_silent_leader_is_logged_once_until_it_has_responded_for_a_while() {
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let reach = Reach::default();
        assert!(!reach.is_silent(at(1)));
        assert!(reach.silent(at(1)));
        assert!(!reach.silent(at(3)));
        assert!(reach.is_silent(at(7)));
        assert!(!reach.is_silent(at(8)));
        assert!(!reach.silent(at(60)));
        assert!(reach.silent(at(121)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_just_before_or_after_the_leader_becomes_unreachable_is_noticed() {
        let answer = Moment::ZERO + Duration::from_secs(1);
        let short = Duration::from_millis(1);
        for answer_first in [true, false] {
            let reach = Reach::default();
            reach.publish(Health::Reachable);
            if answer_first {
                reach.answered(answer);
            }
            reach.publish(unready());
            if !answer_first {
                assert!(timeout(short, reach.heard()).await.is_err());
                reach.answered(answer);
            }
            let heard = timeout(short, reach.heard()).await;
            assert!(heard.is_ok(), "answer first: {answer_first}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_disconnected_only_from_a_pod_that_stays_unready() {
        let reach = Reach::default();
        let short = DRAIN_AFTER - Duration::from_secs(1);
        assert!(timeout(DRAIN_AFTER * 2, reach.drained()).await.is_err());
        let drained = reach.drained();
        tokio::pin!(drained);
        for _ in 0..3 {
            reach.publish(unready());
            assert!(timeout(short, drained.as_mut()).await.is_err());
            reach.publish(Health::Reachable);
            assert!(timeout(short, drained.as_mut()).await.is_err());
        }
        reach.publish(unready());
        assert!(timeout(DRAIN_AFTER + short, drained).await.is_ok());
        // A client that connects now is given the same time.
        assert!(timeout(short, reach.drained()).await.is_err());
        assert!(timeout(DRAIN_AFTER * 2, reach.drained()).await.is_ok());
    }
}
