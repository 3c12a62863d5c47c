//! What a request means, and its response.
//!
//! On the queue port every request is an identify request: whatever its method, path, headers
//! or body, it waits for its grant. The response is the grant; if there cannot be one, the
//! connection is closed without a response. Only a client that sends `wait` is refused, when
//! that time is over or the process ends before. A request with `report` waits for no grant,
//! and is answered with 204. Only the shard, `wait` and `report` of a request are kept or
//! logged, because some clients put the bot's token into bodies and URLs.

use std::io;
use std::sync::Arc;
use std::time::{self, Duration};

use gateway_queue_core::protocol::body::Body;
use gateway_queue_core::protocol::head::Head;
use gateway_queue_core::protocol::peer::{ForwardedReport, ForwardedRequest, Question};
use gateway_queue_core::protocol::request::{self, Malformed, Parameters, Report, Shard};
use gateway_queue_core::time::Moment;
use gateway_queue_telemetry::RateLimit;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::clock::boot_time;
use crate::forwarding::limits;
use crate::forwarding::router::Router;
use crate::metrics::Metrics;
use crate::queue::handle::Decision;
use crate::serving::connection::Connection;
use crate::serving::response::Response;

/// How long the last responses may take when the process ends. None of them waits for
/// another machine.
const LAST_RESPONSES_TIMEOUT: Duration = Duration::from_secs(1);

/// The kind of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// For clients, whose requests are served or forwarded.
    Clients,
    /// For other pods, whose requests are never forwarded again, so that no request can go
    /// in a circle.
    Peers,
}

/// Serves the requests of a port. All its connections share it.
pub(super) struct Handler {
    listener: Listener,
    route: Router,
    /// Cancelled when the process starts to shut down.
    shutdown: CancellationToken,
    /// Cancelled when the process ends.
    end: CancellationToken,
    /// The requests without a response.
    waiting: TaskTracker,
    /// The permits of forwarded requests.
    forwarded: Semaphore,
    /// Of the log line about invalid shards.
    invalid_shards: RateLimit,
}

/// All that is kept of a request.
enum Request {
    Grant {
        shard: Shard,
        wait: Option<Duration>,
        arrived: Moment,
    },
    Report(u32, Report),
    Malformed(Malformed),
    Forwarded(ForwardedRequest),
    ForwardedReport(ForwardedReport),
    Question(Question, String),
}

impl Handler {
    /// Returns the handler of a port that serves at most `max_clients` forwarded requests at a
    /// time.
    pub(super) fn new(
        listener: Listener,
        max_clients: usize,
        route: Router,
        shutdown: CancellationToken,
        end: CancellationToken,
    ) -> Self {
        Self {
            listener,
            route,
            shutdown,
            end,
            waiting: TaskTracker::new(),
            forwarded: Semaphore::new(max_clients),
            invalid_shards: RateLimit::per_minute(),
        }
    }

    /// Serves the requests of a connection, one after the other, until it is to be closed.
    pub(super) async fn serve(self: Arc<Self>, mut connection: Connection) {
        // An error means that the client has disconnected or sent something invalid; not worth
        // logging.
        while let Ok(true) = self.exchange(&mut connection).await {}
    }

    /// Waits for the last responses, after the end of the process has begun.
    pub(super) async fn finish(&self) {
        self.waiting.close();
        let _ = timeout(LAST_RESPONSES_TIMEOUT, self.waiting.wait()).await;
    }

    /// Serves one request. Returns whether the connection stays open.
    async fn exchange(&self, connection: &mut Connection) -> io::Result<bool> {
        let (request, body, mut form) = {
            let head = connection.head().await?;
            (self.read(&head), head.body, head.form)
        };
        let _waiting = self.waiting.token();
        let response = match request {
            Some(Request::Grant {
                shard,
                wait,
                arrived,
            }) => self.wait(connection, body, shard, wait, arrived).await,
            // Boxed, because it would enlarge the future of every waiting client.
            Some(other) => Box::pin(self.answer(connection, body, other)).await,
            None => None,
        };
        let Some(response) = response else {
            return Ok(false);
        };
        // A client that reuses its connection would never reach another pod.
        let stays = !self.shutdown.is_cancelled()
            && !self.end.is_cancelled()
            && self.route.reach.health().is_ready();
        form.keep_alive &= stays;
        connection.send(response, form)?;
        Ok(form.keep_alive)
    }

    /// Reads what the head of a request means. Returns none if the connection is to be closed.
    fn read(&self, head: &Head) -> Option<Request> {
        let query = head.uri.query();
        if self.listener == Listener::Peers {
            if let Some((question, leader)) = Question::read(head.uri.path(), query) {
                return Some(Request::Question(question, leader));
            }
            if let Some(report) = ForwardedReport::parse(query) {
                return Some(Request::ForwardedReport(report));
            }
            return ForwardedRequest::parse(query).map(Request::Forwarded);
        }
        // Of another agent, or of itself: without this, two agents would ask each other for ever.
        if head.is_from_gateway_queue && self.route.upstream.is_some() {
            return None;
        }
        let parameters = request::parse(query);
        if parameters.is_ok_and(|parameters| !parameters.shard.is_valid) {
            self.count_invalid_shard();
        }
        // A response to CONNECT has no body, so it could not be the grant.
        if head.is_connect {
            return None;
        }
        Some(match parameters {
            Ok(Parameters {
                shard,
                report: Some(report),
                ..
            }) => Request::Report(shard.id, report),
            Ok(Parameters { shard, wait, .. }) => Request::Grant {
                shard,
                wait,
                arrived: boot_time::now(),
            },
            Err(malformed) => Request::Malformed(malformed),
        })
    }

    /// Waits for the grant of a client. Returns none if the connection is to be closed.
    async fn wait(
        &self,
        connection: &mut Connection,
        body: Body,
        shard: Shard,
        wait: Option<Duration>,
        arrived: Moment,
    ) -> Option<Response> {
        let _held = HeldRequest::new(&self.route.metrics);
        let has_body = !body.is_complete();
        // Boxed, because few requests have a body.
        if has_body && !Box::pin(self.discard(connection, body)).await.ok()? {
            return self.ended(wait.is_some());
        }
        let left = |wait: Duration| wait.saturating_sub(boot_time::now().since(arrived));
        let deadline = wait.map(|wait| Instant::now() + left(wait));
        let decision = tokio::select! {
            biased;
            () = connection.disconnected() => return None,
            decision = self.route.wait(shard, arrived, deadline) => decision,
            () = self.end.cancelled() => None,
        };
        match decision {
            Some(decision) => response(decision, wait.is_some()),
            None => self.ended(wait.is_some()),
        }
    }

    /// Answers any other request. Returns none if the connection is to be closed.
    async fn answer(
        &self,
        connection: &mut Connection,
        body: Body,
        request: Request,
    ) -> Option<Response> {
        if let Request::Report(shard, report) = request {
            debug!(shard, report = report.as_str(), "report received");
            self.route.metrics.reported(report);
        }
        self.discard(connection, body).await.ok()?;
        match request {
            Request::Report(shard, report) => {
                // Confirmed also while the process ends.
                let passed_on = self.route.report(shard, report);
                let _ = self.end.run_until_cancelled(passed_on).await;
                Some(Response::NoContent)
            }
            Request::Malformed(malformed) => {
                self.route.metrics.refused("malformed");
                Some(Response::Malformed(malformed))
            }
            Request::Forwarded(request) => self.forwarded(connection, request).await,
            Request::ForwardedReport(forwarded) => {
                let leads = self.route.leads_as(&forwarded.leader);
                if leads {
                    let ForwardedReport { shard, report, .. } = forwarded;
                    self.route.handle.report(shard, report);
                }
                leads.then_some(Response::NoContent)
            }
            Request::Question(Question::Probe, leader) => self.probe(&leader),
            Request::Question(Question::Limits, leader) => {
                if !self.route.leads_as(&leader) {
                    return None;
                }
                let (status, json) = limits::answer_as_leader(&self.route).await;
                Some(Response::Limits(status, json))
            }
            // These wait.
            Request::Grant { .. } => None,
        }
    }

    /// Waits for the grant of a request of another pod.
    async fn forwarded(
        &self,
        connection: &mut Connection,
        request: ForwardedRequest,
    ) -> Option<Response> {
        let Ok(_permit) = self.forwarded.try_acquire() else {
            // The response to a probe: this leader holds as many requests as it may.
            return self.probe(&request.leader);
        };
        let has_wait = request.wait.is_some();
        let decision = tokio::select! {
            biased;
            () = connection.disconnected() => None,
            decision = self.route.forwarded(request) => decision,
            // The pod that forwards it goes on to the next leader.
            () = self.end.cancelled() => None,
        };
        response(decision?, has_wait)
    }

    /// Responds to the probe of another pod if this process is this leader.
    fn probe(&self, leader: &str) -> Option<Response> {
        self.route.leads_as(leader).then_some(Response::NoContent)
    }

    /// Reads a body to its end. Returns whether it was read before the process ends.
    async fn discard(&self, connection: &mut Connection, body: Body) -> io::Result<bool> {
        let reading = connection.discard(body);
        let read = self.end.run_until_cancelled(reading).await;
        read.transpose().map(|read| read.is_some())
    }

    /// Returns the response to a client when the process ends.
    fn ended(&self, has_wait: bool) -> Option<Response> {
        has_wait
            .then(|| self.route.no_leader())
            .and_then(|decision| response(decision, has_wait))
    }

    fn count_invalid_shard(&self) {
        self.route.metrics.invalid_shards.inc();
        if let Some(suppressed) = self.invalid_shards.allow(time::Instant::now()) {
            let detail = "expected ?shard=N, 0 to 4294967295; treated as shard 0";
            warn!(detail, suppressed, "invalid shard");
        }
    }
}

/// Returns the response to a request that waited. Without `wait` it may only be the grant.
fn response(decision: Decision, has_wait: bool) -> Option<Response> {
    match decision {
        Decision::Granted(permit) => Some(Response::Grant(permit)),
        Decision::Refused(refusal) if has_wait => Some(Response::Refusal(refusal)),
        Decision::Refused(_) | Decision::Moved => None,
    }
}

/// Counts a request as held by this process.
struct HeldRequest(Arc<Metrics>);

impl HeldRequest {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.held_requests.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.0.held_requests.dec();
    }
}

#[cfg(test)]
mod tests {
    use gateway_queue_core::leadership::state::LeadershipState;
    use gateway_queue_core::protocol::refusal::Refusal;
    use gateway_queue_core::queue::snapshot::About;
    use tokio::sync::watch;

    use super::*;
    use crate::clock::stall_detector::StallDetector;
    use crate::queue::handle::Handle;
    use crate::serving::connection::tests::pair;

    fn handler() -> Handler {
        let about = About {
            pod: None,
            admin_port: 0,
            spacing: Duration::ZERO,
            reserve: 0,
            upstream: None,
        };
        let route = Router {
            handle: Handle::new(1).0,
            leadership: Arc::new(watch::channel(LeadershipState::UNKNOWN).0),
            upstream: None,
            about: Arc::new(about),
            stall_detector: Arc::new(StallDetector::new(Duration::ZERO)),
            reach: Arc::default(),
            metrics: Arc::new(Metrics::new(0)),
        };
        let never = CancellationToken::new;
        Handler::new(Listener::Clients, 1, route, never(), never())
    }

    #[tokio::test]
    async fn the_future_of_a_connection_which_is_most_of_its_memory_is_small() {
        let (connection, _client) = pair().await;
        let future = Arc::new(handler()).serve(connection);
        let bytes = size_of_val(&future);
        assert!(bytes <= 1024, "{bytes}");
    }

    #[test]
    fn a_refusal_without_wait_closes_the_connection() {
        let refused = || Decision::Refused(Refusal::NO_LEADER);
        assert!(response(refused(), false).is_none());
        assert!(response(refused(), true).is_some());
    }
}
