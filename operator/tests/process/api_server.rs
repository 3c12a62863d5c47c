//! An API server with one object of each kind. A test can disconnect it, remove the history that
//! watches continue from, reject reads, and delay the responses to writes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::{Stream, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use url::form_urlencoded;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The API server. It ends with the test's runtime.
pub(crate) struct ApiServer {
    pub(crate) url: String,
    /// The path of each write when it arrives.
    pub(crate) writes: mpsc::UnboundedReceiver<String>,
    handler: Handler,
}

/// Handles the requests of all connections.
#[derive(Clone)]
struct Handler {
    state: Arc<Mutex<State>>,
    /// Changes with the state.
    changes: watch::Sender<Change>,
    writes: mpsc::UnboundedSender<String>,
}

/// What connections and requests wait for.
#[derive(Default)]
struct Change {
    is_disconnected: bool,
    delays_writes: bool,
}

#[derive(Default)]
struct State {
    version: u64,
    /// The response to a watch from an earlier version is 410.
    oldest: u64,
    rejects_reads: bool,
    /// The number of rejected reads of each plural.
    rejected: BTreeMap<String, usize>,
    /// The object of each plural.
    objects: BTreeMap<&'static str, Value>,
    /// Version, plural and event.
    events: Vec<(u64, &'static str, Value)>,
}

impl ApiServer {
    /// Starts a server with a GatewayQueue.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, writes) = mpsc::unbounded_channel();
        let handler = Handler {
            state: Arc::default(),
            changes: watch::Sender::default(),
            writes: sender,
        };
        let server = Self {
            url,
            writes,
            handler: handler.clone(),
        };
        let queue = json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1", "kind": "GatewayQueue",
            "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 1},
            "spec": {},
        });
        server.put("gatewayqueues", queue);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut changes = handler.changes.subscribe();
                let handler = handler.clone();
                let service = service_fn(move |request| handler.clone().answer(request));
                tokio::spawn(async move {
                    let serving =
                        http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                    tokio::select! {
                        _ = serving => {}
                        _ = changes.wait_for(|change| change.is_disconnected) => {}
                    }
                });
            }
        });
        server
    }

    /// Creates or changes the object of this plural.
    pub(crate) fn put(&self, plural: &'static str, object: Value) {
        self.handler.put(plural, object);
    }

    /// Closes all connections, also new ones.
    pub(crate) fn disconnect(&self) {
        self.set(|change| change.is_disconnected = true);
    }

    /// Accepts connections again, without the history of what has happened meanwhile.
    pub(crate) fn reconnect_without_history(&self) {
        let mut state = self.handler.state.lock().unwrap();
        state.oldest = state.version;
        drop(state);
        self.set(|change| change.is_disconnected = false);
    }

    /// Delays the responses to writes while `delays` is true.
    pub(crate) fn delay_writes(&self, delays: bool) {
        self.set(|change| change.delays_writes = delays);
    }

    /// Ends all watches, and rejects every read while `rejects` is true.
    pub(crate) fn reject_reads(&self, rejects: bool) {
        let mut state = self.handler.state.lock().unwrap();
        state.rejects_reads = rejects;
        state.rejected.clear();
        drop(state);
        self.set(|_| {});
    }

    fn set(&self, change: impl FnOnce(&mut Change)) {
        self.handler.changes.send_modify(change);
    }

    /// Waits until at least `times` reads of each of so many plurals were rejected.
    pub(crate) async fn until_rejected(&self, plurals: usize, times: usize) {
        self.until(|state| {
            let often = state.rejected.values().filter(|count| **count >= times);
            often.count() == plurals
        })
        .await;
    }

    /// Waits until the status of the GatewayQueue names this leader.
    pub(crate) async fn until_leader_is(&self, name: &str) {
        self.until(|state| state.objects["gatewayqueues"]["status"]["leader"] == name)
            .await;
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut changes = self.handler.changes.subscribe();
        let holds = |_: &Change| condition(&self.handler.state.lock().unwrap());
        changes.wait_for(holds).await.unwrap();
    }
}

impl Handler {
    fn put(&self, plural: &'static str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let before = state.objects.insert(plural, object.clone());
        let kind = before.map_or("ADDED", |_| "MODIFIED");
        let event = json!({"type": kind, "object": object});
        state.events.push((version, plural, event));
        drop(state);
        self.changes.send_modify(|_| {});
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if parts.method != Method::GET {
            let body = body.collect().await.map_err(std::io::Error::other)?;
            let _ = self.writes.send(path.to_owned());
            let mut changes = self.changes.subscribe();
            let _ = changes.wait_for(|change| !change.delays_writes).await;
            let mut object: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            if path.ends_with("/status") {
                let status = object[1]["value"].take();
                object = self.state.lock().unwrap().objects["gatewayqueues"].clone();
                object["status"] = status;
                self.put("gatewayqueues", object.clone());
            }
            object["metadata"]["uid"] = json!("0042");
            return Ok(respond(StatusCode::OK, &object));
        }
        let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
        if plural.starts_with("my-bot") {
            return Ok(failure(StatusCode::NOT_FOUND, "NotFound"));
        }
        if self.rejects_reads() {
            let mut state = self.state.lock().unwrap();
            *state.rejected.entry(plural).or_default() += 1;
            drop(state);
            self.changes.send_modify(|_| {});
            return Ok(failure(StatusCode::FORBIDDEN, "Forbidden"));
        }
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let query: BTreeMap<_, _> = form_urlencoded::parse(query).into_owned().collect();
        let value = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
        let selector = value("labelSelector").to_owned();
        if value("watch") == "true" {
            let since = value("resourceVersion").parse().unwrap_or(0);
            let frames = StreamBody::new(self.watch(plural, selector, since));
            return Ok(Response::new(frames.boxed_unsync()));
        }
        let state = self.state.lock().unwrap();
        let object = state.objects.get(plural.as_str());
        let items: Vec<_> = object
            .into_iter()
            .filter(|object| matches(object, &selector))
            .collect();
        let list = json!({"kind": "List", "apiVersion": "v1", "items": items,
                          "metadata": {"resourceVersion": state.version.to_string()}});
        Ok(respond(StatusCode::OK, &list))
    }

    fn rejects_reads(&self) -> bool {
        self.state.lock().unwrap().rejects_reads
    }

    /// The next event after a version, and the version to continue from, if any.
    fn next(&self, plural: &str, selector: &str, since: u64) -> Option<(Option<u64>, Value)> {
        let state = self.state.lock().unwrap();
        if since < state.oldest {
            let expired = json!({"type": "ERROR", "object": status(410, "Expired")});
            return Some((None, expired));
        }
        let mut events = state.events.iter();
        let found = events.find(|(version, of, event)| {
            *version > since && *of == plural && matches(&event["object"], selector)
        })?;
        Some((Some(found.0), found.2.clone()))
    }

    /// The events after a version. The stream ends when reads are rejected.
    fn watch(
        self,
        plural: String,
        selector: String,
        since: u64,
    ) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> {
        let changes = self.changes.subscribe();
        let start = (self, Some(since), changes);
        stream::unfold(start, move |(handler, since, mut changes)| {
            let (plural, selector) = (plural.clone(), selector.clone());
            async move {
                let since = since?;
                let (seen, event) = loop {
                    if handler.rejects_reads() {
                        return None;
                    }
                    if let Some(next) = handler.next(&plural, &selector, since) {
                        break next;
                    }
                    changes.changed().await.ok()?;
                };
                let line = Frame::data(Bytes::from(event.to_string() + "\n"));
                Some((Ok(line), (handler, seen, changes)))
            }
        })
    }
}

/// Whether an object has the labels of a selector: `key` or `key=value`, comma-separated.
fn matches(object: &Value, selector: &str) -> bool {
    let labels = &object["metadata"]["labels"];
    let mut terms = selector.split(',').filter(|term| !term.is_empty());
    terms.all(|term| match term.split_once('=') {
        Some((key, value)) => labels[key] == value,
        None => labels.get(term).is_some(),
    })
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
           "reason": reason, "message": "no", "code": code})
}

fn failure(code: StatusCode, reason: &str) -> Response<Body> {
    respond(code, &status(code.as_u16(), reason))
}

fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::from(body.to_string()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}
