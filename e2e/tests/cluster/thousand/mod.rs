//! A thousand GatewayQueues with leaders: how many requests they cost the operator, how much memory,
//! and that the operator survives a restart of the API server. The `node` benchmark measures times.

mod leaders;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{ACCOUNT, Api, BINDING, DEPLOYMENT, Kind, LEASE, QUEUE, ROLE, SERVICE, condition};
use crate::common::namespace::queue;
use crate::faults::node::Outage;
use crate::kubectl::{Namespace, say};
use crate::operator_process::{OperatorProcess, starts};
use crate::operator_requests::{Counters, count};
use crate::schedule::Phase;
use crate::wait::settle;

use leaders::Leaders;

const QUEUES: usize = 1000;

/// The kinds of the children of each queue.
const CHILDREN: [Kind; 6] = [ACCOUNT, ROLE, BINDING, LEASE, SERVICE, DEPLOYMENT];

/// For so many objects, each with six children and a status.
const CREATED_WITHIN: Duration = Duration::from_secs(240);

/// The requests of the operator for each queue: the children, the status and an event.
const REQUESTS: usize = CHILDREN.len() + 2;

/// More requests meanwhile, for the GatewayQueue that probes the counters.
const OTHER_REQUESTS: usize = 50;

/// The operator's resident memory, in MiB, with all queues and their leaders.
const MAX_MEMORY: f64 = 64.0;

/// The time between two renewals of a Lease. A queue renews twice as often, which would keep a
/// small machine busy.
const RENEWAL: Duration = Duration::from_secs(10);

/// The operator is quiet when it makes no request for this long.
const SILENCE: Duration = Duration::from_secs(5);

/// The same after the last renewals: longer than the duration of a Lease.
const SILENCE_AFTER_EXPIRY: Duration = Duration::from_secs(20);

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
    let queues: Vec<String> = (0..QUEUES).map(|number| format!("q-{number}")).collect();
    create(&api, &counters, namespace.name(), &queues);

    let leaders = Leaders::start(namespace.name(), &queues, RENEWAL);
    settle(CREATED_WITHIN, || leaders.unreported(&api));
    counters.wait_for_silence(&api, SILENCE, || ());
    check_memory("with leaders", &api);
    let before = starts(&api);
    Outage::begin().end();
    // The watches are retried every 2 s.
    counters.wait_for_silence(&api, SILENCE, || ());
    settle(CREATED_WITHIN, || leaders.unreported(&api));
    check_memory("after a restart of the API server", &api);
    // Such as by the kernel, if it used more memory than its limit.
    assert_eq!(starts(&api), before, "the operator restarted");
    drop(leaders);
    counters.wait_for_silence(&api, SILENCE_AFTER_EXPIRY, || ());

    // Tests with few GatewayQueues run beside this one while the operator is observed.
    namespace.move_to(Phase::Timing);
    observe_silence(&api, &counters);
    // Deleting the namespace keeps the machine busy for a minute.
    namespace.move_to(Phase::End);
}

/// Creates the queues, waits until each has its children and its status, and checks how many
/// requests the operator made.
fn create(api: &Api, counters: &Counters<'_>, namespace: &str, queues: &[String]) {
    let before = counters.read(api);
    let started = Instant::now();
    for name in queues {
        let one = queue(name, &json!({"replicas": 0}));
        api.create(QUEUE, namespace, &one).unwrap();
    }
    let created = started.elapsed();
    settle(CREATED_WITHIN, || {
        let too_few = |kind: Kind| {
            let count = count(api, kind, namespace);
            // One is the probe's, and each namespace has a ServiceAccount of its own.
            let wanted = QUEUES + 1 + usize::from(kind == ACCOUNT);
            (count != wanted).then(|| format!("{count} of {wanted} {}", kind.plural))
        };
        CHILDREN.into_iter().filter_map(too_few)
    });
    let children = started.elapsed();
    settle(CREATED_WITHIN, || {
        let queues = api.list(QUEUE, namespace);
        let reported = queues.iter().filter(|queue| is_reported(queue)).count();
        (reported <= QUEUES).then(|| format!("{reported} of {QUEUES} and the probe have a status"))
    });
    let reported = started.elapsed();
    // After the last status, events are written and the caches catch up.
    counters.wait_for_silence(api, SILENCE, || ());
    let busy = counters.read(api);
    let requests = usize::try_from(busy.rest - before.rest).unwrap();
    say(&format!(
        "{QUEUES} queues: created in {:.1} s, all children after {:.1} s, each status after \
         {:.1} s; {requests} requests of the operator",
        created.as_secs_f64(),
        children.as_secs_f64(),
        reported.as_secs_f64(),
    ));
    // If the requests were not counted, the silence would prove nothing.
    let expected = QUEUES * (REQUESTS - 1)..=QUEUES * REQUESTS + OTHER_REQUESTS;
    assert!(
        expected.contains(&requests),
        "{requests} requests: {before:?}, then {busy:?}"
    );
}

fn is_reported(queue: &Value) -> bool {
    let [_, reason, _] = condition(queue, "Ready");
    queue["status"]["observedGeneration"] == queue["metadata"]["generation"]
        && reason == "ScaledToZero"
}

/// Checks the memory of the operator.
fn check_memory(when: &str, api: &Api) {
    let operator = OperatorProcess::find(api);
    let (memory, peak) = (operator.memory(), operator.peak_memory());
    say(&format!(
        "{QUEUES} queues {when}: the operator uses {memory:.1} MiB, at most {peak:.1} MiB until now"
    ));
    assert!(memory <= MAX_MEMORY, "{memory} MiB");
}

/// Checks that the operator makes no requests if nothing changes.
fn observe_silence(api: &Api, counters: &Counters<'_>) {
    let before = counters.read(api);
    thread::sleep(OBSERVED);
    let after = counters.read(api);
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
}
