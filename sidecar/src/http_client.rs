//! The HTTP clients of the process: one crypto provider, no redirects.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect};
use rustls::{ClientConfig, RootCertStore};

/// What goes wrong when a client is made.
pub type Unusable = Box<dyn Error + Send + Sync>;

/// Discord demands a user agent of this form; the API server does not mind.
const USER_AGENT: &str = concat!(
    "DiscordBot (gateway-queue, ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// A client that trusts `roots`, and gives up a request after `patience`.
///
/// # Errors
///
/// When there is no usable TLS or DNS configuration.
pub fn client(
    roots: RootCertStore,
    patience: Duration,
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
        // A redirect would carry a token to who knows where.
        .redirect(redirect::Policy::none())
        .timeout(patience);
    Ok(change(builder).build()?)
}

/// The innermost cause of an error: what is wrapped around it is the URL.
pub fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
