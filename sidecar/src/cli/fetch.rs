//! Asks a queue how it is.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use rustls::RootCertStore;
use tokio::time::timeout;
use url::Url;

use super::remote_state::RemoteState;
use crate::http_client::{self, Unusable};

/// Somebody sits there and waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// 4096 buckets with thousands of shards are less than one.
const MOST_BODY: usize = 16 * 1024 * 1024;

/// Who follows says at once who leads; the leader may be out of reach from here.
const LEADER_PATIENCE: Duration = Duration::from_secs(1);

/// What a queue answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The document as it is.
    pub json: String,
    /// What is understood of it.
    pub seen: RemoteState,
    /// What the leader says, if that is another pod and could be asked, too.
    pub leader: Option<RemoteState>,
}

impl Answer {
    /// What is known best: a pod that follows knows nothing of the buckets.
    pub fn best(&self) -> &RemoteState {
        self.leader.as_ref().unwrap_or(&self.seen)
    }
}

/// Asks queues.
#[derive(Clone, Debug)]
pub struct Fetcher(Client);

impl Fetcher {
    /// An asker.
    ///
    /// # Errors
    ///
    /// When there is no usable TLS or DNS configuration.
    pub fn new() -> Result<Self, Unusable> {
        let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        // Proxies are for the outside; a queue is not there.
        http_client::client(roots, PATIENCE, |builder| builder.no_proxy()).map(Self)
    }

    /// The state of the queue whose /state is at `url`.
    ///
    /// # Errors
    ///
    /// Says what is there instead of a queue.
    pub async fn ask(&self, url: &Url) -> Result<Answer, String> {
        // The queue port refuses this instead of granting it; the admin port ignores it.
        let mut url = url.clone();
        url.set_query(Some("wait=never"));
        let request = self.0.get(url).send().await;
        let mut response = request.map_err(|error| http_client::cause(&error))?;
        if response.status() != StatusCode::OK {
            return Err(match response.status() {
                StatusCode::BAD_REQUEST => {
                    "this is not an admin port (9090, unless ADMIN_PORT is set); is it the queue port?"
                        .to_owned()
                }
                StatusCode::SERVICE_UNAVAILABLE => "the queue is not able to answer".to_owned(),
                status => format!("{} is answered, which no admin port does", status.as_u16()),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| http_client::cause(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BODY {
                return Err("the answer is far too long for a queue's".to_owned());
            }
        }
        let seen = RemoteState::parse(&body);
        let json = String::from_utf8(body).ok();
        let (seen, json) = seen
            .zip(json)
            .ok_or("what answers there is no queue's admin port")?;
        Ok(Answer {
            json,
            seen,
            leader: None,
        })
    }

    /// The same, and what its leader says, if that is another pod. Only for who is in
    /// the cluster itself: elsewhere the addresses of pods may be somebody else's.
    ///
    /// # Errors
    ///
    /// As [`Fetcher::ask`]; a leader that cannot be asked is no error.
    pub async fn ask_the_leader_too(&self, url: &Url) -> Result<Answer, String> {
        let mut answer = self.ask(url).await?;
        let own = url.port_or_known_default().unwrap_or_default();
        if let Some(leader) = answer.seen.leader_admin(own)
            && let Ok(url) = Url::parse(&format!("http://{leader}/state"))
            && let Ok(Ok(theirs)) = timeout(LEADER_PATIENCE, self.ask(&url)).await
            && theirs.seen.role == "leader"
        {
            answer.leader = Some(theirs.seen);
        }
        Ok(answer)
    }
}
