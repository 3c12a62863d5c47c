//! The API server is killed and comes back while many GatewayQueues are made and
//! changed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Api, POD, QUEUE};
use crate::children::{Children, settle};
use crate::faults::node::Down;
use crate::kubectl::{Namespace, OPERATOR, say, wait_for};

const QUEUES: usize = 50;

/// The API server goes when so many calls of the person have been taken.
const BEFORE: usize = 60;

/// The operator tries again after a few seconds, and each controller in its turn.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn when_the_api_server_restarts_under_load_all_queues_converge_and_the_operator_stays() {
    let namespace = Namespace::alone("under-load");
    let api = Api::new(&namespace);
    let operator = starts(&api);
    let taken = AtomicUsize::new(0);
    let down_for = thread::scope(|scope| {
        scope.spawn(|| {
            // Made, and changed at once, one after the other.
            for turn in 0..2 {
                for number in 0..QUEUES {
                    stubborn(&api, namespace.name(), number, turn);
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        wait_for("half of the calls", PATIENCE, || {
            (taken.load(Ordering::Relaxed) >= BEFORE).then_some(())
        });
        let killed = Instant::now();
        let down = Down::take(&namespace);
        down.back(&namespace);
        killed.elapsed()
    });
    assert_eq!(taken.load(Ordering::Relaxed), 2 * QUEUES);
    let took = settle(PATIENCE, || {
        let children = Children::of(&api, namespace.name());
        let queues = api.list(QUEUE, namespace.name());
        assert_eq!(queues.len(), QUEUES);
        let behind = queues.iter().filter_map(|queue| behind(queue, &children));
        behind.collect()
    });
    say(&format!(
        "API server restarted under load: away for {:.1} s, {QUEUES} queues converged {:.1} s after \
         the last call",
        down_for.as_secs_f64(),
        took.as_secs_f64(),
    ));
    assert_eq!(starts(&api), operator, "the operator was started again");
}

/// Applies a GatewayQueue until the API server has it.
fn stubborn(api: &Api, namespace: &str, number: usize, turn: usize) {
    let spec = json!({"replicas": 0, "sessionReserve": reserve(number, turn)});
    wait_for("the API server to take a spec", PATIENCE, || {
        api.apply_queue(namespace, &name(number), &spec).ok()
    });
}

fn name(number: usize) -> String {
    format!("q-{number}")
}

fn reserve(number: usize, turn: usize) -> usize {
    number + turn * 1000
}

/// What is not yet as the last spec says.
fn behind(queue: &Value, children: &Children) -> Option<String> {
    let name = queue["metadata"]["name"].as_str().unwrap();
    let number: usize = name.trim_start_matches("q-").parse().unwrap();
    let count = children.named(name).count();
    let env = "/spec/template/spec/containers/0/env";
    let deployment = children.get("Deployment", name);
    let env = deployment.and_then(|deployment| deployment.pointer(env)?.as_array());
    let mut env = env.into_iter().flatten();
    let told = env.find(|entry| entry["name"] == "SESSION_RESERVE");
    let told = told.map(|entry| entry["value"].clone());
    let wanted = json!(reserve(number, 1).to_string());
    let observed = &queue["status"]["observedGeneration"];
    let current = *observed == queue["metadata"]["generation"];
    (count != 6 || told.as_ref() != Some(&wanted) || !current)
        .then(|| format!("{name}: {count} children, {told:?}, status of generation {observed}"))
}

/// The operator's pods, and how often each was started.
fn starts(api: &Api) -> Vec<(Value, Value)> {
    let pods = api.list(POD, OPERATOR.0).into_iter();
    let mut starts: Vec<_> = pods
        .filter(|pod| pod["status"]["phase"] == "Running")
        .map(|pod| {
            let name = pod["metadata"]["name"].clone();
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
            (name, restarts)
        })
        .collect();
    starts.sort_by_key(|(name, _)| name.to_string());
    assert!(!starts.is_empty(), "the operator does not run");
    starts
}
