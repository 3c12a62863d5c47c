//! With a mocked API server and tokio's paused clock.

use std::sync::{Arc, Mutex, MutexGuard};

use http::Method;
use http::request::Parts;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::seen::MAX_LEASE;
use super::*;
use crate::readiness::Readiness;
use crate::testing::{failure, mock_client};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases";

/// An API server that has one Lease, or none.
#[derive(Default)]
struct ApiServer {
    lease: Option<Value>,
    version: u64,
    /// The code of every response.
    fails: Option<u16>,
    /// It neither executes nor answers requests.
    hangs: bool,
    /// It executes writes and never answers them.
    mute: bool,
    /// Every write is a conflict.
    conflicts: bool,
    calls: Vec<Method>,
}

impl ApiServer {
    fn answer(&mut self, parts: &Parts, body: &Value) -> Option<(u16, Value)> {
        if self.hangs {
            return None;
        }
        let (method, path) = (&parts.method, parts.uri.path());
        assert!(path.starts_with(PATH), "{method} {path}");
        self.calls.push(method.clone());
        let response = self.respond(method, body);
        (!self.mute || *method == Method::GET).then_some(response)
    }

    fn respond(&mut self, method: &Method, body: &Value) -> (u16, Value) {
        if let Some(code) = self.fails {
            return failure(code, "no");
        }
        if self.conflicts && *method != Method::GET {
            return failure(409, "no");
        }
        self.version += 1;
        let version = json!(self.version.to_string());
        if *method == Method::POST {
            if self.lease.is_some() {
                return failure(409, "no");
            }
            let mut new = body.clone();
            new["metadata"]["resourceVersion"] = version;
            return (201, self.lease.insert(new).clone());
        }
        let Some(lease) = &mut self.lease else {
            return failure(404, "no");
        };
        if *method == Method::PATCH {
            if body["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                return failure(409, "no");
            }
            for (field, value) in body["spec"].as_object().into_iter().flatten() {
                lease["spec"][field] = value.clone();
            }
            lease["metadata"]["resourceVersion"] = version;
        }
        (200, lease.clone())
    }

    /// Another client writes the Lease.
    fn put(&mut self, spec: Value) {
        self.version += 1;
        let metadata = json!({"name": LEASE, "resourceVersion": self.version.to_string()});
        self.lease = Some(json!({ "metadata": metadata, "spec": spec }));
    }

    fn holder(&self) -> Value {
        let lease = self.lease.as_ref().expect("there is no Lease");
        lease["spec"]["holderIdentity"].clone()
    }

    fn take_calls(&mut self) -> Vec<Method> {
        std::mem::take(&mut self.calls)
    }
}

/// An operator that takes part in the election.
struct Operator {
    server: Arc<Mutex<ApiServer>>,
    leading: watch::Receiver<bool>,
    has_leader: Gauge,
    readiness: Readiness,
    stop: CancellationToken,
    /// Ends without a release when it is dropped.
    running: AbortOnDropHandle<()>,
}

impl Operator {
    /// The first operator of a scope whose API server is set up by `set_up`.
    fn with(set_up: impl FnOnce(&mut ApiServer)) -> Self {
        let mut server = ApiServer::default();
        set_up(&mut server);
        Self::named("operator-1", Arc::new(Mutex::new(server)))
    }

    /// The only operator of a scope, which is the leader.
    async fn leading() -> Self {
        let mut operator = Self::with(|_| {});
        operator.until(true).await;
        operator
    }

    /// Another operator of the same scope.
    fn join(&self, identity: &str) -> Self {
        Self::named(identity, Arc::clone(&self.server))
    }

    fn named(identity: &str, server: Arc<Mutex<ApiServer>>) -> Self {
        let shared = Arc::clone(&server);
        let client = mock_client(move |parts, body| shared.lock().unwrap().answer(parts, &body));
        let candidacy = Candidacy {
            namespace: "system".to_owned(),
            lease: LEASE,
            identity: identity.to_owned(),
        };
        let (leads, leading) = watch::channel(false);
        let (stop, has_leader) = (CancellationToken::new(), Gauge::default());
        let mut readiness = Readiness::of(Arc::default());
        let health = readiness.add("*");
        health.filled();
        let publish = Publish {
            leads,
            has_leader: has_leader.clone(),
            health,
        };
        let running = tokio::spawn(run(client, candidacy, publish, stop.clone()));
        Self {
            server,
            leading,
            has_leader,
            readiness,
            stop,
            running: AbortOnDropHandle::new(running),
        }
    }

    fn server(&self) -> MutexGuard<'_, ApiServer> {
        self.server.lock().unwrap()
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
        let changed = self.leading.wait_for(|now| *now == leads);
        let is_reached = matches!(tokio::time::timeout(limit, changed).await, Ok(Ok(_)));
        assert!(is_reached, "leads is never {leads}");
        now().saturating_duration_since(start)
    }

    /// Stops it. Returns the holder that it leaves in the Lease.
    async fn end(self) -> Value {
        self.stop.cancel();
        self.running.await.unwrap();
        let server = self.server.lock().unwrap();
        server.holder()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_its_lease_stops_and_leads_again_later() {
    let mut operator = Operator::leading().await;
    operator.server().fails = Some(500);
    let stopped = operator.until(false).await;
    assert!(stopped <= RENEW_DEADLINE, "{stopped:?}");
    // However long the outage.
    pass(3600).await;
    operator.server().fails = None;
    let back = operator.until(true).await;
    assert!(back <= RETRY, "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_renewals_hang_stops_before_another_may_lead() {
    let mut operator = Operator::leading().await;
    operator.server().hangs = true;
    let stopped = operator.until(false).await;
    assert!(stopped < Duration::from_secs(15), "{stopped:?}");
    operator.server().hangs = false;
    operator.until(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_created_again() {
    let operator = Operator::leading().await;
    operator.server().lease = None;
    pass(10).await;
    assert_eq!(operator.server().holder(), "operator-1");
    assert!(operator.leads());
}

#[tokio::test(start_paused = true)]
async fn of_two_operators_one_leads_and_the_other_takes_over_when_it_stops() {
    let first = Operator::leading().await;
    assert_eq!(first.server().holder(), "operator-1");
    let mut second = first.join("second");
    for _ in 0..600 {
        pass(1).await;
        assert_eq!((first.leads(), second.leads()), (true, false));
        assert!(first.is_ready() && second.is_ready());
    }
    assert_eq!(first.end().await, "");
    let handed_on = second.until(true).await;
    assert!(handed_on <= RENEW_INTERVAL, "{handed_on:?}");
    assert_eq!(second.server().holder(), "second");

    let mut third = second.join("third");
    pass(60).await;
    drop(second);
    let waited_out = third.until(true).await;
    let range = Duration::from_secs(10)..=Duration::from_secs(21);
    assert!(range.contains(&waited_out), "{waited_out:?}");
}

#[tokio::test(start_paused = true)]
async fn an_operator_on_standby_knows_of_a_leader_while_it_can_read_the_lease() {
    let first = Operator::leading().await;
    let second = first.join("second");
    pass(60).await;
    assert_eq!((first.leads(), second.leads()), (true, false));
    assert!(first.has_leader() && second.has_leader());
    first.server().fails = Some(500);
    pass(60).await;
    assert!(!first.has_leader() && !second.has_leader());
    first.server().fails = None;
    pass(60).await;
    assert!(first.has_leader() && second.has_leader());
}

#[tokio::test(start_paused = true)]
async fn two_that_start_together_are_never_both_the_leader() {
    let first = Operator::with(|_| {});
    let second = first.join("operator-2");
    for _ in 0..100 {
        pass(1).await;
        assert!(!(first.leads() && second.leads()));
    }
    assert!(first.leads() || second.leads());
}

#[tokio::test(start_paused = true)]
async fn a_leader_makes_one_call_for_each_renewal() {
    let operator = Operator::leading().await;
    operator.server().take_calls();
    pass(60).await;
    let calls = operator.server().take_calls();
    assert!(calls.iter().all(|method| *method == Method::PATCH));
    assert!((12..=17).contains(&calls.len()), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn any_values_in_the_lease_are_waited_out_for_at_most_a_minute() {
    for duration in [None, Some(-1), Some(0), Some(i32::MIN), Some(i32::MAX)] {
        for time in [
            None,
            Some("9999-12-30T21:58:00.000000Z"),
            Some("0001-01-01T00:00:00.000000Z"),
        ] {
            let spec = json!({
                "holderIdentity": "gone", "leaseDurationSeconds": duration,
                "renewTime": time, "acquireTime": time, "leaseTransitions": duration,
            });
            let mut operator = Operator::with(|server| server.put(spec));
            let waited = operator.until(true).await;
            assert!(
                waited <= MAX_LEASE + RENEW_INTERVAL,
                "{duration:?} {time:?}: {waited:?}"
            );
            assert_eq!(operator.server().holder(), "operator-1");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_lease_is_retried() {
    let mut operator = Operator::with(|server| server.put(json!({"holderIdentity": 7})));
    pass(60).await;
    assert!(!operator.leads());
    operator.server().put(json!({}));
    operator.until(true).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_is_not_ready_after_its_lease_was_rejected_for_two_minutes() {
    for code in [403, 404] {
        let mut operator = Operator::with(|server| server.fails = Some(code));
        pass(10).await;
        assert!(!operator.is_ready(), "{code}: it has never succeeded");
        operator.server().fails = None;
        operator.until(true).await;
        assert!(operator.is_ready(), "{code}");
        operator.server().fails = Some(code);
        pass(110).await;
        assert!(operator.is_ready(), "{code}");
        pass(30).await;
        assert!(!operator.is_ready(), "{code}");
        operator.server().fails = None;
        operator.until(true).await;
        assert!(operator.is_ready(), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn rejections_are_retried_less_and_less_often_and_outages_every_two_seconds() {
    for (code, expected) in [(403, 20..50), (500, 250..500)] {
        let mut operator = Operator::with(|server| server.fails = Some(code));
        pass(600).await;
        let calls = operator.server().take_calls().len();
        assert!(expected.contains(&calls), "{code}: {calls}");
        operator.server().fails = None;
        let back = operator.until(true).await;
        assert!(back <= MAX_PAUSE, "{code}: {back:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_retried_less_and_less_often() {
    let mut operator = Operator::with(|server| {
        server.put(json!({}));
        server.conflicts = true;
    });
    pass(600).await;
    let calls = operator.server().take_calls().len();
    assert!((40..100).contains(&calls), "{calls}");
    assert!(!operator.is_ready());
    operator.server().conflicts = false;
    operator.until(true).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_with_conflicts_knows_no_leader_and_acquires_an_expired_lease() {
    let mut first = Operator::leading().await;
    let mut second = first.join("second");
    pass(30).await;
    assert!(second.has_leader());
    first.server().conflicts = true;
    first.until(false).await;
    assert!(!first.has_leader());
    pass(60).await;
    assert!(!first.leads() && !second.leads() && !second.has_leader());
    // Otherwise either of the two may be faster.
    drop(first);
    second.server().conflicts = false;
    let took = second.until(true).await;
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_released_even_after_a_write_that_timed_out() {
    for write in [Method::POST, Method::PATCH] {
        let mut operator = Operator::with(|server| server.mute = write == Method::POST);
        if write == Method::PATCH {
            operator.until(true).await;
            operator.server().mute = true;
        }
        while !operator.server().take_calls().contains(&write) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(operator.server().holder(), "operator-1");
        operator.server().mute = false;
        assert_eq!(operator.end().await, "", "{write}");
    }
}
