//! The admin port: `/livez`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_queue_telemetry::RateLimit;
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
use crate::readiness::Readiness;

/// Probes and scrapers need a few.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens on all addresses; only on those of IPv4 if the machine has no IPv6.
///
/// # Errors
/// If the port is not available.
pub async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

/// Serves requests, forever.
pub async fn serve(listener: TcpListener, readiness: Arc<Readiness>, registry: Registry) {
    let registry = Arc::new(registry);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let refused = RateLimit::per_minute();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                if let Some(suppressed) = refused.allow(Instant::now()) {
                    tracing::warn!(error = error.to_string(), suppressed, "accept failed");
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
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            if let Err(error) = connection.await {
                tracing::debug!(error = error.to_string(), "admin connection failed");
            }
            drop(permit);
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
        "/readyz" => match readiness.check(Instant::now()) {
            Ok(report) => text(StatusCode::OK, format!("ok\n{report}")),
            Err(fault) => text(StatusCode::SERVICE_UNAVAILABLE, fault),
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
            Err(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "cannot encode the metrics\n",
            ),
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
    fn the_operator_is_alive_before_it_is_ready() {
        let mut readiness = Readiness::of(Arc::default());
        let scope = readiness.add("*");
        let registry = Registry::default();
        let status = |path| answer(&Method::GET, path, &readiness, &registry).status();
        assert_eq!(status("/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("/livez"), StatusCode::OK);
        assert_eq!(status("/metrics"), StatusCode::OK);
        assert_eq!(status("/"), StatusCode::NOT_FOUND);
        scope.filled();
        scope.election_works();
        assert_eq!(status("/readyz"), StatusCode::OK);
    }
}
