//! What the HTTP clients of the process have in common.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, redirect};
use rustls::{ClientConfig, RootCertStore};

/// The error if a client cannot be created.
pub type Unusable = Box<dyn Error + Send + Sync>;

/// Discord requires a user agent of this form.
const USER_AGENT: &str = concat!(
    "DiscordBot (gateway-queue, ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// Returns a client that trusts `roots`, with this time limit for a request.
///
/// # Errors
///
/// If there is no usable TLS or DNS configuration.
pub fn client(
    roots: RootCertStore,
    limit: Duration,
    change: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<Client, Unusable> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        // A redirect would send the token to another server.
        .redirect(redirect::Policy::none())
        .timeout(limit);
    Ok(change(builder).build()?)
}

/// Reads the body of a response. Returns none if it has more than `max_bytes`.
pub(crate) async fn body(
    response: &mut Response,
    max_bytes: usize,
) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max_bytes {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Returns the innermost cause of an error. The outer ones contain the URL.
pub fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    let mut is_dns = false;
    while let Some(source) = cause.source() {
        cause = source;
        is_dns |= cause.to_string() == "dns error";
    }
    let text = cause.to_string();
    if !is_dns {
        return text;
    }
    // The resolver's own text contains its query as Rust prints it.
    match text.strip_prefix("error response: ") {
        Some(code) => format!("the DNS server answered {code}"),
        None if text.contains("no records found") => "DNS has no address for it".to_owned(),
        None => format!("the DNS server did not answer: {text}"),
    }
}
