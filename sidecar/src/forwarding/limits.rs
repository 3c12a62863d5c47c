//! The limits for clients that would otherwise ask Discord, from the queue task of the leader.
//! Nothing is cached.

use std::time::Duration;

use gateway_queue_core::gateway_bot::{Limits, Unknown};
use gateway_queue_core::protocol::peer::Question;
use gateway_queue_core::queue::limits;
use gateway_queue_core::queue::snapshot::Detail;
use gateway_queue_telemetry::chain;
use hyper::StatusCode;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::forwarding::destination::Destination;
use crate::forwarding::leader_client;
use crate::forwarding::router::Router;

/// How long the queue task or the leader may take.
const LEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the upstream may take, which may have to ask its leader.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the status and the body of the response to a client, as the leader would answer.
pub async fn answer(route: &Router) -> (StatusCode, String) {
    response(match route.destination() {
        None => own(route).await,
        Some(destination) => of(&destination).await,
    })
}

/// Returns the status and the body of the response to a follower.
pub async fn answer_as_leader(route: &Router) -> (StatusCode, String) {
    response(own(route).await)
}

fn response(limits: Result<String, Unknown>) -> (StatusCode, String) {
    match limits {
        Ok(json) => (StatusCode::OK, json),
        Err(unknown) => (StatusCode::SERVICE_UNAVAILABLE, unknown.json()),
    }
}

async fn own(route: &Router) -> Result<String, Unknown> {
    let looked = timeout(LEADER_TIMEOUT, route.handle.look(Detail::Numbers)).await;
    match looked {
        Ok(Some(snapshot)) => limits::json(&snapshot, &route.about, Timestamp::now()),
        _ => Err(Unknown {
            message: "The queue task does not respond.".to_owned(),
        }),
    }
}

async fn of(destination: &Destination) -> Result<String, Unknown> {
    let (name, authority, target, limit) = match destination {
        Destination::Leader(leader) => (
            "leader",
            leader.address.to_string(),
            Question::Limits.target(&leader.holder),
            LEADER_TIMEOUT,
        ),
        Destination::Upstream(upstream) => (
            "upstream",
            upstream.admin.clone(),
            Question::Limits.as_str().to_owned(),
            UPSTREAM_TIMEOUT,
        ),
    };
    let exchanged = timeout(limit, leader_client::exchange(&authority, &target)).await;
    let cause = match exchanged {
        Ok(Ok((status, body))) => {
            // Whatever else responds there must not confuse the client.
            let limits = Limits::parse(&body).ok();
            let limits = limits.filter(|_| status == StatusCode::OK);
            if let Some(json) = limits.and_then(|limits| limits.json()) {
                return Ok(json);
            }
            if let Some(unknown) = Unknown::parse(&body) {
                return Err(unknown);
            }
            format!("unexpected response, with status {status}")
        }
        Ok(Err(error)) => chain(&*error),
        Err(_) => format!("no response within {} s", limit.as_secs()),
    };
    Err(Unknown {
        message: format!("The {name} at {authority} does not report the limits: {cause}."),
    })
}
