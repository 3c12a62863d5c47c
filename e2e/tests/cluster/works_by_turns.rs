//! Two operators: one works, and the other is ready to.
//!
//! After all other tests, since it takes away the operator whose log one of them
//! reads.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Api, DEPLOYMENT, LEASE, POD};
use crate::kubectl::{ELECTION, Namespace, OPERATOR, say, wait_for};

const PATIENCE: Duration = Duration::from_secs(90);

/// An operator that is told to end releases its Lease. The other looks every 5 s.
const HANDED_ON: Duration = Duration::from_secs(20);

/// One that is gone without a word has it for 15 s, and the other looks every 5 s.
const WAITED_OUT: Duration = Duration::from_secs(40);

#[test]
fn when_the_operator_that_works_goes_the_one_that_stands_by_takes_over() {
    let namespace = Namespace::alone("turns");
    let api = Api::new(&namespace);
    let _two = Two::operators(&api);
    let first = works(&api);
    let other = wait_for("an operator that stands by", PATIENCE, || {
        ready(&api).into_iter().find(|pod| *pod != first)
    });
    assert_eq!((turn(&api, &first), turn(&api, &other)), (Some(1), Some(0)));

    let handed_on = takeover(&api, &namespace, &first, "ended", &[]);
    assert_ne!(works(&api), first);
    let second = works(&api);
    wait_for("another one that stands by", PATIENCE, || {
        let mut others = ready(&api).into_iter();
        others.find(|pod| *pod != second && *pod != first)
    });
    let by_force = ["--grace-period=0", "--force"];
    let waited_out = takeover(&api, &namespace, &second, "killed", &by_force);
    say(&format!(
        "operators: the next works {:.1} s after one was told to end, and {:.1} s after one was killed",
        handed_on.as_secs_f64(),
        waited_out.as_secs_f64()
    ));
    assert!(handed_on < HANDED_ON, "{handed_on:?}");
    assert!(waited_out < WAITED_OUT, "{waited_out:?}");
}

/// Takes a pod away, and makes a GatewayQueue. After how long it had its children.
fn takeover(api: &Api, namespace: &Namespace, pod: &str, queue: &str, how: &[&str]) -> Duration {
    let started = Instant::now();
    let delete = [
        "--namespace",
        OPERATOR.0,
        "delete",
        "pod",
        pod,
        "--wait=false",
    ];
    namespace.kubectl(&[&delete[..], how].concat()).unwrap();
    let spec = json!({"replicas": 0});
    // By whichever of the two: the one that ends may still make it.
    wait_for("another operator that works", PATIENCE, || {
        (holder(api) != pod).then_some(())
    });
    api.apply_queue(namespace.name(), queue, &spec).unwrap();
    wait_for("the children of a new GatewayQueue", PATIENCE, || {
        api.get(DEPLOYMENT, namespace.name(), queue)
    });
    started.elapsed()
}

/// The pod that has the Lease of the operators of all namespaces. Its holder is named
/// with its namespace.
fn holder(api: &Api) -> String {
    let lease = api.get(LEASE, ELECTION.0, ELECTION.1).unwrap();
    let holder = lease["spec"]["holderIdentity"].as_str();
    let (_, pod) = holder
        .and_then(|holder| holder.split_once('/'))
        .unwrap_or_default();
    pod.to_owned()
}

/// The same, once it says itself that it works.
fn works(api: &Api) -> String {
    wait_for("an operator that works", PATIENCE, || {
        let holder = holder(api);
        (turn(api, &holder) == Some(1)).then_some(holder)
    })
}

/// What an operator says of itself: 1 when it works, 0 when it stands by.
fn turn(api: &Api, pod: &str) -> Option<u8> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}:8080/proxy/metrics",
        OPERATOR.0
    );
    let text = api.answer(&path)?;
    let mut lines = text.lines();
    let metric = "gateway_queue_operator_leader{scope=\"*\"} ";
    let leads = lines.find_map(|line| line.strip_prefix(metric))?;
    leads.parse().ok()
}

/// The operators' pods that are ready, and stay.
fn ready(api: &Api) -> Vec<String> {
    let pods = api.list(POD, OPERATOR.0);
    let stays = |pod: &&Value| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        pod["metadata"]["labels"]["app.kubernetes.io/instance"] == OPERATOR.1
            && pod["metadata"]["deletionTimestamp"].is_null()
            && conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let names = pods
        .iter()
        .filter(stays)
        .map(|pod| pod["metadata"]["name"].as_str());
    names.flatten().map(str::to_owned).collect()
}

/// As long as this lives there are two operators.
struct Two<'a>(&'a Api);

impl<'a> Two<'a> {
    fn operators(api: &'a Api) -> Self {
        let two = Self(api);
        two.scale(2);
        two
    }

    fn scale(&self, replicas: u8) {
        let scaled = json!({"spec": {"replicas": replicas}});
        // A failure shows where two are needed.
        let _ = self.0.merge(DEPLOYMENT, OPERATOR.0, OPERATOR.1, &scaled);
    }
}

impl Drop for Two<'_> {
    fn drop(&mut self) {
        self.scale(1);
    }
}
