//! Routes a request to the queue of this process while it is the leader, or forwards it
//! to the leader. When the leader changes, the request goes to the next one, which orders it by
//! the time that it has waited.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::state::{Leader, LeadershipState};
use gateway_queue_core::protocol::refusal::{Reason, Refusal};
use gateway_queue_core::protocol::request::{ForwardedReport, ForwardedRequest, Report, Shard};
use gateway_queue_core::time::Moment;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use crate::clock::boot_time;
use crate::clock::stall_detector::StallDetector;
use crate::forwarding::leader_client::{self, Response};
use crate::forwarding::reach::Reach;
use crate::metrics::Metrics;
use crate::queue::handle::{Decision, Handle};

/// The first and the longest pause after a missing response.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A leader that held a request for this long has received it, so it is not silent.
const RECEIVED_AFTER: Duration = Duration::from_secs(2);

/// How long to wait for the response of a former leader: a grant may be on its way, and
/// the retransmission of a packet takes at least 200 ms. A leader that resigns closes
/// forwarded requests immediately, so this is waited for only if it cannot.
const LAST_RESPONSE_TIMEOUT: Duration = Duration::from_millis(250);

/// How long to wait for the response of the leader to a report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// How much later than the client's deadline the refusal of the leader may arrive.
const GRACE: Duration = Duration::from_secs(1);

/// What is needed to serve a request locally or to forward it. Clones share it.
#[derive(Clone, Debug)]
pub struct Router {
    /// The queue of this process.
    pub handle: Handle,
    /// The leadership state of this process.
    pub leadership: Arc<watch::Sender<LeadershipState>>,
    /// Detects that this process was suspended.
    pub stall_detector: Arc<StallDetector>,
    /// Whether the leader responds.
    pub reach: Arc<Reach>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl Router {
    /// Waits for the grant of a shard, until `deadline` if there is one. Returns none
    /// when the process ends.
    pub async fn wait(
        &self,
        shard: impl Into<Shard>,
        arrived: Moment,
        deadline: Option<Instant>,
    ) -> Option<Decision> {
        let shard = shard.into();
        loop {
            // Most requests wait here, so the future must be small: the rest is boxed.
            if self.leadership.borrow().leads() {
                let decision = match deadline {
                    None => self.handle.wait(shard, arrived).await?,
                    Some(deadline) => {
                        let decision = self.handle.wait_until(deadline, shard, arrived);
                        Box::pin(decision).await?
                    }
                };
                if !matches!(decision, Decision::Moved) {
                    return Some(decision);
                }
            }
            let elsewhere = Box::pin(self.elsewhere(shard, arrived, deadline));
            if let Some(decision) = elsewhere.await {
                return Some(decision);
            }
        }
    }

    /// Waits for the grant of a forwarded request. Returns none unless this process is the
    /// leader until then: a forwarded request is not forwarded again.
    pub async fn forwarded(&self, request: ForwardedRequest) -> Option<Decision> {
        let ForwardedRequest {
            leader,
            shard,
            age,
            wait,
        } = request;
        let arrived = boot_time::now() - age;
        if !self.leads_as(&leader) {
            return None;
        }
        match wait {
            None => self.handle.wait(shard, arrived).await,
            Some(wait) => {
                let deadline = Instant::now() + wait;
                Box::pin(self.handle.wait_until(deadline, shard, arrived)).await
            }
        }
    }

    /// Passes a report on to the leader, this process or another. Without a leader that responds
    /// within a second, it is lost.
    pub async fn report(&self, shard: u32, report: Report) {
        let (leads, leader) = {
            let leadership = self.leadership.borrow();
            (leadership.leads(), leadership.leader.clone())
        };
        let taken = if leads {
            self.handle.report(shard, report).await;
            true
        } else if let Some(Leader { holder, address }) = leader {
            let forwarded = ForwardedReport {
                leader: holder,
                shard,
                report,
            };
            leader_client::report(address, &forwarded, REPORT_TIMEOUT).await
        } else {
            false
        };
        if !taken {
            debug!(shard, report = report.as_str(), "report lost");
        }
    }

    /// Returns whether this process is the leader as `holder`.
    pub fn leads_as(&self, holder: &str) -> bool {
        let leadership = self.leadership.borrow();
        leadership
            .term
            .as_ref()
            .is_some_and(|term| term.holder == holder)
    }

    /// Waits at other leaders. Returns none when this process becomes the leader, and
    /// [`Decision::Moved`] if the leader is reachable from other pods, but not from here.
    async fn elsewhere(
        &self,
        shard: Shard,
        arrived: Moment,
        deadline: Option<Instant>,
    ) -> Option<Decision> {
        let mut leadership = self.leadership.subscribe();
        let mut pause = BACKOFF.0;
        let drained = self.reach.drained();
        tokio::pin!(drained);
        loop {
            let (leads, leader) = {
                let leadership = leadership.borrow_and_update();
                (leadership.leads(), leadership.leader.clone())
            };
            if leads {
                return None;
            }
            let changed = async {
                // The sender is in `self`, so this cannot fail.
                let _ = leadership
                    .wait_for(|s| s.leads() || s.leader != leader)
                    .await;
            };
            let grace = leader.as_ref().map_or(Duration::ZERO, |_| GRACE);
            let overdue = deadline.map(|deadline| deadline + grace);
            let step = async {
                tokio::pin!(changed);
                let Some(Leader { holder, address }) = leader.clone() else {
                    changed.await;
                    return None;
                };
                let request = ForwardedRequest {
                    leader: holder,
                    shard,
                    age: boot_time::now().since(arrived),
                    wait: left(deadline),
                };
                let forwarded_at = boot_time::now();
                let forwarded = leader_client::forward(address, &request, &self.stall_detector);
                let (response, moved) = first(forwarded, changed.as_mut()).await;
                if !matches!(response, Response::None) {
                    self.reach.answered(boot_time::now());
                }
                match response {
                    Response::Granted(permit) => {
                        self.metrics.forwarded("granted");
                        return Some(Decision::Granted(permit));
                    }
                    Response::Refused(refusal) => {
                        self.metrics.forwarded("refused");
                        return Some(Decision::Refused(refusal));
                    }
                    Response::None | Response::Busy if moved => {
                        pause = BACKOFF.0;
                        return None;
                    }
                    Response::Busy => self.metrics.forwarded("busy"),
                    Response::None => {
                        self.metrics.forwarded("failed");
                        if boot_time::now().since(forwarded_at) > RECEIVED_AFTER {
                            pause = BACKOFF.0;
                        }
                        if pause > BACKOFF.0 && self.reach.silent(boot_time::now()) {
                            warn!(leader = %address, "no response from the leader");
                        }
                    }
                }
                tokio::select! {
                    () = sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
                    () = changed => pause = BACKOFF.0,
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
                // The refusal of a client with `wait` states when to retry.
                () = &mut drained => {
                    return Some(match deadline {
                        Some(_) => self.no_leader(),
                        None => Decision::Moved,
                    });
                }
            };
            match step {
                Ok(Some(decision)) => return Some(decision),
                Ok(None) => {}
                Err(_) => return Some(self.no_leader()),
            }
        }
    }

    /// Returns the refusal of a client with `wait`, and counts it.
    pub fn no_leader(&self) -> Decision {
        self.metrics.refused(Reason::NoLeader.as_str());
        Decision::Refused(Refusal::NO_LEADER)
    }
}

/// Returns the response of the leader, and whether the leader changed before it.
async fn first(
    forwarded: impl Future<Output = Response>,
    changed: Pin<&mut impl Future<Output = ()>>,
) -> (Response, bool) {
    tokio::pin!(forwarded);
    tokio::select! {
        // A grant is not lost if the leader changes at the same time.
        biased;
        response = &mut forwarded => return (response, false),
        () = changed => {}
    }
    let response = timeout(LAST_RESPONSE_TIMEOUT, forwarded).await;
    (response.unwrap_or(Response::None), true)
}

/// The time until the deadline.
fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}
