//! The server, and the HTTP client for it.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url, redirect, retry};

use crate::error::Error;

/// The time limit of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

// A server may ignore `wait` and hold a request for hours, so a request has no timeout. A lost
// server is detected within 30 s: by TCP keepalive while nothing is sent, by the user timeout if
// the request is not acknowledged.
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

impl Server {
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            base: address(url, cfg!(feature = "tls"))?,
            client: client()?,
        })
    }

    /// Returns a request about a shard, with one more parameter.
    pub(crate) fn get(&self, shard: u32, parameter: &str, value: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.query_pairs_mut()
            .append_pair("shard", &shard.to_string())
            .append_pair(parameter, value);
        self.client.get(url)
    }
}

/// Reads the address of a server.
fn address(given: &str, has_tls: bool) -> Result<Url, Error> {
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
    match url.scheme() {
        "http" => {}
        "https" if has_tls => {}
        "https" => return Err(refuse("needs the feature `tls`, which is off".to_owned())),
        scheme => return Err(refuse(format!("has the scheme {scheme:?}"))),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("has a part after ? or #".to_owned()));
    }
    Ok(url)
}

fn client() -> Result<Client, Error> {
    let builder = Client::builder()
        // Another crate of the bot may have turned on HTTP/2, in which a lost connection loses
        // every shard's request.
        .http1_only()
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
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ));
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    #[cfg(feature = "tls")]
    let builder = builder.tls_backend_preconfigured(tls()?);
    builder.build().map_err(|e| Error::Client(Box::new(e)))
}

/// TLS without files of the system: the image of a bot may have none.
#[cfg(feature = "tls")]
fn tls() -> Result<rustls::ClientConfig, Error> {
    let roots: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Client(Box::new(e)))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Returns the message of an error with its causes, which reqwest leaves out.
pub(crate) fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn https_is_refused_without_tls() {
        for (url, has_tls, accepted) in [
            ("http://my-bot", false, true),
            ("https://my-bot", true, true),
            ("https://my-bot", false, false),
        ] {
            assert_eq!(address(url, has_tls).is_ok(), accepted, "{url} {has_tls}");
        }
        let error = address("https://my-bot", false).unwrap_err().to_string();
        assert!(
            error.starts_with("the queue's address \"https://my-bot\" needs the feature `tls`"),
            "{error}"
        );
    }
}
