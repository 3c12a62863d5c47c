//! Where requests are forwarded to: the leader in another pod, or the upstream of an agent.

use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::state::Leader;
use gateway_queue_core::protocol::peer::{ForwardedReport, ForwardedRequest};
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::Parameters;

use crate::config::UpstreamRef;

/// The longest `wait` of one request to an upstream: a firewall in between may drop a connection
/// that is silent for a minute. The upstream reserves the position until the next one.
const MAX_WAIT: Duration = Duration::from_secs(45);

/// The bounds of the pause that an upstream asks for.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// The queue whose agent this process is. Its ports are `host:port`; the name is resolved for
/// each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The port for clients.
    pub queue: String,
    /// The admin port.
    pub admin: String,
    /// The longest `wait` of one request.
    pub max_wait: Duration,
}

impl From<&UpstreamRef> for Upstream {
    fn from(settings: &UpstreamRef) -> Self {
        let UpstreamRef {
            host,
            port,
            admin_port,
        } = settings;
        Self {
            queue: format!("{host}:{port}"),
            admin: format!("{host}:{admin_port}"),
            max_wait: MAX_WAIT,
        }
    }
}

/// Where requests are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The leader in another pod.
    Leader(Leader),
    /// The upstream of an agent.
    Upstream(Arc<Upstream>),
}

impl Destination {
    /// Returns the `host:port` to which requests are sent.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Leader(leader) => leader.address.to_string(),
            Self::Upstream(upstream) => upstream.queue.clone(),
        }
    }

    /// Returns the path and query of a report, or of a request whose client has waited for `age`.
    pub(crate) fn target(&self, request: &Parameters, age: Duration) -> String {
        let Parameters {
            shard,
            wait,
            report,
        } = *request;
        let leader = |leader: &Leader| leader.holder.clone();
        let query = match (self, report) {
            (Self::Leader(to), None) => ForwardedRequest {
                leader: leader(to),
                shard,
                age,
                wait,
            }
            .query(),
            (Self::Leader(to), Some(report)) => ForwardedReport {
                leader: leader(to),
                shard: shard.id,
                report,
            }
            .query(),
            (Self::Upstream(_), _) => request.query(),
        };
        format!("/?{query}")
    }

    /// Returns how long to ask for a grant at a time if the client waits for `left`; none until
    /// the grant.
    pub(crate) fn wait(&self, left: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Leader(_) => left,
            Self::Upstream(upstream) => {
                let max_wait = upstream.max_wait;
                Some(left.map_or(max_wait, |left| left.min(max_wait)))
            }
        }
    }

    /// Returns the pause after a refusal. `was_held` says whether the request was held for about
    /// as long as it asked for.
    pub(crate) fn retry_after(&self, refusal: &Refusal, was_held: bool) -> Duration {
        match self {
            // It was asked to wait as long as the client does.
            Self::Leader(_) => Duration::MAX,
            // Only a client that waits when its grant is due receives it.
            Self::Upstream(_) if was_held => Duration::ZERO,
            Self::Upstream(_) => refusal.retry_after.clamp(RETRY_AFTER.0, RETRY_AFTER.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Destination {
        let upstream = Upstream::from(&UpstreamRef {
            host: "my-bot.bots.svc".to_owned(),
            port: 80,
            admin_port: 9090,
        });
        assert_eq!(upstream.admin, "my-bot.bots.svc:9090");
        Destination::Upstream(Arc::new(upstream))
    }

    fn leader() -> Destination {
        Destination::Leader(Leader {
            holder: "a_1".to_owned(),
            address: ([10, 0, 0, 1], 9091).into(),
        })
    }

    #[test]
    fn an_upstream_receives_what_any_client_sends_and_a_leader_also_the_age() {
        let target = |destination: Destination, left| {
            let request = Parameters {
                shard: 7.into(),
                wait: destination.wait(left),
                report: None,
            };
            let target = destination.target(&request, Duration::from_secs(90));
            destination.authority() + &target
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (left, wait) in [(None, 45), (seconds(3600), 45), (seconds(9), 9)] {
            let expected = format!("my-bot.bots.svc:80/?shard=7&wait={wait}");
            assert_eq!(target(upstream(), left), expected);
        }
        let to_leader = "10.0.0.1:9091/?leader=a_1&shard=7&age=90000";
        assert_eq!(target(leader(), None), to_leader);
        assert_eq!(
            target(leader(), seconds(3600)),
            format!("{to_leader}&wait=3600")
        );
    }

    #[test]
    fn an_upstream_is_asked_again_at_once_or_when_it_says() {
        let after = |millis, was_held| {
            let refusal = Refusal {
                retry_after: Duration::from_millis(millis),
                ..Refusal::NO_LEADER
            };
            upstream().retry_after(&refusal, was_held).as_millis()
        };
        assert_eq!(after(7000, true), 0);
        assert_eq!(after(7000, false), 7000);
        assert_eq!(after(0, false), 100);
        assert_eq!(after(u64::MAX, false), 30_000);
    }
}
