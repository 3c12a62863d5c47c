//! Where a waiter waits: in the queue of this process while it leads, or at the
//! leader. When the leader changes it goes on to the next, and keeps its place
//! by how long it has waited already.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::state::{Leader, LeadershipState};
use gateway_queue_core::protocol::refusal::{Reason, Refusal};
use gateway_queue_core::protocol::request::Hop;
use gateway_queue_core::time::Moment;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::warn;

use crate::clock::boot_time;
use crate::clock::stall_detector::StallDetector;
use crate::forwarding::leader_client::{self, Said};
use crate::forwarding::reach::Reach;
use crate::metrics::Metrics;
use crate::queue::handle::{Handle, Turn};

/// The pause after a leader said nothing, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A leader that kept a question for so long has heard it: it is not silent.
const LISTENS: Duration = Duration::from_secs(2);

/// A grant may be on its way while the next leader is known already, and a packet of
/// it may have to be sent again, which takes 200 ms at least. A leader that gives way
/// closes its hops at once, so that this is waited for only if it cannot.
const LAST_WORD: Duration = Duration::from_millis(250);

/// A leader that was asked to answer within the client's patience may take so
/// much longer for its refusal to come.
const GRACE: Duration = Duration::from_secs(1);

/// The ways to wherever a waiter may wait. Clones share it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The queue of this process.
    pub handle: Handle,
    /// Who leads.
    pub standing: Arc<watch::Sender<LeadershipState>>,
    /// Whether this process was frozen.
    pub beat: Arc<StallDetector>,
    /// Whether the leader answers.
    pub reach: Arc<Reach>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Route {
    /// Waits for the turn of a shard, until `deadline` if there is one. None
    /// when the process ends.
    pub async fn turn(
        &self,
        shard: u32,
        arrived: Moment,
        deadline: Option<Instant>,
    ) -> Option<Turn> {
        loop {
            // Most wait in here, as long as it takes. What others need is boxed.
            if self.standing.borrow().leads() {
                let turn = match deadline {
                    None => self.handle.turn(shard, arrived).await?,
                    Some(deadline) => {
                        let turn = self.handle.turn_until(deadline, shard, arrived);
                        Box::pin(turn).await?
                    }
                };
                if !matches!(turn, Turn::Moved) {
                    return Some(turn);
                }
            }
            let elsewhere = Box::pin(self.elsewhere(shard, arrived, deadline));
            if let Some(turn) = elsewhere.await {
                return Some(turn);
            }
        }
    }

    /// Waits for the turn of a shard that another queue asks for. None unless
    /// this process leads, now and to the end: a hop is never passed on.
    pub async fn hop(&self, hop: Hop) -> Option<Turn> {
        let Hop {
            leader,
            shard,
            age,
            wait,
        } = hop;
        let arrived = boot_time::now() - age;
        if !self.leads_as(&leader) {
            return None;
        }
        match wait {
            None => self.handle.turn(shard, arrived).await,
            Some(wait) => {
                let deadline = Instant::now() + wait;
                Box::pin(self.handle.turn_until(deadline, shard, arrived)).await
            }
        }
    }

    /// Whether this process leads by this name.
    pub fn leads_as(&self, holder: &str) -> bool {
        let standing = self.standing.borrow();
        standing
            .term
            .as_ref()
            .is_some_and(|term| term.holder == holder)
    }

    /// Waits at other leaders. None when this process is to lead. [`Turn::Moved`] when
    /// the leader cannot be reached from here, and can be from other pods.
    async fn elsewhere(
        &self,
        shard: u32,
        arrived: Moment,
        deadline: Option<Instant>,
    ) -> Option<Turn> {
        let mut standing = self.standing.subscribe();
        let mut pause = BACKOFF.0;
        let drained = self.reach.drained();
        tokio::pin!(drained);
        loop {
            let (leads, leader) = {
                let standing = standing.borrow_and_update();
                (standing.leads(), standing.leader.clone())
            };
            if leads {
                return None;
            }
            let changed = async {
                // Its sender is ours: it cannot be gone.
                let _ = standing.wait_for(|s| s.leads() || s.leader != leader).await;
            };
            let grace = leader.as_ref().map_or(Duration::ZERO, |_| GRACE);
            let overdue = deadline.map(|deadline| deadline + grace);
            let step = async {
                tokio::pin!(changed);
                let Some(Leader { holder, address }) = leader.clone() else {
                    changed.await;
                    return None;
                };
                let hop = Hop {
                    leader: holder,
                    shard,
                    age: boot_time::now().since(arrived),
                    wait: left(deadline),
                };
                let asked_at = boot_time::now();
                let asked = leader_client::ask(address, &hop, &self.beat);
                let (said, moved) = hear(asked, changed.as_mut()).await;
                if !matches!(said, Said::Nothing) {
                    self.reach.answered(boot_time::now());
                }
                match said {
                    Said::Granted(permit) => {
                        self.metrics.forwarded("granted");
                        return Some(Turn::Granted(permit));
                    }
                    Said::Refused(refusal) => {
                        self.metrics.forwarded("refused");
                        return Some(Turn::Refused(refusal));
                    }
                    Said::Nothing | Said::Busy if moved => pause = BACKOFF.0,
                    Said::Busy => {
                        self.metrics.forwarded("busy");
                        tokio::select! {
                            () = sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
                            () = changed => pause = BACKOFF.0,
                        }
                    }
                    Said::Nothing => {
                        self.metrics.forwarded("failed");
                        if boot_time::now().since(asked_at) > LISTENS {
                            pause = BACKOFF.0;
                        }
                        if pause > BACKOFF.0 && self.reach.silent(boot_time::now()) {
                            warn!(leader = %address, "the leader does not answer");
                        }
                        tokio::select! {
                            () = sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
                            () = changed => pause = BACKOFF.0,
                        }
                    }
                }
                None
            };
            let step = async {
                match overdue {
                    Some(overdue) => timeout_at(overdue, step).await,
                    None => Ok(step.await),
                }
            };
            let step = tokio::select! {
                biased;
                step = step => step,
                // Who opted in to a refusal is told when to come back.
                () = &mut drained => {
                    return Some(match deadline {
                        Some(_) => self.no_leader(),
                        None => Turn::Moved,
                    });
                }
            };
            match step {
                Ok(Some(turn)) => return Some(turn),
                Ok(None) => {}
                Err(_) => return Some(self.no_leader()),
            }
        }
    }

    /// Refuses a client that opted in to that, and counts it.
    pub fn no_leader(&self) -> Turn {
        self.metrics.refused(Reason::NoLeader.as_str());
        Turn::Refused(Refusal::NO_LEADER)
    }
}

/// What the leader says, and whether it has ceased to be that before it did.
async fn hear(
    asked: impl Future<Output = Said>,
    changed: Pin<&mut impl Future<Output = ()>>,
) -> (Said, bool) {
    tokio::pin!(asked);
    tokio::select! {
        // A grant that has come is not lost to a change that has come, too.
        biased;
        said = &mut asked => return (said, false),
        () = changed => {}
    }
    let said = timeout(LAST_WORD, asked).await;
    (said.unwrap_or(Said::Nothing), true)
}

/// What is left of a client's patience.
fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}
