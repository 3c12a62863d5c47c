//! The admin port: `/livez`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gateway_queue_telemetry::Seldom;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics;
use crate::watch_health::WatchHealth;

/// A probe and a scraper need a few; more are somebody else's.
const CONNECTIONS: usize = 64;
const HEADER_TIME: Duration = Duration::from_secs(10);

/// For how long a watch may fail before the operator is not ready.
const MAX_BLIND: Duration = Duration::from_secs(120);

/// Whether the caches of all namespaces are filled, and kept up to date.
#[derive(Debug)]
pub struct Readiness {
    missing: AtomicUsize,
    watches: Arc<WatchHealth>,
}

impl Readiness {
    /// Not ready until `scopes` caches are filled, and while a watch fails for long.
    pub fn of(scopes: usize, watches: Arc<WatchHealth>) -> Self {
        Self {
            missing: AtomicUsize::new(scopes),
            watches,
        }
    }

    /// One more is filled. To be called once for each.
    pub fn filled(&self) {
        self.missing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns why the operator is not ready, if it is not.
    fn fault(&self, now: Instant) -> Option<String> {
        if self.missing.load(Ordering::Relaxed) != 0 {
            return Some("the caches are not filled yet\n".to_owned());
        }
        let (failed_for, watch) = self.watches.longest_failure(now)?;
        let place = match watch.scope.as_str() {
            "*" => "all namespaces".to_owned(),
            namespace => format!("namespace {namespace}"),
        };
        (failed_for >= MAX_BLIND).then(|| {
            format!(
                "the watch of kind {} in {place} has failed for {} s: see the log, and that the \
                 operator has its rights\n",
                watch.kind,
                failed_for.as_secs()
            )
        })
    }
}

/// Listens on all addresses, of IPv4 alone where the machine has no IPv6.
///
/// # Errors
/// When the port cannot be had.
pub async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

/// Answers, for ever.
pub async fn serve(listener: TcpListener, readiness: Arc<Readiness>, registry: Registry) {
    let registry = Arc::new(registry);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let refused = Seldom::minutely();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                if let Some(unsaid) = refused.says(Instant::now()) {
                    tracing::warn!(%error, unsaid, "cannot accept a connection on the admin port");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (readiness, registry) = (Arc::clone(&readiness), Arc::clone(&registry));
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(
                    request.method(),
                    request.uri().path(),
                    &readiness,
                    &registry,
                );
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .serve_connection(TokioIo::new(socket), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection on the admin port ended");
            }
            drop(place);
        });
    }
}

fn answer(
    method: &Method,
    path: &str,
    readiness: &Readiness,
    registry: &Registry,
) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match path {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match readiness.fault(Instant::now()) {
            None => text(StatusCode::OK, "ok\n"),
            Some(fault) => text(StatusCode::SERVICE_UNAVAILABLE, fault),
        },
        "/metrics" => match metrics::text(registry) {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    header::HeaderValue::from_static(
                        "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    ),
                );
                response
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot print metrics\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "/livez /readyz /metrics\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_namespace_is_in_the_caches() {
        let (readiness, registry) = (Readiness::of(2, Arc::default()), Registry::default());
        let ready = |readiness| answer(&Method::GET, "/readyz", readiness, &registry).status();
        assert_eq!(ready(&readiness), StatusCode::SERVICE_UNAVAILABLE);
        readiness.filled();
        assert_eq!(ready(&readiness), StatusCode::SERVICE_UNAVAILABLE);
        readiness.filled();
        assert_eq!(ready(&readiness), StatusCode::OK);
    }

    #[test]
    fn alive_before_it_is_ready() {
        let (readiness, registry) = (Readiness::of(1, Arc::default()), Registry::default());
        let status = |path| answer(&Method::GET, path, &readiness, &registry).status();
        assert_eq!(status("/livez"), StatusCode::OK);
        assert_eq!(status("/metrics"), StatusCode::OK);
        assert_eq!(status("/"), StatusCode::NOT_FOUND);
    }

    #[test]
    fn not_ready_while_a_watch_has_failed_for_two_minutes() {
        let health = Arc::<WatchHealth>::default();
        let readiness = Readiness::of(0, Arc::clone(&health));
        let start = Instant::now();
        let fault = |seconds| readiness.fault(start + Duration::from_secs(seconds));
        health.add("/pods", "Pod", "*");
        health.connected("/pods", start);
        assert_eq!(fault(1000), None);
        health.failed("/pods", start + Duration::from_secs(1000));
        assert_eq!(fault(1119), None);
        let message = fault(1120).unwrap();
        let expected = "the watch of kind Pod in all namespaces has failed for 120 s";
        assert!(message.starts_with(expected), "{message}");
        health.connected("/pods", start + Duration::from_secs(1200));
        assert_eq!(fault(1200), None);
    }
}
