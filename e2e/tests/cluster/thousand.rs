//! A thousand GatewayQueues, and an operator that has nothing to do for them.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{ACCOUNT, Api, BINDING, DEPLOYMENT, Kind, LEASE, QUEUE, ROLE, SERVICE, condition};
use crate::common::namespace::queue;
use crate::kubectl::{Namespace, say};
use crate::operator_requests::{Counters, count};
use crate::schedule::Phase;
use crate::wait::settle;

const QUEUES: usize = 1000;

/// For so many objects, each with six children and a status.
const CREATED_WITHIN: Duration = Duration::from_secs(240);

/// The operator is quiet when it makes no request for this long.
const SILENCE: Duration = Duration::from_secs(5);

/// How long it then stays quiet: longer than the 30 s after which it rechecks a name that is
/// taken, the only thing that it rechecks regularly.
const OBSERVED: Duration = Duration::from_secs(35);

/// Renewals of the operator's own Lease meanwhile: one every 3.75 s to 5 s.
const RENEWALS: std::ops::RangeInclusive<u64> = 5..=11;

#[test]
fn a_thousand_queues_are_created_and_then_the_operator_only_watches() {
    let namespace = Namespace::in_phase("thousand", Phase::Load);
    let api = Api::new();
    let counters = Counters::install(&api, &namespace);
    let before = counters.read(&api);
    let started = Instant::now();
    for number in 0..QUEUES {
        let one = queue(&format!("q-{number}"), &json!({"replicas": 0}));
        api.create(QUEUE, namespace.name(), &one).unwrap();
    }
    let created = started.elapsed();
    settle(CREATED_WITHIN, || {
        let too_few = |kind: Kind| {
            let count = count(&api, kind, namespace.name());
            // One is the probe's, and each namespace has a ServiceAccount of its own.
            let wanted = QUEUES + 1 + usize::from(kind == ACCOUNT);
            (count != wanted).then(|| format!("{count} of {wanted} {}", kind.plural))
        };
        let kinds = [ACCOUNT, ROLE, BINDING, LEASE, SERVICE, DEPLOYMENT];
        kinds.into_iter().filter_map(too_few)
    });
    let children = started.elapsed();
    settle(CREATED_WITHIN, || {
        let queues = api.list(QUEUE, namespace.name());
        let reported = queues.iter().filter(|queue| is_reported(queue)).count();
        (reported <= QUEUES).then(|| format!("{reported} of {QUEUES} and the probe have a status"))
    });
    let busy = counters.read(&api);
    let requests = busy.rest - before.rest;
    say(&format!(
        "{QUEUES} queues: created in {:.1} s, all children after {:.1} s, each status after \
         {:.1} s; {requests} requests of the operator",
        created.as_secs_f64(),
        children.as_secs_f64(),
        started.elapsed().as_secs_f64(),
    ));
    // If the requests were not counted, the silence would prove nothing.
    let least = u64::try_from(QUEUES * 7).unwrap();
    assert!(requests >= least, "{before:?}, then {busy:?}");

    // After the last status, events are written and the caches catch up.
    counters.wait_for_silence(&api, SILENCE, || ());
    // Tests with few GatewayQueues run beside this one while the operator is observed.
    namespace.move_to(Phase::Timing);
    let before = counters.read(&api);
    thread::sleep(OBSERVED);
    let after = counters.read(&api);
    let renewals = after.own_lease - before.own_lease;
    say(&format!(
        "{QUEUES} queues: {} s of silence, {renewals} requests for the operator's Lease, {} about \
         other namespaces, {} new watches",
        OBSERVED.as_secs(),
        after.elsewhere - before.elsewhere,
        after.watches - before.watches,
    ));
    assert_eq!(after.rest, before.rest, "requests without a cause");
    assert!(RENEWALS.contains(&renewals), "{before:?}, then {after:?}");
    // Deleting the namespace keeps the machine busy for a minute.
    namespace.move_to(Phase::End);
}

fn is_reported(queue: &Value) -> bool {
    let [_, reason, _] = condition(queue, "Ready");
    queue["status"]["observedGeneration"] == queue["metadata"]["generation"]
        && reason == "ScaledToZero"
}
