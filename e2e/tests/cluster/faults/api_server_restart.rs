//! The API server restarts while many GatewayQueues are created and changed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::node::Outage;
use crate::api::{Api, QUEUE};
use crate::children::Children;
use crate::fields::value_at;
use crate::kubectl::{Namespace, say};
use crate::operator_process::starts;
use crate::schedule::Phase;
use crate::wait::{settle, wait_for, wait_until};

const QUEUES: usize = 50;

/// The API server is killed after this many applies.
const BEFORE: usize = 60;

/// The operator retries after a few seconds, and then each controller.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn after_a_restart_of_the_api_server_under_load_all_queues_converge() {
    let namespace = Namespace::in_phase("under-load", Phase::Restart);
    let api = Api::new();
    let operator = starts(&api);
    let applied = AtomicUsize::new(0);
    let down_for = thread::scope(|scope| {
        scope.spawn(|| {
            // Each is created, and then changed.
            for round in 0..2 {
                for number in 0..QUEUES {
                    apply(&api, namespace.name(), number, round);
                    applied.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        wait_until("the first applies", PATIENCE, || {
            applied.load(Ordering::Relaxed) >= BEFORE
        });
        let killed = Instant::now();
        let outage = Outage::begin();
        outage.end();
        killed.elapsed()
    });
    assert_eq!(applied.load(Ordering::Relaxed), 2 * QUEUES);
    let took = settle(PATIENCE, || {
        let children = Children::of(&api, namespace.name());
        let queues = api.list(QUEUE, namespace.name());
        assert_eq!(queues.len(), QUEUES);
        let behind = queues.iter().filter_map(|queue| behind(queue, &children));
        behind.collect::<Vec<_>>()
    });
    say(&format!(
        "API server restarted under load: down for {:.1} s, {QUEUES} queues converged {:.1} s after \
         the last apply",
        down_for.as_secs_f64(),
        took.as_secs_f64(),
    ));
    assert_eq!(starts(&api), operator, "the operator restarted");
}

/// Applies a GatewayQueue, and retries until the API server accepts it.
fn apply(api: &Api, namespace: &str, number: usize, round: usize) {
    let spec = json!({"replicas": 0, "sessionReserve": reserve(number, round)});
    wait_for("the API server to accept a spec", PATIENCE, || {
        api.apply_queue(namespace, &name(number), &spec).ok()
    });
}

fn name(number: usize) -> String {
    format!("q-{number}")
}

fn reserve(number: usize, round: usize) -> usize {
    number + round * 1000
}

/// Describes a GatewayQueue that has not converged.
fn behind(queue: &Value, children: &Children) -> Option<String> {
    let name = queue["metadata"]["name"].as_str().unwrap();
    let number: usize = name.trim_start_matches("q-").parse().unwrap();
    let count = children.named(name).count();
    let value = value_at(children, name, "env SESSION_RESERVE");
    let wanted = json!(reserve(number, 1).to_string());
    let observed = &queue["status"]["observedGeneration"];
    let current = *observed == queue["metadata"]["generation"];
    (count != 6 || value != wanted || !current)
        .then(|| format!("{name}: {count} children, {value}, status of generation {observed}"))
}
