//! An API server with one GatewayQueue, which answers writes only after `answer_all`.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

/// The API server. It ends with the test's runtime.
pub(crate) struct ApiServer {
    pub(crate) url: String,
    writes: mpsc::UnboundedReceiver<String>,
    answers: Arc<Semaphore>,
}

/// Its state, shared by the connections.
#[derive(Clone)]
struct Desk {
    writes: mpsc::UnboundedSender<String>,
    answers: Arc<Semaphore>,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, writes) = mpsc::unbounded_channel();
        let answers = Arc::new(Semaphore::new(0));
        let desk = Desk {
            writes: sender,
            answers: Arc::clone(&answers),
        };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let desk = desk.clone();
                let service = service_fn(move |request| desk.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Self {
            url,
            writes,
            answers,
        }
    }

    /// Waits for the next write and returns its path.
    pub(crate) async fn write(&mut self) -> String {
        self.writes.recv().await.unwrap()
    }

    /// Returns the path of the next write that has arrived, if any.
    pub(crate) fn written(&mut self) -> Option<String> {
        self.writes.try_recv().ok()
    }

    /// Answers all writes from now on.
    pub(crate) fn answer_all(&self) {
        self.answers.close();
    }
}

impl Desk {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if parts.method != Method::GET {
            let body = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes);
            self.writes.send(path.to_owned()).unwrap();
            // Closed by `answer_all`.
            let _ = self.answers.acquire().await;
            let mut object = serde_json::from_slice(&body.unwrap()).unwrap();
            if path.ends_with("/status") {
                object = queue();
            }
            object["metadata"]["uid"] = json!("0042");
            return Ok(respond(StatusCode::OK, &object));
        }
        if parts
            .uri
            .query()
            .is_some_and(|query| query.contains("watch=true"))
        {
            // Nothing ever happens.
            std::future::pending::<()>().await;
        }
        let items = match path.rsplit_once('/') {
            Some((_, "my-bot")) => {
                let absent = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                                    "reason": "NotFound", "message": "not found", "code": 404});
                return Ok(respond(StatusCode::NOT_FOUND, &absent));
            }
            Some((_, "gatewayqueues")) => vec![queue()],
            _ => Vec::new(),
        };
        let list = json!({"kind": "List", "apiVersion": "v1",
                          "metadata": {"resourceVersion": "1"}, "items": items});
        Ok(respond(StatusCode::OK, &list))
    }
}

fn queue() -> Value {
    json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1", "kind": "GatewayQueue",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 1},
        "spec": {},
    })
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response
}
