//! An API server with one GatewayQueue and its Lease. It can be cut off, forget the
//! past as etcd does when it compacts, and refuse every read.

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
use tokio::sync::watch;
use url::form_urlencoded;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Ends with the test's runtime.
pub(crate) struct ApiServer {
    pub(crate) url: String,
    world: World,
}

#[derive(Clone)]
struct World {
    state: Arc<Mutex<State>>,
    /// The newest version, and whether connections are cut.
    news: watch::Sender<(u64, bool)>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// A watch from a version before this is answered 410.
    oldest: u64,
    refuses: bool,
    /// How many reads of each plural were refused.
    refused: BTreeMap<String, usize>,
    /// The object of each plural.
    objects: BTreeMap<&'static str, Value>,
    /// Version, plural and event.
    events: Vec<(u64, &'static str, Value)>,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let world = World {
            state: Arc::default(),
            news: watch::Sender::new((0, false)),
        };
        let server = Self {
            url,
            world: world.clone(),
        };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut news = world.news.subscribe();
                let world = world.clone();
                let service = service_fn(move |request| world.clone().answer(request));
                tokio::spawn(async move {
                    let serving =
                        http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                    tokio::select! {
                        _ = serving => {}
                        _ = news.wait_for(|(_, cut)| *cut) => {}
                    }
                });
            }
        });
        server
    }

    /// Makes or changes an object, named by its plural.
    pub(crate) fn put(&self, plural: &'static str, object: Value) {
        self.world.put(plural, object);
    }

    /// Cuts all connections, those that come, too.
    pub(crate) fn go_away(&self) {
        self.world.news.send_modify(|(_, cut)| *cut = true);
    }

    /// Ends that, with nothing left of what happened meanwhile but the result.
    pub(crate) fn return_without_history(&self) {
        let mut state = self.world.state.lock().unwrap();
        state.oldest = state.version;
        drop(state);
        self.world.news.send_modify(|(_, cut)| *cut = false);
    }

    /// Ends all watches, and refuses every read from now on, or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        let mut state = self.world.state.lock().unwrap();
        state.refuses = refuses;
        state.refused.clear();
        drop(state);
        self.world.news.send_modify(|_| {});
    }

    /// Waits until the reads of so many plurals were refused, each so often.
    pub(crate) async fn until_each_is_refused(&self, plurals: usize, times: usize) {
        let mut news = self.world.news.subscribe();
        let enough = |_: &(u64, bool)| {
            let state = self.world.state.lock().unwrap();
            let often = state.refused.values().filter(|count| **count >= times);
            often.count() == plurals
        };
        news.wait_for(enough).await.unwrap();
    }

    /// Waits until the status of the GatewayQueue names this leader.
    pub(crate) async fn until_leader_is(&self, name: &str) {
        let mut news = self.world.news.subscribe();
        let named = |_: &(u64, bool)| {
            let state = self.world.state.lock().unwrap();
            let queue = state.objects.get("gatewayqueues");
            queue.is_some_and(|queue| queue["status"]["leader"] == name)
        };
        news.wait_for(named).await.unwrap();
    }
}

impl World {
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
        self.news.send_modify(|(newest, _)| *newest = version);
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if parts.method != Method::GET {
            let body = body.collect().await.map_err(std::io::Error::other)?;
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
        if plural == "my-bot" {
            return Ok(failure(StatusCode::NOT_FOUND, "NotFound"));
        }
        if self.refuses() {
            *self
                .state
                .lock()
                .unwrap()
                .refused
                .entry(plural)
                .or_default() += 1;
            self.news.send_modify(|_| {});
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

    fn refuses(&self) -> bool {
        self.state.lock().unwrap().refuses
    }

    /// The next event after a version, and the version to go on from, if any.
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

    /// The events after a version, for ever.
    fn watch(
        self,
        plural: String,
        selector: String,
        since: u64,
    ) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> {
        let news = self.news.subscribe();
        let start = (self, Some(since), news);
        stream::unfold(start, move |(world, since, mut news)| {
            let (plural, selector) = (plural.clone(), selector.clone());
            async move {
                let since = since?;
                let (seen, event) = loop {
                    if world.refuses() {
                        return None;
                    }
                    if let Some(next) = world.next(&plural, &selector, since) {
                        break next;
                    }
                    news.changed().await.ok()?;
                };
                let line = Frame::data(Bytes::from(event.to_string() + "\n"));
                Some((Ok(line), (world, seen, news)))
            }
        })
    }
}

/// Whether an object has the labels of a selector: `key` or `key=value`, with commas
/// between.
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
