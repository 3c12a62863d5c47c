//! Fetches the limits of the bot from Discord.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::bot_token::BotToken;
use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::pacing::discord_retry::Outcome;
use reqwest::header::{AGE, AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use rustls::RootCertStore;
use tokio::task::spawn_blocking;

use crate::ca_file::{CaFile, ClientSettings};
use crate::http_client::{self, Unusable};

/// The time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Discord's response has some 200 bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Discord's REST API.
#[derive(Clone, Debug)]
pub struct Discord {
    ca: Option<Arc<CaFile>>,
    client: Client,
    url: String,
}

impl Discord {
    /// Returns a client of the API at the base URL `api`, which trusts the certificates in the file
    /// `ca` besides the public ones.
    ///
    /// # Errors
    ///
    /// If there is no usable TLS or DNS configuration.
    pub fn new(api: &str, ca: Option<PathBuf>) -> Result<Self, Unusable> {
        let settings = ClientSettings {
            roots: RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            limit: TIMEOUT,
            // There are minutes between two requests: a pooled connection would be stale.
            change: |builder| builder.pool_max_idle_per_host(0),
        };
        let client = settings.client(RootCertStore::empty())?;
        let ca = ca
            .map(|path| CaFile::optional(path, settings))
            .transpose()?;
        Ok(Self {
            ca: ca.map(Arc::new),
            client,
            url: format!("{api}/gateway/bot"),
        })
    }

    /// Fetches the limits, within ten seconds.
    pub fn fetch(&self, token: &BotToken) -> impl Future<Output = Outcome> + Send + use<> {
        let response = self.request(token);
        async move {
            let failed = |failed: Failed| Outcome::Unreachable(reason(&failed.error) + &failed.ca);
            response.await.unwrap_or_else(failed)
        }
    }

    /// Fetches the limits.
    pub fn request(
        &self,
        token: &BotToken,
    ) -> impl Future<Output = Result<Outcome, Failed>> + Send + use<> {
        let authorization = HeaderValue::try_from(token.authorization());
        let Self { client, ca, url } = self.clone();
        async move {
            let Ok(mut authorization) = authorization else {
                let error = "the token is not valid in a header";
                return Ok(Outcome::Invalid(error.to_owned()));
            };
            authorization.set_sensitive(true);
            let (client, ca_problem) = match ca {
                // It reads a file.
                Some(ca) => spawn_blocking(move || ca.client())
                    .await
                    .unwrap_or((client, None)),
                None => (client, None),
            };
            let request = client
                .get(&url)
                .header(AUTHORIZATION, authorization)
                .header(CACHE_CONTROL, "no-cache");
            match request.send().await {
                Ok(response) => Ok(read(response).await),
                Err(error) => Err(Failed {
                    error,
                    ca: ca_problem.map_or_else(String::new, |problem| {
                        format!("; the CA certificates cannot be used: {problem}")
                    }),
                }),
            }
        }
    }
}

/// Why there was no response.
#[derive(Debug)]
pub struct Failed {
    /// The error of the client.
    pub error: reqwest::Error,
    /// What to add to a message, if the CA file cannot be used.
    pub ca: String,
}

async fn read(mut response: Response) -> Outcome {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => return Outcome::Rejected,
        StatusCode::TOO_MANY_REQUESTS => {
            let header = response.headers().get(RETRY_AFTER);
            return match header.and_then(retry_after) {
                Some(pause) => Outcome::RateLimited(pause),
                None => Outcome::Invalid("Discord answered 429 with no Retry-After".to_owned()),
            };
        }
        StatusCode::NOT_FOUND => {
            let error = "Discord answered 404: DISCORD_API must be the base URL of its REST API";
            return Outcome::Invalid(error.to_owned());
        }
        status => return Outcome::Invalid(format!("Discord answered {}", status.as_u16())),
    }
    if !is_new(response.headers()) {
        let error = "the response is from a cache (its Age is not 0), not from Discord";
        return Outcome::Invalid(error.to_owned());
    }
    let limits = match http_client::body(&mut response, MAX_BODY_BYTES).await {
        Ok(Some(body)) => Limits::parse(&body),
        Ok(None) => Err(format!("the response has more than {MAX_BODY_BYTES} bytes")),
        // Discord responded, but the response is incomplete.
        Err(error) => Err(reason(&error.with_url(response.url().clone()))),
    };
    limits.map_or_else(Outcome::Invalid, Outcome::Limits)
}

/// Whether the response is not from a cache: session starts left then may be used by now.
fn is_new(headers: &HeaderMap) -> bool {
    let zero = |age: &HeaderValue| {
        let age = age.as_bytes().trim_ascii();
        !age.is_empty() && age.iter().all(|digit| *digit == b'0')
    };
    headers.get_all(AGE).iter().all(zero)
}

/// Parses whole or decimal seconds.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let seconds: f64 = value.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Describes the error with the host, which need not be Discord's. The rest of the URL is
/// left out: a proxy may have a secret in its path.
fn reason(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no response from Discord in time"
    } else if error.is_connect() {
        "cannot connect to Discord"
    } else {
        "no complete response from Discord"
    };
    let host = error.url().and_then(|url| url.host_str());
    let place = host.map_or_else(String::new, |host| format!(" at {host}"));
    format!("{what}{place}: {}", http_client::cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_accepted_however_long_and_refused_if_it_is_not_a_number_of_seconds() {
        let read = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("82721"), Some(Duration::from_secs(82_721)));
        assert_eq!(read("0.5"), Some(Duration::from_millis(500)));
        for text in [
            "-1",
            "NaN",
            "inf",
            "1e300",
            "soon",
            "Wed, 21 Oct 2026 07:28:00 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_response_is_new_unless_it_has_an_age() {
        let is_new = |ages: &[&[u8]]| {
            let age = |age: &&[u8]| (AGE, HeaderValue::from_bytes(age).unwrap());
            super::is_new(&ages.iter().map(age).collect())
        };
        assert!(is_new(&[]) && is_new(&[b"0"]) && is_new(&[b" 00"]));
        for age in [
            "1", "86400", "-1", "-0", "0.5", "soon", "", "1e9", "\u{660}",
        ] {
            assert!(!is_new(&[age.as_bytes()]), "{age}");
            assert!(!is_new(&[b"0", age.as_bytes()]), "{age}");
        }
        assert!(!is_new(&[b"\xff"]));
    }
}
