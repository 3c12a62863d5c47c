//! Fetches `/state` from a queue.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use rustls::RootCertStore;
use tokio::time::timeout;
use url::Url;

use super::remote_state::RemoteState;
use crate::http_client::{self, Unusable};

/// A user is waiting for the output.
const TIMEOUT: Duration = Duration::from_secs(5);

/// As many shards as a queue remembers take 5 MiB, and 4096 buckets less than one.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The leader may be unreachable from here.
const LEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// The response of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The JSON document.
    pub(crate) json: String,
    /// The parsed document.
    pub(crate) state: RemoteState,
    /// The state of the leader, if that is another pod and was reached.
    pub(crate) leader: Option<RemoteState>,
}

impl Response {
    /// Returns the leader's state if there is one: a follower has no buckets.
    pub(crate) fn best(&self) -> &RemoteState {
        self.leader.as_ref().unwrap_or(&self.state)
    }
}

/// Fetches the states of queues.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher(Client);

impl Fetcher {
    pub(crate) fn new() -> Result<Self, Unusable> {
        let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        // A queue is not behind a proxy to the internet.
        http_client::client(roots, TIMEOUT, |builder| builder.no_proxy()).map(Self)
    }

    /// Fetches the state of the queue whose `/state` is at `url`. The error states what responds
    /// there instead of a queue, or why nothing does.
    pub(crate) async fn fetch(&self, url: &Url) -> Result<Response, String> {
        // The queue port refuses this instead of granting it; the admin port ignores it.
        let mut url = url.clone();
        url.set_query(Some("wait=never"));
        let request = self.0.get(url).send().await;
        let mut response = request.map_err(|error| http_client::cause(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST => {
                return Err("this is not an admin port (9090, unless ADMIN_PORT is set); is it the queue port?"
                    .to_owned());
            }
            status => return Err(format!("the response has status {}", status.as_u16())),
        }
        let body = http_client::body(&mut response, MAX_BODY_BYTES).await;
        let body = body.map_err(|error| http_client::cause(&error))?;
        let body = body.ok_or("the response is too long for the state of a queue")?;
        let foreign = |error: &dyn std::fmt::Display| {
            format!("the response is not the state of a queue of this version: {error}")
        };
        let json = String::from_utf8(body).map_err(|error| foreign(&error))?;
        let state = serde_json::from_str(&json).map_err(|error| foreign(&error))?;
        Ok(Response {
            json,
            state,
            leader: None,
        })
    }

    /// Fetches the state of a queue, and that of its leader if it is a follower. The
    /// leader's is left out if it cannot be fetched.
    pub(crate) async fn fetch_with_leader(&self, url: &Url) -> Result<Response, String> {
        let mut response = self.fetch(url).await?;
        if let Some(leader) = response.state.leader_admin()
            && let Ok(url) = Url::parse(&format!("http://{leader}/state"))
            && let Ok(Ok(fetched)) = timeout(LEADER_TIMEOUT, self.fetch(&url)).await
            && fetched.state.role == "leader"
        {
            response.leader = Some(fetched.state);
        }
        Ok(response)
    }
}
