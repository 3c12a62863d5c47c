//! A GatewayQueue that is deleted while its children are being created.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::api::{Api, POD, QUEUE};
use crate::children::Children;
use crate::common::namespace::queue;
use crate::kubectl::{Namespace, say, seed};
use crate::wait::settle;

const ROUNDS: usize = 30;

/// The garbage collector is slow.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_queue_deleted_during_its_creation_leaves_nothing_and_can_be_recreated() {
    let namespace = Namespace::new("races");
    let name = namespace.name();
    let api = Api::new();
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    // Two pods, for a PodDisruptionBudget. They are unschedulable.
    let spec = json!({"replicas": 2, "pod": {"nodeSelector": {"nowhere": "true"}}});
    for round in 0..ROUNDS {
        // The next one of the same name may be created while the children are being deleted.
        let own = format!("race-{}", round % 3);
        api.create(QUEUE, name, &queue(&own, &spec)).unwrap();
        // The moment of the deletion is under test.
        thread::sleep(Duration::from_millis(random.u64(..1000)));
        api.delete(QUEUE, name, &own).unwrap();
    }
    let deleted = settle(PATIENCE, || {
        let children = Children::of(&api, name);
        let left = |race| {
            let own = format!("race-{race}");
            let left: Vec<_> = children.named(&own).map(|(word, _)| word).collect();
            (!left.is_empty()).then(|| format!("SEED={seed}: {own} left {left:?}"))
        };
        let pods = api.list(POD, name).len();
        let pods = (pods > 0).then(|| format!("SEED={seed}: {pods} pods are left"));
        (0..3).filter_map(left).chain(pods).collect::<Vec<_>>()
    });
    let again = Instant::now();
    let uids: Vec<Value> = (0..3)
        .map(|race| {
            let own = queue(&format!("race-{race}"), &spec);
            let created = api.create(QUEUE, name, &own).unwrap();
            created["metadata"]["uid"].clone()
        })
        .collect();
    settle(PATIENCE, || {
        let children = Children::of(&api, name);
        let mut wrong = Vec::new();
        for (race, uid) in uids.iter().enumerate() {
            let own = format!("race-{race}");
            let count = children.named(&own).count();
            if count != 7 {
                wrong.push(format!("SEED={seed}: {own} has {count} children, not 7"));
            }
            for (word, child) in children.named(&own) {
                if child["metadata"]["ownerReferences"][0]["uid"] != *uid {
                    wrong.push(format!("SEED={seed}: the {word} {own} has another owner"));
                }
            }
        }
        wrong
    });
    say(&format!(
        "deleted during creation: {ROUNDS} rounds, nothing left after {:.1} s, recreated in {:.1} s",
        deleted.as_secs_f64(),
        again.elapsed().as_secs_f64(),
    ));
}
