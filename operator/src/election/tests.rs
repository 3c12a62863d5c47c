//! With a mocked API server, and a clock of tokio that is paused: what waits in
//! between takes no time. The library reads the wall clock besides.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases";

/// An API server that has one Lease, or none.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    fails: Arc<Mutex<bool>>,
}

impl Server {
    fn answer(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let failure = |code: u16| {
            let status = json!({"kind": "Status", "status": "Failure", "code": code,
                "message": "no", "reason": ""});
            (code, status)
        };
        assert!(path.starts_with(PATH), "{method} {path}");
        if *self.fails.lock().unwrap() {
            return failure(500);
        }
        let mut lease = self.lease.lock().unwrap();
        if *method == Method::POST {
            let new = json!({"metadata": {"name": "operator"}, "spec": {}});
            return (201, lease.insert(new).clone());
        }
        let Some(lease) = &mut *lease else {
            return failure(404);
        };
        for (field, value) in body["spec"].as_object().into_iter().flatten() {
            lease["spec"][field] = value.clone();
        }
        (200, lease.clone())
    }

    fn holder(&self) -> Value {
        let lease = self.lease.lock().unwrap();
        let lease = lease.as_ref().expect("there is no Lease");
        lease["spec"]["holderIdentity"].clone()
    }
}

/// An operator that takes part in the election.
struct Operator {
    turn: watch::Receiver<bool>,
    stop: CancellationToken,
    standing: JoinHandle<()>,
}

impl Operator {
    fn of(server: &Server) -> Self {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let server = server.clone();
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, body) = server.answer(&parts.method, parts.uri.path(), &body);
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                send.send_response(Response::builder().status(code).body(body).unwrap());
            }
        });
        let candidacy = Candidacy {
            namespace: "system".to_owned(),
            lease: "operator".to_owned(),
            identity: "operator-1".to_owned(),
        };
        let (works, turn) = watch::channel(false);
        let stop = CancellationToken::new();
        let client = Client::new(service, "default");
        let standing = tokio::spawn(stand(client, candidacy, works, stop.clone()));
        Self {
            turn,
            stop,
            standing,
        }
    }

    /// Waits until it works, or stands by.
    async fn until(&mut self, works: bool) {
        let limit = Duration::from_secs(600);
        let turned = tokio::time::timeout(limit, self.turn.wait_for(|now| *now == works));
        let turned = turned.await;
        assert!(turned.is_ok(), "it never came to works = {works}");
    }

    async fn end(self) {
        self.stop.cancel();
        self.standing.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_has_is_made_and_taken_and_released_in_the_end() {
    let server = Server::default();
    let mut operator = Operator::of(&server);
    operator.until(true).await;
    assert_eq!(server.holder(), "operator-1");
    operator.end().await;
    assert_eq!(server.holder(), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_cannot_renew_its_lease_stands_by_and_comes_back() {
    let server = Server::default();
    let mut operator = Operator::of(&server);
    operator.until(true).await;
    *server.fails.lock().unwrap() = true;
    operator.until(false).await;
    *server.fails.lock().unwrap() = false;
    operator.until(true).await;
    operator.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deleted_is_made_again() {
    let server = Server::default();
    let mut operator = Operator::of(&server);
    operator.until(true).await;
    *server.lease.lock().unwrap() = None;
    operator.until(false).await;
    operator.until(true).await;
    assert_eq!(server.holder(), "operator-1");
    operator.end().await;
}
