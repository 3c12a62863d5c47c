//! One shard's request for its turn, and the server that it goes to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect, retry};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::backoff::Backoff;

/// A server that takes longer to accept a connection is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

// A turn may take hours, so there is no timeout on a request. A server that
// vanished without a word is noticed within 30 s all the same: by the kernel's
// probes while nothing is sent, by the user timeout when the request itself is
// not acknowledged.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Where turns are asked for, and the means to ask.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    base: Url,
    client: Client,
}

/// Why a request was no grant.
enum Refusal {
    Status(StatusCode),
    Transport(reqwest::Error),
}

impl Server {
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            base: address(url)?,
            client: client()?,
        })
    }

    /// Asks for a turn of `shard` until it is granted, or until nobody waits for
    /// it any more. The channel is never dropped before: a shard takes that for
    /// a failure, and enqueues again at once.
    pub(crate) async fn turn(self, shard: u32, mut granted: oneshot::Sender<()>) {
        let asked = Instant::now();
        tokio::select! {
            biased;
            () = granted.closed() => {
                tracing::debug!(shard, "the shard stopped waiting for its turn");
            }
            () = self.grant(shard) => {
                tracing::debug!(shard, waited = ?asked.elapsed(), "the shard may identify");
                // Gone in this very moment: there is nothing left to undo.
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
            tracing::warn!(shard, again_in = ?wait, "no turn from the queue: {refusal}");
            sleep(wait).await;
        }
    }

    /// One request. The grant counts when its last byte is here: a connection
    /// that breaks half-way leaves open whether the server thinks it granted.
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
    // Before it is read: an address that cannot be read may hold one, too.
    if given.contains('@') {
        return Err(Error::Address {
            url: "(not shown)".to_owned(),
            fault: "holds a user or a password".to_owned(),
        });
    }
    let url = Url::parse(given).map_err(|e| refuse(format!("cannot be read ({e})")))?;
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
        // A turn is worth a new connection: an idle one may have died unnoticed,
        // and a Service spreads connections, not requests, over its pods.
        .pool_max_idle_per_host(0)
        // A request that is sent twice waits in the queue twice.
        .retry(retry::never())
        // What another server says is not a grant of this one.
        .redirect(redirect::Policy::none())
        // A proxy in between may answer, and its answer would pass for a grant.
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

/// TLS that needs nothing from the system: a bot's image may be empty.
fn tls() -> Result<rustls::ClientConfig, Error> {
    let roots: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Client(Box::new(e)))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl From<reqwest::Error> for Refusal {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Transport(error) => {
                // reqwest tells the cause only in the chain of its sources.
                write!(f, "{error}")?;
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}
