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
    refused: usize,
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
        state.refused = 0;
        drop(state);
        self.world.news.send_modify(|_| {});
    }

    /// Waits until so many reads were refused.
    pub(crate) async fn until_refused(&self, count: usize) {
        let mut news = self.world.news.subscribe();
        let enough = |_: &(u64, bool)| self.world.state.lock().unwrap().refused >= count;
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
            self.state.lock().unwrap().refused += 1;
            self.news.send_modify(|_| {});
            return Ok(failure(StatusCode::FORBIDDEN, "Forbidden"));
        }
        let query = parts.uri.query().unwrap_or_default();
        let since = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="));
        if query.contains("watch=true") {
            let since = since.and_then(|since| since.parse().ok()).unwrap_or(0);
            let frames = StreamBody::new(self.watch(plural, since));
            return Ok(Response::new(frames.boxed_unsync()));
        }
        let state = self.state.lock().unwrap();
        let items: Vec<_> = state.objects.get(plural.as_str()).into_iter().collect();
        let list = json!({"kind": "List", "apiVersion": "v1", "items": items,
                          "metadata": {"resourceVersion": state.version.to_string()}});
        Ok(respond(StatusCode::OK, &list))
    }

    fn refuses(&self) -> bool {
        self.state.lock().unwrap().refuses
    }

    /// The next event after a version, and the version to go on from, if any.
    fn next(&self, plural: &str, since: u64) -> Option<(Option<u64>, Value)> {
        let state = self.state.lock().unwrap();
        if since < state.oldest {
            let expired = json!({"type": "ERROR", "object": status(410, "Expired")});
            return Some((None, expired));
        }
        let mut events = state.events.iter();
        let found = events.find(|(version, of, _)| *version > since && *of == plural)?;
        Some((Some(found.0), found.2.clone()))
    }

    /// The events after a version, for ever.
    fn watch(
        self,
        plural: String,
        since: u64,
    ) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> {
        let news = self.news.subscribe();
        let start = (self, plural, Some(since), news);
        stream::unfold(start, |(world, plural, since, mut news)| async move {
            let since = since?;
            let (seen, event) = loop {
                if world.refuses() {
                    return None;
                }
                if let Some(next) = world.next(&plural, since) {
                    break next;
                }
                news.changed().await.ok()?;
            };
            let line = Frame::data(Bytes::from(event.to_string() + "\n"));
            Some((Ok(line), (world, plural, seen, news)))
        })
    }
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
