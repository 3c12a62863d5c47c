//! How long a queue of two pods has no leader in a rollout.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Api, DEPLOYMENT, LEASE, POD, QUEUE};
use crate::figures::{document, percentile};
use crate::gateway_queues::session_reserve;
use crate::kubectl::{Namespace, say};
use crate::lines::Lines;
use crate::schedule::Phase;
use crate::wait::settle;

const ROLLOUTS: usize = 30;

const NAME: &str = "my-bot";

/// Two pods start and two end.
const PATIENCE: Duration = Duration::from_secs(180);

/// A change of leadership, by the clock of the machine of all pods.
#[derive(Debug)]
struct Change {
    at: Timestamp,
    /// The new leader; none if there was one before.
    leader: Option<String>,
}

pub(crate) fn measure(rounds: usize) -> Value {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut times = round();
        p50.push(percentile(&mut times, 0.5));
        p99.push(percentile(&mut times, 0.99));
    }
    document([(p50, Vec::new()), (p99, Vec::new())])
}

/// Returns the time without a leader in each rollout, in milliseconds.
fn round() -> Vec<f64> {
    let namespace = Namespace::in_phase("rollout-bench", Phase::Timing);
    let api = Api::new();
    let spec = json!({"replicas": 2, "maxConcurrency": 1, "logFormat": "json"});
    api.apply_queue(namespace.name(), NAME, &spec).unwrap();
    namespace.wait_until_ready(NAME);
    let mut logs = BTreeMap::new();
    let mut changes = Vec::new();
    let mut times = Vec::new();
    for number in 0..=ROLLOUTS {
        settle(PATIENCE, || {
            let pods = follow(&api, namespace.name(), &mut logs);
            let lines = logs.values().flat_map(Lines::printed);
            changes.extend(lines.filter_map(|line| change(&line)));
            changes.sort_by_key(|change: &Change| change.at);
            unfinished(&api, namespace.name(), &number.to_string(), &pods, &changes)
        });
        if number > 0 {
            let time = without_leader(&changes);
            say(&format!("rollout {number}: {time:.3} ms without a leader"));
            times.push(time);
        }
        changes.clear();
        let next = json!({"spec": {"sessionReserve": number + 1}});
        api.patch(QUEUE, namespace.name(), NAME, &next).unwrap();
    }
    times
}

/// Follows the log of each running pod that is not followed yet. Returns the names of all pods.
fn follow(api: &Api, namespace: &str, logs: &mut BTreeMap<String, Lines>) -> Vec<String> {
    let pods = api.list(POD, namespace);
    let pods = pods.iter().map(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        if pod["status"]["phase"] == "Running" {
            let follow = || Lines::of(&format!("--namespace {namespace} logs --follow {name}"));
            logs.entry(name.clone()).or_insert_with(follow);
        }
        name
    });
    pods.collect()
}

/// Returns what is not as it is after the rollout of this session reserve, including its log lines.
fn unfinished(
    api: &Api,
    namespace: &str,
    reserve: &str,
    pods: &[String],
    changes: &[Change],
) -> Option<String> {
    let deployment = api
        .get(DEPLOYMENT, namespace, &DEPLOYMENT.child_of(NAME))
        .unwrap();
    let lease = api.get(LEASE, namespace, &LEASE.child_of(NAME)).unwrap();
    let status = &deployment["status"];
    let counts = ["replicas", "updatedReplicas", "availableReplicas"].map(|count| &status[count]);
    let is_new = session_reserve(&deployment) == reserve
        && status["observedGeneration"] == deployment["metadata"]["generation"];
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let is_led = pods.iter().any(|pod| holder.starts_with(pod));
    let last = changes.last().and_then(|change| change.leader.as_deref());
    let is_read = last == Some(holder) && (changes.len() == 1 || changes.len().is_multiple_of(2));
    let is_done = is_new && is_led && pods.len() == 2 && counts.iter().all(|count| **count == 2);
    (!is_done || !is_read).then(|| format!("{pods:?}, {status}, leader {holder:?}, {changes:?}"))
}

fn change(line: &str) -> Option<Change> {
    let line: Value = serde_json::from_str(line).ok()?;
    let leader = match line["message"].as_str()? {
        "no longer the leader" => None,
        "became the leader" => Some(line["holder"].as_str()?.to_owned()),
        _ => return None,
    };
    let at = line["timestamp"].as_str()?.parse().ok()?;
    Some(Change { at, leader })
}

/// Returns the sum of the times from the end of a term to the begin of the next one, in
/// milliseconds.
fn without_leader(changes: &[Change]) -> f64 {
    let times = changes.chunks(2).map(|pair| match pair {
        [lost, became] if lost.leader.is_none() && became.leader.is_some() => {
            became.at.duration_since(lost.at).as_secs_f64() * 1000.0
        }
        _ => panic!("not one leader after the other: {changes:#?}"),
    });
    times.sum()
}
