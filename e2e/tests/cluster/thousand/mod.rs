//! A thousand GatewayQueues with leaders: what they cost the operator and the API server, and that
//! the operator survives a restart of the API server.

mod bare;
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

use leaders::{Leaders, leader};

const QUEUES: usize = 1000;

/// The kinds of the children of each queue.
const CHILDREN: [Kind; 6] = [ACCOUNT, ROLE, BINDING, LEASE, SERVICE, DEPLOYMENT];

/// For so many objects, each with six children and a status.
const CREATED_WITHIN: Duration = Duration::from_secs(240);

/// How much longer the operator may take than a client that only creates the objects.
const MAX_RATIO: f64 = 1.3;

/// The requests of the operator for each queue: the children, the status and an event.
const REQUESTS: usize = CHILDREN.len() + 2;

/// More requests meanwhile, for the GatewayQueue that probes the counters.
const OTHER_REQUESTS: usize = 50;

/// The edits of one queue, each after the other.
const EDITS: usize = 100;

/// The time from the response to all but one of a hundred edits to the change of the Deployment.
const PATCHED_WITHIN: Duration = Duration::from_millis(150);

/// The operator's resident memory, in MiB, with all queues and their leaders.
const MAX_MEMORY: u64 = 64;

/// The operator's CPU time in a minute, in which each Lease is renewed twelve times.
const MAX_CPU_TIME: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);

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
    let queues: Vec<String> = (0..QUEUES).map(|number| format!("q-{number}")).collect();

    let converged = create(&api, &counters, namespace.name(), &queues);
    let other = namespace.another("thousand-bare");
    let model = (namespace.name(), queues[0].as_str());
    let alone = bare::create(&api, model, other.name(), &queues);
    let ratio = converged.as_secs_f64() / alone.as_secs_f64();
    say(&format!(
        "{QUEUES} queues: a client without an operator creates the same objects in {:.1} s, the \
         operator takes {ratio:.2} times as long",
        alone.as_secs_f64(),
    ));
    assert!(ratio <= MAX_RATIO, "{ratio:.2}");

    edit(&api, namespace.name(), &queues);
    let leaders = Leaders::start(namespace.name(), &queues);
    wait_for_leaders(&api, namespace.name());
    counters.wait_for_silence(&api, SILENCE, || ());
    measure("with leaders", &api);
    restart_api_server(&api, &counters, namespace.name());
    measure("after a restart of the API server", &api);
    drop(leaders);
    counters.wait_for_silence(&api, SILENCE.saturating_mul(4), || ());

    // Tests with few GatewayQueues run beside this one while the operator is observed.
    namespace.move_to(Phase::Timing);
    observe_silence(&api, &counters);
    // Deleting the namespace keeps the machine busy for a minute.
    namespace.move_to(Phase::End);
}

/// Creates the queues, and waits until each has its children and its status. Returns how long that
/// took.
fn create(api: &Api, counters: &Counters<'_>, namespace: &str, queues: &[String]) -> Duration {
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
    let converged = started.elapsed();
    // After the last status, events are written and the caches catch up.
    counters.wait_for_silence(api, SILENCE, || ());
    let busy = counters.read(api);
    let requests = usize::try_from(busy.rest - before.rest).unwrap();
    say(&format!(
        "{QUEUES} queues: created in {:.1} s, all children after {:.1} s, each status after \
         {:.1} s; {requests} requests of the operator",
        created.as_secs_f64(),
        children.as_secs_f64(),
        converged.as_secs_f64(),
    ));
    // If the requests were not counted, the silence would prove nothing.
    let expected = QUEUES * (REQUESTS - 1)..=QUEUES * REQUESTS + OTHER_REQUESTS;
    assert!(
        expected.contains(&requests),
        "{requests} requests: {before:?}, then {busy:?}"
    );
    converged
}

fn is_reported(queue: &Value) -> bool {
    let [_, reason, _] = condition(queue, "Ready");
    queue["status"]["observedGeneration"] == queue["metadata"]["generation"]
        && reason == "ScaledToZero"
}

/// Edits queues, one after the other, and measures how soon each Deployment is changed.
fn edit(api: &Api, namespace: &str, queues: &[String]) {
    let mut delays: Vec<Duration> = queues
        .iter()
        .take(EDITS)
        .map(|queue| {
            let patch = json!({"spec": {"sessionReserve": 7}});
            api.patch(QUEUE, namespace, queue, &patch).unwrap();
            let started = Instant::now();
            while reserve(api, namespace, queue) != "7" {
                assert!(started.elapsed() < MINUTE, "{queue} is not changed");
            }
            started.elapsed()
        })
        .collect();
    delays.sort();
    let [.., p99, slowest] = &delays[..] else {
        panic!("no edits");
    };
    say(&format!(
        "{QUEUES} queues: {EDITS} edits change the Deployment within {:.3} s, 99 of them within \
         {:.3} s",
        slowest.as_secs_f64(),
        p99.as_secs_f64(),
    ));
    assert!(*p99 <= PATCHED_WITHIN, "{delays:?}");
}

/// The session reserve of a queue's pods.
fn reserve(api: &Api, namespace: &str, queue: &str) -> Value {
    let deployment = api.get(DEPLOYMENT, namespace, queue).unwrap();
    let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let mut env = env.as_array().unwrap().iter();
    let variable = env.find(|variable| variable["name"] == "SESSION_RESERVE");
    variable.unwrap()["value"].clone()
}

/// Waits until the status of each queue names its leader.
fn wait_for_leaders(api: &Api, namespace: &str) {
    settle(CREATED_WITHIN, || {
        let queues = api.list(QUEUE, namespace);
        let led = queues.iter().filter(|queue| {
            let name = queue["metadata"]["name"].as_str().unwrap();
            queue["status"]["leader"] == leader(name)
        });
        let led = led.count();
        (led != QUEUES).then(|| format!("{led} of {QUEUES} have a leader"))
    });
}

/// Measures the operator for a minute in which only Leases are renewed.
fn measure(when: &str, api: &Api) {
    let operator = OperatorProcess::find(api);
    let before = operator.cpu_time();
    thread::sleep(MINUTE);
    let cpu_time = operator.cpu_time() - before;
    let (memory, peak) = (operator.memory(), operator.peak_memory());
    say(&format!(
        "{QUEUES} queues {when}: the operator uses {memory} MiB, at most {peak} MiB until now, and \
         {:.2} s of CPU time a minute",
        cpu_time.as_secs_f64(),
    ));
    assert!(memory <= MAX_MEMORY, "{memory} MiB");
    assert!(cpu_time <= MAX_CPU_TIME, "{cpu_time:?}");
}

/// Restarts the API server, and waits until the operator has nothing to do.
fn restart_api_server(api: &Api, counters: &Counters<'_>, namespace: &str) {
    let before = starts(api);
    Outage::begin().end();
    wait_for_leaders(api, namespace);
    counters.wait_for_silence(api, SILENCE.saturating_mul(4), || ());
    // Such as by the kernel, if it used more memory than its limit.
    assert_eq!(starts(api), before, "the operator restarted");
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
