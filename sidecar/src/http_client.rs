//! Creates the HTTP clients of the process.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect};
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

/// Returns the innermost cause of an error. The outer ones contain the URL.
pub fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
