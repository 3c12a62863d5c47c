//! What this pod knows about its way to the leader. Every connection and the monitor of the
//! leader share it.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway_queue_core::leadership::leader_health::Health;
use gateway_queue_core::time::Moment;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Whoever waits asks again sooner than this.
const FRESH: Duration = Duration::from_secs(5);

/// It is logged again when it was well for so long.
const QUIET: Duration = Duration::from_mins(1);

/// The Service learns within this time that a pod is unready: three probes of the kubelet,
/// and what the change takes to reach the nodes.
const DRAIN_AFTER: Duration = Duration::from_secs(15);

/// When the leader last answered, when it last did not, and what follows from that.
#[derive(Debug)]
pub struct Reach {
    /// In nanoseconds of [`Moment`]; 0 for never.
    silent: AtomicU64,
    /// Likewise.
    answered: AtomicU64,
    /// An unreachable leader answered.
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
    /// Nothing is known yet. Clients may leave an unready pod after `drain_after`.
    pub fn new(drain_after: Duration) -> Self {
        Self {
            silent: AtomicU64::default(),
            answered: AtomicU64::default(),
            heard: Notify::new(),
            health: watch::channel(Health::default()).0,
            drain_after,
        }
    }

    /// A leader was asked in vain, twice at least: one that gives way says
    /// nothing once, too. Whether that is worth a line in the log.
    pub fn silent(&self, now: Moment) -> bool {
        let before = self.silent.swap(now.as_nanos(), Ordering::Relaxed);
        before == 0 || now.since(Moment::from_nanos(before)) > QUIET
    }

    /// Whether that is so at present.
    pub fn is_silent(&self, now: Moment) -> bool {
        let at = self.silent.load(Ordering::Relaxed);
        at != 0 && now.since(Moment::from_nanos(at)) < FRESH
    }

    /// The leader answered a forwarded request.
    pub fn answered(&self, now: Moment) {
        self.answered.fetch_max(now.as_nanos(), Ordering::Relaxed);
        if matches!(*self.health.borrow(), Health::Unreachable { .. }) {
            self.heard.notify_one();
        }
    }

    /// Waits until a leader that could not be reached has answered a forwarded request.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }

    /// When it last did.
    pub fn answered_at(&self) -> Moment {
        Moment::from_nanos(self.answered.load(Ordering::Relaxed))
    }

    /// Publishes whether the leader can be reached.
    pub fn publish(&self, health: Health) {
        let silent_since = match &health {
            Health::Unreachable { since, .. } => Some(*since),
            _ => None,
        };
        self.health.send_if_modified(|before| {
            let modified = *before != health;
            *before = health;
            modified
        });
        // An answer that came before this was published has notified nobody.
        if silent_since.is_some_and(|since| self.answered_at() > since) {
            self.heard.notify_one();
        }
    }

    /// Whether the leader can be reached, as last published.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Each change of [`Reach::health`].
    pub fn subscribe(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Waits until this pod has been unready for so long that a client which is disconnected
    /// comes to another pod.
    pub async fn drained(&self) {
        let mut health = self.health.subscribe();
        loop {
            if health.wait_for(|health| !health.is_ready()).await.is_err() {
                // Never: the sender is ours.
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
    fn a_silent_leader_is_told_once_and_forgotten_when_nobody_complains() {
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
    async fn an_answer_just_before_or_after_the_leader_is_unreachable_is_heard() {
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
    async fn clients_leave_only_a_pod_that_stays_unready() {
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
        // A client that comes now is given the same time.
        assert!(timeout(short, reach.drained()).await.is_err());
        assert!(timeout(DRAIN_AFTER * 2, reach.drained()).await.is_ok());
    }
}
