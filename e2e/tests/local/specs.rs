//! The operator computes the children of every GatewayQueue that the schema accepts.

use std::collections::BTreeSet;

use fastrand::Rng;
use gateway_queue_e2e::specs::Schema;
use gateway_queue_operator::api::{Stored, crd};
use gateway_queue_operator::desired::{QueueDefaults, children};
use kube::core::cel::Validator;
use serde_json::{Value, json};

const COMBINATIONS: usize = 500;

fn queue(spec: &Value) -> Value {
    json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1",
        "kind": "GatewayQueue",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 1},
        "spec": spec,
    })
}

#[test]
fn every_spec_that_the_schema_accepts_has_children() {
    let crd = serde_json::to_value(crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let specs = Schema::of(&crd);
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let mut all: Vec<Value> = specs.singles().into_iter().map(|one| one.spec).collect();
    all.extend((0..COMBINATIONS).map(|_| specs.random(&mut random)));
    let defaults = QueueDefaults {
        image: "gateway-queue:1".to_owned(),
        image_pull_policy: None,
        image_pull_secrets: vec!["registry".to_owned()],
    };
    let mut accepted = 0;
    for spec in &all {
        let object = queue(spec);
        if Validator::new().validate(schema, &object, None).is_err() {
            continue;
        }
        accepted += 1;
        let queue = match serde_json::from_value(object).unwrap() {
            Stored::Queue(queue) => queue,
            Stored::Unreadable(unreadable) => panic!("{spec}: {}", unreadable.error),
        };
        for stands_down in [false, true] {
            let made = children(&queue, &defaults, stands_down, &BTreeSet::new());
            let made = made.unwrap_or_else(|error| panic!("{spec}: {error}"));
            assert!(made.len() >= 5, "{spec} gives only {} children", made.len());
        }
    }
    println!("{accepted} of {} specs are accepted", all.len());
    // With few accepted specs the test would show little.
    assert!(accepted * 2 > all.len(), "{accepted} of {}", all.len());
}
