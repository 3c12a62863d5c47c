//! With a mocked API server and tokio's paused clock.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::seen::MAX_LEASE;
use super::*;
use crate::readiness::Readiness;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases";

/// An API server that has one Lease, or none.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    /// The code of every response.
    fails: Option<u16>,
    hangs: bool,
    /// It executes writes and never answers them.
    mute: bool,
    /// Every write is a conflict.
    conflicts: bool,
    calls: Vec<Method>,
}

impl Server {
    fn answer(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let failure = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "" };
            let status = json!({"kind": "Status", "status": "Failure", "code": code,
                "message": "no", "reason": reason});
            (code, status)
        };
        assert!(path.starts_with(PATH), "{method} {path}");
        let mut state = self.0.lock().unwrap();
        state.calls.push(method.clone());
        if let Some(code) = state.fails {
            return failure(code);
        }
        if state.conflicts && *method != Method::GET {
            return failure(409);
        }
        state.version += 1;
        let version = json!(state.version.to_string());
        if *method == Method::POST {
            if state.lease.is_some() {
                return failure(409);
            }
            let mut new = body.clone();
            new["metadata"]["resourceVersion"] = version;
            return (201, state.lease.insert(new).clone());
        }
        let Some(lease) = &mut state.lease else {
            return failure(404);
        };
        if *method == Method::PATCH {
            if body["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                return failure(409);
            }
            for (field, value) in body["spec"].as_object().into_iter().flatten() {
                lease["spec"][field] = value.clone();
            }
            lease["metadata"]["resourceVersion"] = version;
        }
        (200, lease.clone())
    }

    /// Another client writes the Lease.
    fn put(&self, spec: Value) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        let version = state.version.to_string();
        let metadata = json!({"name": LEASE, "resourceVersion": version});
        state.lease = Some(json!({ "metadata": metadata, "spec": spec }));
    }

    fn fail(&self, code: Option<u16>) {
        self.0.lock().unwrap().fails = code;
    }

    fn hang(&self, hangs: bool) {
        self.0.lock().unwrap().hangs = hangs;
    }

    fn delete(&self) {
        self.0.lock().unwrap().lease = None;
    }

    fn holder(&self) -> Value {
        let state = self.0.lock().unwrap();
        let lease = state.lease.as_ref().expect("there is no Lease");
        lease["spec"]["holderIdentity"].clone()
    }

    fn take_calls(&self) -> Vec<Method> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }
}

/// An operator that takes part in the election.
struct Operator {
    leading: watch::Receiver<bool>,
    has_leader: Gauge,
    readiness: Readiness,
    stop: CancellationToken,
    standing: JoinHandle<()>,
}

impl Operator {
    fn of(server: &Server) -> Self {
        Self::named(server, "operator-1")
    }

    fn named(server: &Server, identity: &str) -> Self {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let server = server.clone();
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some((request, send)) = handle.next_request().await {
                if server.0.lock().unwrap().hangs {
                    unanswered.push(send);
                    continue;
                }
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, body) = server.answer(&parts.method, parts.uri.path(), &body);
                if server.0.lock().unwrap().mute && parts.method != Method::GET {
                    unanswered.push(send);
                    continue;
                }
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                send.send_response(Response::builder().status(code).body(body).unwrap());
            }
        });
        let candidacy = Candidacy {
            namespace: "system".to_owned(),
            lease: LEASE,
            identity: identity.to_owned(),
        };
        let (leads, leading) = watch::channel(false);
        let (stop, has_leader) = (CancellationToken::new(), Gauge::default());
        let client = Client::new(service, "default");
        let mut readiness = Readiness::of(Arc::default());
        let health = readiness.add("*");
        health.filled();
        let publish = Publish {
            leads,
            has_leader: has_leader.clone(),
            health,
        };
        let standing = tokio::spawn(run(client, candidacy, publish, stop.clone()));
        Self {
            leading,
            has_leader,
            readiness,
            stop,
            standing,
        }
    }

    fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    fn is_ready(&self) -> bool {
        self.readiness.check(now()).is_ok()
    }

    fn has_leader(&self) -> bool {
        self.has_leader.get() == 1
    }

    /// Waits until it is the leader, or on standby. Returns the time that took.
    async fn until(&mut self, leads: bool) -> Duration {
        let (limit, start) = (Duration::from_secs(600), now());
        let turned = tokio::time::timeout(limit, self.leading.wait_for(|now| *now == leads));
        let has_turned = matches!(turned.await, Ok(Ok(_)));
        assert!(has_turned, "leads is never {leads}");
        now().saturating_duration_since(start)
    }

    async fn end(self) {
        self.stop.cancel();
        self.standing.await.unwrap();
    }

    /// It ends without a release.
    fn kill(self) {
        self.standing.abort();
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_lease_is_created_and_released_in_the_end() {
    let server = Server::default();
    let mut operator = Operator::of(&server);
    operator.until(true).await;
    assert_eq!(server.holder(), "operator-1");
    operator.end().await;
    assert_eq!(server.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_its_lease_stops_and_leads_again_later() {
    let server = Server::default();
    let mut operator = Operator::of(&server);
    operator.until(true).await;
    server.fail(Some(500));
    let stopped = operator.until(false).await;
    assert!(stopped <= RENEW_DEADLINE, "{stopped:?}");
    // However long the outage.
    pass(3600).await;
    server.fail(None);
    let back = operator.until(true).await;
    assert!(back <= RETRY, "{back:?}");
    operator.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_renewals_hang_stops_before_another_may_lead() {
    let server = Server::default();
    let mut operator = Operator::of(&server);
    operator.until(true).await;
    server.hang(true);
    let stopped = operator.until(false).await;
    assert!(stopped < Duration::from_secs(15), "{stopped:?}");
    server.hang(false);
    operator.until(true).await;
    operator.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_created_again() {
    let server = Server::default();
    let mut operator = Operator::of(&server);
    operator.until(true).await;
    server.delete();
    pass(10).await;
    assert_eq!(server.holder(), "operator-1");
    assert!(operator.leads());
    operator.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_operators_one_leads_and_the_other_takes_over_when_it_stops() {
    let server = Server::default();
    let mut first = Operator::named(&server, "first");
    first.until(true).await;
    let mut second = Operator::named(&server, "second");
    pass(600).await;
    assert_eq!((first.leads(), second.leads()), (true, false));
    first.end().await;
    let handed_on = second.until(true).await;
    assert!(handed_on <= RENEW_INTERVAL, "{handed_on:?}");
    assert_eq!(server.holder(), "second");

    let mut third = Operator::named(&server, "third");
    pass(60).await;
    second.kill();
    let waited_out = third.until(true).await;
    let range = Duration::from_secs(10)..=Duration::from_secs(21);
    assert!(range.contains(&waited_out), "{waited_out:?}");
    third.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_on_standby_knows_of_a_leader_while_it_can_read_the_lease() {
    let server = Server::default();
    let mut first = Operator::named(&server, "first");
    assert!(!first.has_leader());
    first.until(true).await;
    let second = Operator::named(&server, "second");
    pass(60).await;
    assert_eq!((first.leads(), second.leads()), (true, false));
    assert!(first.has_leader() && second.has_leader());
    server.fail(Some(500));
    pass(60).await;
    assert!(!first.has_leader() && !second.has_leader());
    server.fail(None);
    pass(60).await;
    assert!(first.has_leader() && second.has_leader());
}

#[tokio::test(start_paused = true)]
async fn two_that_start_together_are_never_both_the_leader() {
    let server = Server::default();
    let (first, second) = (Operator::named(&server, "a"), Operator::named(&server, "b"));
    for _ in 0..100 {
        pass(1).await;
        assert!(!(first.leads() && second.leads()));
    }
    assert!(first.leads() || second.leads());
}

#[tokio::test(start_paused = true)]
async fn a_leader_makes_one_call_for_each_renewal() {
    let server = Server::default();
    let mut operator = Operator::of(&server);
    operator.until(true).await;
    server.take_calls();
    pass(60).await;
    let calls = server.take_calls();
    assert!(calls.iter().all(|method| *method == Method::PATCH));
    assert!((12..=17).contains(&calls.len()), "{calls:?}");
    operator.end().await;
}

#[tokio::test(start_paused = true)]
async fn any_values_in_the_lease_are_waited_out_for_at_most_a_minute() {
    let values = [
        json!(null),
        json!(-1),
        json!(0),
        json!(i32::MIN),
        json!(i32::MAX),
    ];
    for duration in &values {
        for time in [
            json!(null),
            json!("9999-12-30T21:58:00.000000Z"),
            json!("0001-01-01T00:00:00.000000Z"),
        ] {
            let server = Server::default();
            server.put(json!({
                "holderIdentity": "gone", "leaseDurationSeconds": duration,
                "renewTime": time, "acquireTime": time, "leaseTransitions": duration,
            }));
            let mut operator = Operator::of(&server);
            let waited = operator.until(true).await;
            assert!(
                waited <= MAX_LEASE + RENEW_INTERVAL,
                "{duration} {time}: {waited:?}"
            );
            assert_eq!(server.holder(), "operator-1");
            operator.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_lease_is_retried() {
    let server = Server::default();
    server.put(json!({"holderIdentity": 7}));
    let mut operator = Operator::of(&server);
    pass(60).await;
    assert!(!operator.leads());
    server.put(json!({}));
    operator.until(true).await;
    operator.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_is_not_ready_after_its_lease_was_rejected_for_two_minutes() {
    for code in [403, 404] {
        let server = Server::default();
        server.fail(Some(code));
        let mut operator = Operator::of(&server);
        pass(10).await;
        assert!(!operator.is_ready(), "{code}: it has never succeeded");
        server.fail(None);
        operator.until(true).await;
        assert!(operator.is_ready(), "{code}");
        server.fail(Some(code));
        pass(110).await;
        assert!(operator.is_ready(), "{code}");
        pass(30).await;
        assert!(!operator.is_ready(), "{code}");
        server.fail(None);
        operator.until(true).await;
        assert!(operator.is_ready(), "{code}");
        operator.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_on_standby_is_ready() {
    let server = Server::default();
    let mut first = Operator::named(&server, "first");
    first.until(true).await;
    let second = Operator::named(&server, "second");
    for _ in 0..600 {
        pass(1).await;
        assert!(first.is_ready() && second.is_ready());
    }
    assert!(!second.leads());
}

#[tokio::test(start_paused = true)]
async fn rejections_are_retried_less_and_less_often_and_outages_every_two_seconds() {
    for (code, expected) in [(403, 20..50), (500, 250..500)] {
        let server = Server::default();
        server.fail(Some(code));
        let mut operator = Operator::of(&server);
        pass(600).await;
        let calls = server.take_calls().len();
        assert!(expected.contains(&calls), "{code}: {calls}");
        server.fail(None);
        let back = operator.until(true).await;
        assert!(back <= MAX_PAUSE, "{code}: {back:?}");
        operator.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_retried_less_and_less_often() {
    let server = Server::default();
    server.put(json!({}));
    server.0.lock().unwrap().conflicts = true;
    let mut operator = Operator::of(&server);
    pass(600).await;
    let calls = server.take_calls().len();
    assert!((40..100).contains(&calls), "{calls}");
    assert!(!operator.is_ready());
    server.0.lock().unwrap().conflicts = false;
    operator.until(true).await;
    operator.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_with_conflicts_knows_no_leader_and_acquires_an_expired_lease() {
    let server = Server::default();
    let mut first = Operator::named(&server, "first");
    first.until(true).await;
    let mut second = Operator::named(&server, "second");
    pass(30).await;
    assert!(second.has_leader());
    server.0.lock().unwrap().conflicts = true;
    first.until(false).await;
    assert!(!first.has_leader());
    pass(60).await;
    assert!(!first.leads() && !second.leads() && !second.has_leader());
    // Otherwise either of the two may be faster.
    first.kill();
    server.0.lock().unwrap().conflicts = false;
    let limit = Duration::from_secs(60);
    let took = tokio::time::timeout(limit, second.until(true)).await;
    took.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_released_even_after_a_write_that_timed_out() {
    for write in [Method::POST, Method::PATCH] {
        let server = Server::default();
        let mute = |mute| server.0.lock().unwrap().mute = mute;
        mute(write == Method::POST);
        let mut operator = Operator::of(&server);
        if write == Method::PATCH {
            operator.until(true).await;
            mute(true);
        }
        while !server.take_calls().contains(&write) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.holder(), "operator-1");
        mute(false);
        operator.end().await;
        assert_eq!(server.holder(), "", "{write}");
    }
}
