//! Routes a request to the queue of this process while it is the leader, or forwards it
//! to the leader. When the leader changes, the request goes to the next one, which orders it by
//! the time that it has waited. An agent never leads, and forwards each request to its upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::protocol::peer::ForwardedRequest;
use gateway_queue_core::protocol::refusal::{Reason, Refusal};
use gateway_queue_core::protocol::request::{Parameters, Report, Shard};
use gateway_queue_core::queue::snapshot::About;
use gateway_queue_core::time::Moment;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use crate::clock::boot_time;
use crate::clock::stall_detector::StallDetector;
use crate::forwarding::destination::{Destination, Upstream};
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
    /// The queue whose agent this process is; then it never leads.
    pub upstream: Option<Arc<Upstream>>,
    /// What does not change, for people.
    pub about: Arc<About>,
    /// Detects that this process was suspended.
    pub stall_detector: Arc<StallDetector>,
    /// Whether the leader or the upstream responds.
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

    /// Passes a report on to the leader, this process or another, or to the upstream. If that does
    /// not respond within a second, it is lost.
    pub async fn report(&self, shard: u32, report: Report) {
        let request = Parameters {
            shard: shard.into(),
            wait: None,
            report: Some(report),
        };
        let taken = match self.destination() {
            Some(destination) => {
                leader_client::report(&destination, &request, REPORT_TIMEOUT).await
            }
            None => self.leadership.borrow().leads() && self.handle.report(shard, report),
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

    /// Returns where requests are forwarded to; none if this process leads, or knows no leader.
    pub fn destination(&self) -> Option<Destination> {
        self.destination_in(&self.leadership.borrow())
    }

    fn destination_in(&self, leadership: &LeadershipState) -> Option<Destination> {
        match &self.upstream {
            _ if leadership.leads() => None,
            Some(upstream) => Some(Destination::Upstream(Arc::clone(upstream))),
            None => leadership.leader.clone().map(Destination::Leader),
        }
    }

    /// Waits at other leaders, or at the upstream. Returns none when this process becomes the
    /// leader, and [`Decision::Moved`] if the leader is reachable from other pods, but not from
    /// here.
    async fn elsewhere(
        &self,
        shard: Shard,
        arrived: Moment,
        deadline: Option<Instant>,
    ) -> Option<Decision> {
        let mut leadership = self.leadership.subscribe();
        let mut pause = BACKOFF.0;
        // Of the last response, unless that was no usable one.
        let mut last_refusal = None;
        let mut honors_wait = false;
        let drained = self.reach.drained();
        tokio::pin!(drained);
        loop {
            let (leads, destination) = {
                let leadership = leadership.borrow_and_update();
                (leadership.leads(), self.destination_in(&leadership))
            };
            if leads {
                return None;
            }
            let changed = async {
                // The sender is in `self`, so this cannot fail.
                let _ = leadership
                    .wait_for(|s| s.leads() || self.destination_in(s) != destination)
                    .await;
            };
            let grace = destination.as_ref().map_or(Duration::ZERO, |_| GRACE);
            let overdue = deadline.map(|deadline| deadline + grace);
            let step = async {
                tokio::pin!(changed);
                let Some(destination) = &destination else {
                    changed.await;
                    return None;
                };
                let request = Parameters {
                    shard,
                    wait: destination.wait(left(deadline)),
                    report: None,
                };
                let forwarded_at = boot_time::now();
                let age = forwarded_at.since(arrived);
                let forwarded =
                    leader_client::forward(destination, &request, age, &self.stall_detector);
                let limit = request.wait.filter(|_| honors_wait);
                let forwarded = within(limit.map(|wait| wait + GRACE), forwarded);
                let (response, moved) = first(forwarded, changed.as_mut()).await;
                let held = boot_time::now().since(forwarded_at);
                if !matches!(response, Response::None(_)) {
                    self.reach.answered(boot_time::now());
                }
                let retry_after = match response {
                    Response::Granted(permit) => {
                        self.metrics.forwarded("granted");
                        return Some(Decision::Granted(permit));
                    }
                    Response::Refused(refusal) => {
                        self.metrics.forwarded("refused");
                        let was_held = request.wait.is_none_or(|wait| held >= wait / 2);
                        let retry_after = destination.retry_after(&refusal, was_held);
                        if left(deadline).is_some_and(|left| left <= retry_after) {
                            return Some(Decision::Refused(refusal));
                        }
                        last_refusal = Some(refusal);
                        honors_wait = true;
                        pause = BACKOFF.0;
                        retry_after
                    }
                    _ if moved => {
                        pause = BACKOFF.0;
                        return None;
                    }
                    Response::Busy => {
                        self.metrics.forwarded("busy");
                        backed_off(&mut pause)
                    }
                    Response::None(error) => {
                        self.metrics.forwarded("failed");
                        last_refusal = None;
                        if held > RECEIVED_AFTER {
                            pause = BACKOFF.0;
                        }
                        if pause > BACKOFF.0 && self.reach.silent(boot_time::now()) {
                            log_silent(destination, &error);
                        }
                        backed_off(&mut pause)
                    }
                };
                tokio::select! {
                    () = sleep(retry_after) => {}
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
                Err(_) => {
                    let refusal = last_refusal.map(Decision::Refused);
                    return Some(refusal.unwrap_or_else(|| self.no_leader()));
                }
            }
        }
    }

    /// Returns the refusal of a client with `wait`, and counts it.
    pub fn no_leader(&self) -> Decision {
        self.metrics.refused(Reason::NoLeader.as_str());
        Decision::Refused(Refusal::NO_LEADER)
    }
}

/// Returns the pause, and doubles the next one.
fn backed_off(pause: &mut Duration) -> Duration {
    let next = (*pause * 2).min(BACKOFF.1);
    std::mem::replace(pause, next)
}

fn log_silent(destination: &Destination, error: &str) {
    match destination {
        Destination::Leader(leader) => {
            warn!(leader = %leader.address, error, "no response from the leader");
        }
        Destination::Upstream(upstream) => {
            warn!(
                upstream = upstream.queue,
                error, "no response from the upstream"
            );
        }
    }
}

/// Returns the response, or none that is usable after this time.
async fn within(limit: Option<Duration>, forwarded: impl Future<Output = Response>) -> Response {
    let Some(limit) = limit else {
        return forwarded.await;
    };
    let response = timeout(limit, forwarded).await;
    response.unwrap_or_else(|_| Response::None(format!("no response within {limit:?}")))
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
    let response = response.unwrap_or_else(|_| Response::None("the leader changed".to_owned()));
    (response, true)
}

/// The time until the deadline.
fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}
