//! How long the API server is waited for. What fails is tried again by whoever
//! called, each in its own way, so the client itself tries nothing again: it would
//! do so for minutes, without a word.
//!
//! In a pod, kube reads the token and the CA of the service account again when they are a
//! minute old, each time it needs them: a rotation of either needs no restart.

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

const CONNECT: Duration = Duration::from_secs(5);

/// Nothing is quiet for longer but a dead connection: the API server ends a
/// watch after 290 seconds.
const QUIET: Duration = Duration::from_secs(300);

/// The same of the calls of the election: a renewal that hangs shall fail long before
/// another operator may take the Lease. And longer than the 5 seconds between two
/// renewals, for which the connection is kept.
const ELECTION_QUIET: Duration = Duration::from_secs(6);

/// The clients of the operator.
pub struct Clients {
    /// For all that is watched and applied.
    pub work: Client,
    /// For the election alone.
    pub election: Client,
}

impl Clients {
    /// Those of the cluster of `config`. Watches that the API server serves are noted
    /// in `health`: kube itself does not report it when a watch that failed works again.
    ///
    /// # Errors
    /// When there are no credentials, or none that can be used.
    pub fn of(config: Config, health: &Arc<WatchHealth>) -> kube::Result<Self> {
        let noting = layer_fn(|service| NotesWatches {
            service,
            health: Arc::clone(health),
        });
        Ok(Self {
            work: ClientBuilder::try_from(limited(config.clone(), QUIET))?
                .with_layer(&noting)
                .build(),
            election: Client::try_from(limited(config, ELECTION_QUIET))?,
        })
    }
}

fn limited(mut config: Config, quiet: Duration) -> Config {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(quiet);
    // Else the time for which a connection was not used would count, too.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config
}

/// Notes the watches that the API server begins to serve.
struct NotesWatches<S> {
    service: S,
    health: Arc<WatchHealth>,
}

impl<S, B> Service<Request<Body>> for NotesWatches<S>
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
        let answering = self.service.call(request);
        if !watches {
            return answering.boxed();
        }
        let health = Arc::clone(&self.health);
        async move {
            let answer = answering.await;
            if let Ok(answer) = &answer
                && answer.status().is_success()
            {
                health.connected(&path, Instant::now());
            }
            answer
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

    /// An API server that answers each request with `answer`, or never, and says of
    /// each that it came. It ends with the test.
    async fn server(answer: Option<&'static str>) -> (Config, mpsc::UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (came, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, answer, came.clone()));
            }
        });
        (Config::new(url.parse().unwrap()), requests)
    }

    async fn serve(
        mut socket: TcpStream,
        answer: Option<&'static str>,
        came: mpsc::UnboundedSender<()>,
    ) {
        let mut request = [0; 16 * 1024];
        while let Ok(1..) = socket.read(&mut request).await {
            let _ = came.send(());
            if let Some(answer) = answer {
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        }
    }

    #[tokio::test]
    async fn a_call_that_the_api_server_puts_off_is_not_made_again_behind_our_back() {
        let busy =
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n";
        let (config, mut requests) = server(Some(busy)).await;
        let clients = Clients::of(config, &Arc::default()).unwrap();
        for client in [clients.work, clients.election] {
            let pods: Api<Pod> = Api::default_namespaced(client);
            // Less than the API server asks for.
            let limit = Duration::from_secs(5);
            let answer = tokio::time::timeout(limit, pods.get("my-bot")).await;
            assert!(answer.expect("it waits, to call again").is_err());
            requests.recv().await.unwrap();
            assert!(requests.try_recv().is_err(), "it was called again");
        }
    }

    #[tokio::test]
    async fn the_election_waits_for_an_api_server_that_never_answers_for_seconds_only() {
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
        let standing =
            crate::leader_election::run(clients.election, candidacy, publish, stop.clone());
        let standing = tokio::spawn(standing);
        let twice = async {
            requests.recv().await.unwrap();
            requests.recv().await.unwrap();
        };
        // Once, and again after the first was given up and a second went by.
        let limit = ELECTION_QUIET + Duration::from_secs(5);
        tokio::time::timeout(limit, twice).await.unwrap();
        assert!(!*leading.borrow());
        stop.cancel();
        standing.await.unwrap();
    }

    #[test]
    fn a_watch_is_never_cut_before_the_api_server_ends_it() {
        let config = limited(Config::new("http://localhost".parse().unwrap()), QUIET);
        assert!(config.read_timeout > Some(Duration::from_secs(290)));
        assert_eq!(config.connect_timeout, Some(CONNECT));
    }
}
