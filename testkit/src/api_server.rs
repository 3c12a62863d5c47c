//! A fake API server with one Lease, over real HTTP or HTTPS on a loopback port.
//!
//! Each client is identified by its bearer token and can have its own [`Faults`], so that a test
//! cuts off one candidate and not the other.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream;
use gateway_queue_core::testing::lease::{Refusal, Store};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// The longest time that a test waits for a condition, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The faults of one client.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Requests are neither applied nor answered, and watches are silent.
    pub cut: bool,
    /// How much later requests are applied, even if the client has given up by then.
    pub request_delay: Duration,
    /// How much later the answers are sent.
    pub answer_delay: Duration,
    /// All requests get this status.
    pub status: Option<u16>,
    /// All requests get 200 and this body.
    pub body: Option<Vec<u8>>,
    /// The fault of new watches.
    pub watch: WatchFault,
}

/// The fault of a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchFault {
    /// No fault.
    #[default]
    None,
    /// The status is 410.
    Expired,
    /// The first event is an ERROR with code 410.
    ExpiredEvent,
    /// No event is sent.
    Hung,
    /// The first event has no end.
    Oversized,
    /// The first line is no JSON.
    Garbage,
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct FakeApiServer {
    /// Without a path.
    url: String,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The version of the Lease. Watches and tests wait for its changes.
    version: watch::Sender<u64>,
    connections: Mutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    /// Each change as a watch reports it, with its version.
    changes: Vec<(u64, Value)>,
    faults: HashMap<String, Faults>,
    requests: HashMap<String, u64>,
    certificate: Option<Arc<ServerConfig>>,
}

impl FakeApiServer {
    /// Starts a server with plain HTTP. Must be called within a tokio runtime.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a server that presents this certificate. Must be called within a
    /// tokio runtime.
    pub async fn start_tls(certificate: Arc<ServerConfig>) -> Self {
        Self::start_with(Some(certificate)).await
    }

    async fn start_with(certificate: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a loopback port");
        let address = listener.local_addr().expect("an address");
        let scheme = certificate.as_ref().map_or("http", |_| "https");
        let state = State {
            certificate,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            version: watch::channel(0).0,
            connections: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            url: format!("{scheme}://{address}"),
            shared,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Returns the URL without a path.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Creates the Lease with a new UID. An existing one is deleted before.
    pub fn create(&self, lease: Value) {
        self.delete();
        self.shared.change("ADDED", |store| store.create(lease));
    }

    /// Deletes the Lease.
    pub fn delete(&self) {
        let mut state = self.shared.state.lock().unwrap();
        if let Some(lease) = state.store.delete() {
            self.shared.publish(&mut state, "DELETED", lease);
        }
    }

    /// Applies a merge patch of another client. Panics if it is refused.
    pub fn edit(&self, patch: &Value) {
        let patched = |store: &mut Store| store.patch(patch).map(drop);
        self.shared
            .change("MODIFIED", patched)
            .expect("a valid edit");
    }

    /// Returns the Lease, if there is one.
    pub fn lease(&self) -> Option<Value> {
        self.shared.state.lock().unwrap().store.lease().cloned()
    }

    /// Returns the number of requests of this client, watches included.
    pub fn requests(&self, token: &str) -> u64 {
        let state = self.shared.state.lock().unwrap();
        state.requests.get(token).copied().unwrap_or(0)
    }

    /// Changes the faults of the client with this token, from its next request on. A cut also
    /// silences its open watches.
    pub fn faults(&self, token: &str, change: impl FnOnce(&mut Faults)) {
        let mut state = self.shared.state.lock().unwrap();
        change(state.faults.entry(token.to_owned()).or_default());
    }

    /// Presents this certificate from now on and closes all connections, as after a restart.
    pub fn present(&self, certificate: Arc<ServerConfig>) {
        self.shared.state.lock().unwrap().certificate = Some(certificate);
        self.shared.connections.lock().unwrap().abort_all();
    }

    /// Waits until the Lease satisfies the condition, and returns it. Panics after a
    /// minute.
    pub async fn until(&self, condition: impl Fn(&Value) -> bool) -> Value {
        let mut version = self.shared.version.subscribe();
        let satisfied = async {
            loop {
                version.borrow_and_update();
                if let Some(lease) = self.lease().filter(|lease| condition(lease)) {
                    return lease;
                }
                version.changed().await.expect("the server is alive");
            }
        };
        match timeout(PATIENCE, satisfied).await {
            Ok(lease) => lease,
            Err(_) => panic!("the Lease stays {:?}", self.lease()),
        }
    }
}

impl Shared {
    /// Changes the Lease, and reports the change to the watches.
    fn change<T>(&self, kind: &str, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        let before = state.store.version();
        let result = change(&mut state.store);
        if state.store.version() > before
            && let Some(lease) = state.store.lease().cloned()
        {
            self.publish(&mut state, kind, lease);
        }
        result
    }

    fn publish(&self, state: &mut State, kind: &str, lease: Value) {
        let version = state.store.version();
        let event = json!({"type": kind, "object": lease});
        state.changes.push((version, event));
        self.version.send_replace(version);
    }

    fn faults(&self, token: &str) -> Faults {
        let state = self.state.lock().unwrap();
        state.faults.get(token).cloned().unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            continue;
        };
        let certificate = shared.state.lock().unwrap().certificate.clone();
        let serving = Arc::clone(&shared);
        let connection = async move {
            match certificate {
                None => serve(connection, serving).await,
                Some(certificate) => {
                    // A test may have a client that does not trust it.
                    if let Ok(connection) = TlsAcceptor::from(certificate).accept(connection).await
                    {
                        serve(connection, serving).await;
                    }
                }
            }
        };
        let mut connections = shared.connections.lock().unwrap();
        while connections.try_join_next().is_some() {}
        connections.spawn(connection);
    }
}

async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, shared).await) }
    });
    // A test may have a client that disconnects.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(connection), service)
        .await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let token = request.headers().get(AUTHORIZATION);
    let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.unwrap_or_default().to_owned();
    let faults = {
        let mut state = shared.state.lock().unwrap();
        *state.requests.entry(token.clone()).or_default() += 1;
        state.faults.get(&token).cloned().unwrap_or_default()
    };
    if faults.cut {
        return pending().await;
    }
    if let Some(code) = faults.status {
        sleep(faults.answer_delay).await;
        return refuse(code, "Refused", "refused by the test");
    }
    if let Some(body) = faults.body {
        return respond(200, body);
    }
    if let Some(version) = watched_version(&request) {
        return start_watch(token, version, faults.watch, shared);
    }
    let writes = request.method() == Method::PATCH;
    let body = request.into_body().collect().await;
    let Ok(body) = body.map(|body| body.to_bytes()) else {
        return pending().await;
    };
    // A task of its own: a client that gives up does not undo it.
    let applying = tokio::spawn(apply(
        Arc::clone(&shared),
        body,
        writes,
        faults.request_delay,
    ));
    let result = applying.await.expect("the request is applied");
    if shared.faults(&token).cut {
        return pending().await;
    }
    sleep(faults.answer_delay).await;
    match result {
        Ok(lease) => respond(200, lease.to_string()),
        Err(Refusal::Missing) => refuse(404, "NotFound", "leases \"my-bot\" not found"),
        Err(Refusal::Conflict) => refuse(409, "Conflict", "the object has been modified"),
        Err(Refusal::Invalid(field)) => refuse(422, "Invalid", &field),
    }
}

async fn apply(
    shared: Arc<Shared>,
    body: Bytes,
    writes: bool,
    delay: Duration,
) -> Result<Value, Refusal> {
    sleep(delay).await;
    if !writes {
        return shared.state.lock().unwrap().store.read().cloned();
    }
    let patch = serde_json::from_slice(&body);
    let patch = patch.map_err(|error| Refusal::Invalid(error.to_string()))?;
    shared.change("MODIFIED", |store| store.patch(&patch).cloned())
}

/// Returns the version that a request watches from, if it is a watch.
fn watched_version(request: &Request<Incoming>) -> Option<u64> {
    let query = request.uri().query()?.as_bytes();
    let parameters: HashMap<_, _> = url::form_urlencoded::parse(query).collect();
    parameters.get("watch")?;
    let version = parameters.get("resourceVersion");
    Some(version.and_then(|v| v.parse().ok()).unwrap_or(0))
}

fn start_watch(
    token: String,
    version: u64,
    fault: WatchFault,
    shared: Arc<Shared>,
) -> Response<Body> {
    const EXPIRED: &str = "too old resource version";
    match fault {
        WatchFault::None => {}
        WatchFault::Expired => return refuse(410, "Expired", EXPIRED),
        WatchFault::ExpiredEvent => {
            let event = json!({"type": "ERROR", "object": status(410, "Expired", EXPIRED)});
            return respond(200, format!("{event}\n"));
        }
        WatchFault::Garbage => return respond(200, "<html>Bad Gateway</html>\n"),
        WatchFault::Oversized => return respond(200, vec![b'x'; 16 * 1024 * 1024]),
        WatchFault::Hung => {
            let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
            return Response::new(StreamBody::new(never).boxed_unsync());
        }
    }
    let changes = shared.version.subscribe();
    let events = stream::unfold((version, changes), move |(mut version, mut changes)| {
        let (shared, token) = (Arc::clone(&shared), token.clone());
        async move {
            loop {
                changes.borrow_and_update();
                if shared.faults(&token).cut {
                    return pending().await;
                }
                let lines = {
                    let state = shared.state.lock().unwrap();
                    let mut lines = String::new();
                    for (_, event) in state.changes.iter().filter(|(at, _)| *at > version) {
                        lines += &format!("{event}\n");
                    }
                    version = version.max(state.store.version());
                    lines
                };
                if !lines.is_empty() {
                    let frame = Frame::data(Bytes::from(lines));
                    return Some((Ok::<_, Infallible>(frame), (version, changes)));
                }
                changes.changed().await.ok()?;
            }
        }
    });
    Response::new(StreamBody::new(events).boxed_unsync())
}

fn refuse(code: u16, reason: &str, message: &str) -> Response<Body> {
    respond(code, status(code, reason, message).to_string())
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": message, "code": code})
}

fn respond(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status.try_into().expect("a status");
    response
}
