//! A GatewayQueue that is deleted while it is being made.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::api::{Api, POD, QUEUE, queue};
use crate::children::{Children, settle};
use crate::kubectl::{Namespace, say};

const ROUNDS: usize = 30;

/// The garbage collector has its own pace.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn deleted_in_the_middle_of_its_creation_a_queue_leaves_nothing_and_can_come_again() {
    let namespace = Namespace::alone("races");
    let name = namespace.name();
    let api = Api::new(&namespace);
    let seed = std::env::var("SEED").ok();
    let seed = seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut random = Rng::with_seed(seed);
    // Two pods, so that there is one of each child; no node takes them.
    let spec = json!({"replicas": 2, "pod": {"nodeSelector": {"nowhere": "true"}}});
    for round in 0..ROUNDS {
        // The next of the same name may come while the last one's children go.
        let own = format!("race-{}", round % 3);
        api.create(QUEUE, name, &queue(&own, &spec)).unwrap();
        // The moment is what this is about.
        thread::sleep(Duration::from_millis(random.u64(..1000)));
        api.delete(QUEUE, name, &own).unwrap();
    }
    let deleted = Instant::now();
    let gone = settle(PATIENCE, || {
        let children = Children::of(&api, name);
        let left = |race| {
            let own = format!("race-{race}");
            let left: Vec<_> = children.named(&own).map(|(word, _)| word).collect();
            (!left.is_empty()).then(|| format!("SEED={seed}: {own} has left {left:?}"))
        };
        let pods = api.list(POD, name).len();
        let pods = (pods > 0).then(|| format!("SEED={seed}: {pods} pods are left"));
        (0..3).filter_map(left).chain(pods).collect()
    });
    let again = Instant::now();
    let uids: Vec<Value> = (0..3)
        .map(|race| {
            let own = queue(&format!("race-{race}"), &spec);
            let made = api.create(QUEUE, name, &own).unwrap();
            made["metadata"]["uid"].clone()
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
                    wrong.push(format!("SEED={seed}: the {word} {own} is another's"));
                }
            }
        }
        wrong
    });
    say(&format!(
        "deleted while made: {ROUNDS} rounds (SEED={seed}), nothing left {:.1} s after the last, \
         made again in {:.1} s; {:.1} s in all",
        gone.as_secs_f64(),
        again.elapsed().as_secs_f64(),
        deleted.elapsed().as_secs_f64(),
    ));
}
