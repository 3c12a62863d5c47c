//! The requests to the server.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect, retry};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::backoff::Backoff;

/// The time limit of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

// A grant may take hours, so a request has no timeout. A lost server is detected within 30 s:
// by TCP keepalive while nothing is sent, by the user timeout if the request is not
// acknowledged.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The server and the client for it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    base: Url,
    client: Client,
}

/// Why a request was not granted.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the response has status {0}")]
    Status(StatusCode),
    #[error("{}", with_causes(.0))]
    Transport(#[from] reqwest::Error),
}

impl Server {
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            base: address(url)?,
            client: client()?,
        })
    }

    /// Requests a grant for `shard` until it is received or the shard stops waiting. Does not
    /// drop the channel before that: a shard treats it as a failure and enqueues again
    /// immediately.
    pub(crate) async fn wait(self, shard: u32, mut granted: oneshot::Sender<()>) {
        let asked = Instant::now();
        tokio::select! {
            biased;
            () = granted.closed() => {
                tracing::debug!(shard, "the shard stopped waiting");
            }
            () = self.grant(shard) => {
                tracing::debug!(shard, waited = ?asked.elapsed(), "the shard may identify");
                // If the shard has just stopped waiting, nothing can be undone.
                let _ = granted.send(());
            }
        }
    }

    async fn grant(&self, shard: u32) {
        let mut backoff = Backoff::new();
        loop {
            let asked = Instant::now();
            let Err(refusal) = self.ask(shard).await else {
                return;
            };
            let wait = backoff.after(asked.elapsed(), fastrand::f64());
            tracing::warn!(shard, again_in = ?wait, "no grant from the queue: {refusal}");
            sleep(wait).await;
        }
    }

    /// Sends one request. Only a complete response is a grant: if the connection breaks before,
    /// the server may not count it.
    async fn ask(&self, shard: u32) -> Result<(), Refusal> {
        let mut url = self.base.clone();
        url.query_pairs_mut()
            .append_pair("shard", &shard.to_string());
        let mut response = self.client.get(url).send().await?;
        if !response.status().is_success() {
            return Err(Refusal::Status(response.status()));
        }
        while response.chunk().await?.is_some() {}
        Ok(())
    }
}

fn address(given: &str) -> Result<Url, Error> {
    let refuse = |fault: String| Error::Address {
        url: given.to_owned(),
        fault,
    };
    // Checked before parsing, because an invalid URL may contain a password, too.
    if given.contains('@') {
        return Err(Error::Address {
            url: "(not shown)".to_owned(),
            fault: "contains a user or a password".to_owned(),
        });
    }
    let url = Url::parse(given).map_err(|e| refuse(format!("is not a URL ({e})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse(format!("has the scheme {:?}", url.scheme())));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("has a part after ? or #".to_owned()));
    }
    Ok(url)
}

fn client() -> Result<Client, Error> {
    let builder = Client::builder()
        // An idle connection may be lost, and a Service balances connections, not requests.
        .pool_max_idle_per_host(0)
        // A request that is sent twice would wait in the queue twice.
        .retry(retry::never())
        // The response of another server is not a grant.
        .redirect(redirect::Policy::none())
        // The response of a proxy would be treated as a grant.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(PROBE_AFTER)
        .tcp_keepalive_interval(PROBE_EVERY)
        .tcp_keepalive_retries(PROBES)
        .tls_backend_preconfigured(tls()?)
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ));
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    builder.build().map_err(|e| Error::Client(Box::new(e)))
}

/// TLS without files of the system: the image of a bot may have none.
fn tls() -> Result<rustls::ClientConfig, Error> {
    let roots: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Client(Box::new(e)))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Returns the message of an error with its causes, which reqwest leaves out.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
