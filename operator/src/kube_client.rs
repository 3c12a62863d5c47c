//! The Kubernetes clients and their timeouts. Callers retry failed calls, each in its own way, so
//! the client does not: it would retry for minutes without logging it.
//!
//! In a pod, kube reads the token and the CA of the service account again when they are a minute
//! old, so a rotation of either needs no restart.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::Service;
use tower::layer::layer_fn;

use crate::observe::watch_health::WatchHealth;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than a watch, which the API server ends after 290 s.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// The same for the election: a hanging renewal must fail long before another operator may
/// acquire the Lease. It is longer than the 5 s between two renewals, so that the connection is
/// kept.
const ELECTION_READ_TIMEOUT: Duration = Duration::from_secs(6);

/// The clients of the operator.
pub struct Clients {
    /// For watches, applies and the status.
    pub work: Client,
    /// For the election.
    pub election: Client,
}

impl Clients {
    /// Returns clients for the cluster of `config`. Watches that the API server serves are recorded
    /// in `health`: kube does not report when a failed watch works again.
    ///
    /// # Errors
    /// If the credentials cannot be used.
    pub fn of(config: Config, health: &Arc<WatchHealth>) -> kube::Result<Self> {
        let recording = layer_fn(|service| RecordWatches {
            service,
            health: Arc::clone(health),
        });
        Ok(Self {
            work: ClientBuilder::try_from(with_timeouts(config.clone(), READ_TIMEOUT))?
                .with_layer(&recording)
                .build(),
            election: Client::try_from(with_timeouts(config, ELECTION_READ_TIMEOUT))?,
        })
    }
}

fn with_timeouts(mut config: Config, read: Duration) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(read);
    // Otherwise the time during which a connection is idle would count.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config
}

/// Records the watches that the API server begins to serve.
struct RecordWatches<S> {
    service: S,
    health: Arc<WatchHealth>,
}

impl<S, B> Service<Request<Body>> for RecordWatches<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default();
        let watches =
            *request.method() == Method::GET && query.split('&').any(|pair| pair == "watch=true");
        let path = request.uri().path().to_owned();
        let response = self.service.call(request);
        if !watches {
            return response.boxed();
        }
        let health = Arc::clone(&self.health);
        async move {
            let response = response.await;
            if let Ok(response) = &response
                && response.status().is_success()
            {
                health.connected(&path, Instant::now());
            }
            response
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;

    /// An API server that answers each request with `answer`, or never, and reports each request. It
    /// ends with the test.
    async fn server(answer: Option<&'static str>) -> (Config, mpsc::UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (arrived, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, answer, arrived.clone()));
            }
        });
        (Config::new(url.parse().unwrap()), requests)
    }

    async fn serve(
        mut socket: TcpStream,
        answer: Option<&'static str>,
        arrived: mpsc::UnboundedSender<()>,
    ) {
        let mut request = [0; 16 * 1024];
        while let Ok(1..) = socket.read(&mut request).await {
            let _ = arrived.send(());
            if let Some(answer) = answer {
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        }
    }

    #[tokio::test]
    async fn the_client_does_not_retry() {
        let busy =
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n";
        let (config, mut requests) = server(Some(busy)).await;
        let clients = Clients::of(config, &Arc::default()).unwrap();
        for client in [clients.work, clients.election] {
            let pods: Api<Pod> = Api::default_namespaced(client);
            // Less than the Retry-After of the response.
            let limit = Duration::from_secs(5);
            let answer = tokio::time::timeout(limit, pods.get("my-bot")).await;
            assert!(answer.expect("it waits to retry").is_err());
            requests.recv().await.unwrap();
            assert!(requests.try_recv().is_err(), "it was called again");
        }
    }

    #[tokio::test]
    async fn the_election_waits_only_seconds_for_an_api_server_that_never_answers() {
        let (config, mut requests) = server(None).await;
        let clients = Clients::of(config, &Arc::default()).unwrap();
        let candidacy = crate::leader_election::Candidacy {
            namespace: "system".to_owned(),
            lease: crate::leader_election::LEASE,
            identity: "operator-1".to_owned(),
        };
        let (leads, leading) = tokio::sync::watch::channel(true);
        let stop = tokio_util::sync::CancellationToken::new();
        let publish = crate::leader_election::Publish {
            leads,
            has_leader: prometheus_client::metrics::gauge::Gauge::default(),
            health: crate::readiness::Readiness::of(Arc::default()).add("*"),
        };
        let election =
            crate::leader_election::run(clients.election, candidacy, publish, stop.clone());
        let election = tokio::spawn(election);
        let twice = async {
            requests.recv().await.unwrap();
            requests.recv().await.unwrap();
        };
        // The second after the first has timed out and a pause.
        let limit = ELECTION_READ_TIMEOUT + Duration::from_secs(5);
        tokio::time::timeout(limit, twice).await.unwrap();
        assert!(!*leading.borrow());
        stop.cancel();
        election.await.unwrap();
    }

    #[test]
    fn the_read_timeout_is_longer_than_a_watch() {
        let config = with_timeouts(
            Config::new("http://localhost".parse().unwrap()),
            READ_TIMEOUT,
        );
        assert!(config.read_timeout > Some(Duration::from_secs(290)));
        assert_eq!(config.connect_timeout, Some(CONNECT_TIMEOUT));
    }
}
