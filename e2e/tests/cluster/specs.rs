//! Specs that are generated from the CRD's own schema. Each accepted one is applied once, and
//! then the operator makes no more requests.
//!
//! The seed is printed. With SEED set, the same combinations are generated again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use gateway_queue_e2e::specs::{OF_KUBERNETES, Schema, Single, is_of_kubernetes};
use serde_json::{Value, json};

use crate::api::{Api, CHILDREN, CRD, DEPLOYMENT, EVENT, QUEUE};
use crate::common::namespace::queue;
use crate::kubectl::{Namespace, OPERATOR, say, seed};
use crate::operator_requests::Counters;
use crate::schedule::Phase;
use crate::wait::settle;

const COMBINATIONS: usize = 40;

/// Fields of Kubernetes' own types have hundreds of edge values. The first four are always
/// tested, and a random eighth of the others.
const ALWAYS: u32 = 4;
const ONE_IN: u32 = 8;

const PATIENCE: Duration = Duration::from_secs(120);

/// The operator is quiet if it makes no request for this long. A conflict with another writer
/// would break the silence: the first three reverts of a child come within 10 s.
const SILENCE: Duration = Duration::from_secs(15);

/// Reasons of Ready with which no reconcile may end here.
const UNDECIDED: [&str; 3] = ["ApplyFailed", "InvalidSpec", "NameTaken"];

/// The reason of Ready until the scheduler has reported on the pods.
const ROLLING: &str = "RolloutInProgress";

#[test]
fn every_spec_that_the_schema_accepts_is_applied_once_and_then_the_operator_is_quiet() {
    let namespace = Namespace::in_phase("specs", Phase::Busy);
    let api = Api::new();
    let counters = Counters::install(&api, &namespace);
    let started = Instant::now();
    let all = specs(&api);
    let mut made = BTreeMap::new();
    for (number, one) in all.iter().enumerate() {
        let name = format!("s-{number}");
        let spec = without_running_pods(&one.spec, &name);
        match api.create(QUEUE, namespace.name(), &queue(&name, &spec)) {
            Ok(_) => drop(made.insert(name, (one.field.as_str(), spec))),
            Err(refusal) => assert_eq!(refusal.code, 422, "{spec}: {refusal:?}"),
        }
    }
    // With few accepted specs the test would show little.
    let (accepted, count) = (made.len(), all.len());
    assert!(accepted * 2 > count, "{accepted} of {count}");

    settle(PATIENCE, || {
        let mut queues = api.list(QUEUE, namespace.name());
        queues.retain(|queue| {
            reason(queue).is_none_or(|reason| UNDECIDED.contains(&reason.as_str()))
        });
        let undecided = queues.iter();
        let undecided = undecided.map(|queue| format!("{}: {:?}", name(queue), reason(queue)));
        undecided.collect::<Vec<_>>()
    });
    // The API server refuses some values of its own types that their schemas accept. Their
    // children are retried, so these GatewayQueues are deleted.
    let mut refused = api.list(QUEUE, namespace.name());
    refused.retain(|queue| reason(queue).is_some_and(|reason| reason == "ChildRefused"));
    for queue in &refused {
        let (field, spec) = &made[name(queue)];
        let may_be = is_of_kubernetes(field) || (field.is_empty() && has_type_of_kubernetes(spec));
        assert!(
            may_be,
            "{field}: {spec} gives {}",
            queue["status"]["conditions"][0]["message"]
        );
        api.delete(QUEUE, namespace.name(), name(queue)).unwrap();
    }
    let deleted: BTreeSet<&str> = refused.iter().map(name).collect();
    let refused = refused.len();

    // Kubernetes is slow with hundreds of Deployments and unschedulable pods, and each of its
    // writes causes a reconcile.
    settle(PATIENCE, || {
        let queues = api.list(QUEUE, namespace.name()).into_iter();
        let rolling = queues.filter(|queue| reason(queue).is_some_and(|r| r == ROLLING));
        let rolling = rolling.map(|queue| format!("{}: {ROLLING}", name(&queue)));
        let unobserved = unobserved(&api, &namespace, &deleted);
        unobserved.into_iter().chain(rolling).collect::<Vec<_>>()
    });
    // A late scheduler is no fault of the operator: each request restarts the window of silence.
    namespace.move_to(Phase::Short);
    let mut before = BTreeMap::new();
    counters.wait_for_silence(&api, SILENCE, || {
        before = written(&api, &namespace, &deleted);
    });
    let after = written(&api, &namespace, &deleted);
    say(&format!(
        "{} specs: {} refused by the schema, {refused} by the API server in a child, {} children; \
         all of it took {:.0} s",
        all.len(),
        all.len() - accepted,
        before.len(),
        started.elapsed().as_secs_f64(),
    ));
    assert_eq!(reverts(&api, &namespace), [] as [Value; 0]);
    assert_eq!(before, after, "children changed");
    let children = before.len();
    assert!(children >= (accepted - refused) * 5, "{children} children");
    drop(counters);
    // Deleting the namespace keeps the machine busy.
    namespace.move_to(Phase::End);
}

/// Every field at each of its edge values, and random combinations, which have no field.
fn specs(api: &Api) -> Vec<Single> {
    let schema = Schema::of(&api.read(CRD).unwrap());
    let mut random = Rng::with_seed(seed());
    let mut all = schema.singles();
    let mut tried = BTreeMap::new();
    all.retain(|one| {
        let tried = tried.entry(one.field.clone()).or_insert(0);
        *tried += 1;
        !is_of_kubernetes(&one.field) || *tried <= ALWAYS || random.u32(..ONE_IN) == 0
    });
    all.extend((0..COMBINATIONS).map(|_| Single {
        field: String::new(),
        spec: schema.random(&mut random),
    }));
    all
}

/// Makes the pods unschedulable, and the token that of no other GatewayQueue.
fn without_running_pods(spec: &Value, name: &str) -> Value {
    let mut spec = spec.clone();
    match spec["replicas"].as_u64() {
        None => spec["replicas"] = json!(0),
        Some(0) => {}
        Some(_) => {
            spec["pod"]["nodeSelector"]["nowhere"] = json!("true");
            // The API server refuses pods of an unknown class, and the refusal is retried.
            spec["pod"]["priorityClassName"] = Value::Null;
        }
    }
    if let Some(token) = spec["tokenSecretRef"].as_object_mut() {
        token.insert("name".to_owned(), json!(name));
    }
    if spec["tokenSecretRef"].is_null() {
        spec.as_object_mut().unwrap().remove("tokenSecretRef");
    }
    spec
}

fn has_type_of_kubernetes(spec: &Value) -> bool {
    let is_set = |field: &&str| {
        let pointer = format!("/{}", field.replace('.', "/"));
        spec.pointer(&pointer).is_some_and(|value| !value.is_null())
    };
    OF_KUBERNETES.iter().any(is_set)
}

fn name(queue: &Value) -> &str {
    queue["metadata"]["name"].as_str().unwrap()
}

/// The reason of Ready, if it is about the present spec.
fn reason(queue: &Value) -> Option<String> {
    let status = &queue["status"];
    let is_current = status["observedGeneration"] == queue["metadata"]["generation"];
    let reason = status["conditions"][0]["reason"].as_str();
    reason.filter(|_| is_current).map(str::to_owned)
}

/// The Deployments whose status is not up to date yet.
fn unobserved(api: &Api, namespace: &Namespace, deleted: &BTreeSet<&str>) -> Vec<String> {
    let deployments = api.list(DEPLOYMENT, namespace.name()).into_iter();
    let is_done = |deployment: &Value| {
        let (spec, status) = (&deployment["spec"], &deployment["status"]);
        status["observedGeneration"] == deployment["metadata"]["generation"]
            && status["replicas"].as_u64().unwrap_or(0) == spec["replicas"].as_u64().unwrap_or(0)
    };
    let left = deployments
        .filter(|deployment| !deleted.contains(queue_of(deployment)) && !is_done(deployment));
    left.map(|deployment| format!("{} is not observed", name(&deployment)))
        .collect()
}

/// The name of the GatewayQueue of a child.
fn queue_of(child: &Value) -> &str {
    let label = &child["metadata"]["labels"]["gatewayqueue.dev/name"];
    label.as_str().unwrap_or_default()
}

/// The operator's entries in the `managedFields` of each child, without the children that the
/// garbage collector deletes. (Resource versions also change with the writes of others.)
fn written(
    api: &Api,
    namespace: &Namespace,
    deleted: &BTreeSet<&str>,
) -> BTreeMap<String, Vec<Value>> {
    let mut written = BTreeMap::new();
    for kind in CHILDREN {
        for object in api.list(kind, namespace.name()) {
            // Each namespace has a ServiceAccount of its own.
            if name(&object) == "default" || deleted.contains(queue_of(&object)) {
                continue;
            }
            let entries = object["metadata"]["managedFields"].as_array();
            let by_the_operator = entries
                .into_iter()
                .flatten()
                .filter(|e| e["manager"] == OPERATOR.1);
            let child = format!("{} {}", kind.word, name(&object));
            written.insert(child, by_the_operator.cloned().collect());
        }
    }
    written
}

/// The operator's events about reverts.
fn reverts(api: &Api, namespace: &Namespace) -> Vec<Value> {
    let mut events = api.list(EVENT, namespace.name());
    events
        .retain(|event| event["reason"] == "ChildReverted" || event["reason"] == "ChildRewritten");
    events
}
