//! Up to 2,000 GatewayQueues: how long the operator takes for them, beside a client that only
//! creates the same objects, and what it costs.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Api, CONFIG, DEPLOYMENT, QUEUE, condition};
use crate::bare::Children;
use crate::common::namespace::queue;
use crate::figures::{document, percentile};
use crate::kubectl::{Namespace, OPERATOR, operator_kubectl, say};
use crate::leaders::Leaders;
use crate::lines::Lines;
use crate::operator_process::OperatorProcess;
use crate::operator_requests::Counters;
use crate::process::{Process, proc};
use crate::schedule::Phase;
use crate::wait::settle;

/// The numbers of GatewayQueues, each with those before it.
const SIZES: [usize; 4] = [10, 100, 1000, 2000];

/// How many of them have leaders and are edited.
const QUEUES: usize = 1000;

/// The clients that create objects at the same time: as many as the operator's reconciles.
const THREADS: usize = 8;

/// The edits of one queue, each after the other.
const EDITS: usize = 100;

/// The time between two renewals of a Lease, as in a queue.
const RENEWAL: Duration = Duration::from_secs(5);

/// The clock ticks per second in `/proc`, on every architecture.
const TICKS: u64 = 100;

const MINUTE: Duration = Duration::from_secs(60);

/// The operator is quiet when it makes no request for this long.
const SILENCE: Duration = Duration::from_secs(5);

/// The controllers of Kubernetes need minutes for all Deployments.
const PATIENCE: Duration = Duration::from_secs(600);

/// The costs of one number of GatewayQueues.
#[derive(Clone, Copy, Debug, Default)]
struct Costs {
    /// Seconds until all have their children and their status.
    ours: f64,
    /// Seconds until the bare client has created as many children.
    peer: f64,
    /// The operator's resident memory, in MiB, without leaders.
    memory: f64,
}

/// The figures of the queues with leaders.
#[derive(Debug)]
struct Figures {
    requests: f64,
    cpu_time: f64,
    memory: f64,
    edit_p50: f64,
    edit_p99: f64,
}

pub(crate) fn measure(rounds: usize) -> Value {
    let mut values: [(Vec<f64>, Vec<f64>); 8] = Default::default();
    let mut last = Vec::new();
    for _ in 0..rounds {
        let (costs, figures) = round();
        let [.., thousand, all] = &costs[..] else {
            panic!("no sizes");
        };
        let ratio = SIZES[3] as f64 / SIZES[2] as f64;
        let exponent = |less: f64, more: f64| (more / less).log(ratio);
        let Figures {
            requests,
            cpu_time,
            memory,
            edit_p50,
            edit_p99,
        } = figures;
        let ours = [
            thousand.ours,
            requests,
            cpu_time,
            memory,
            edit_p50,
            edit_p99,
            exponent(thousand.ours, all.ours),
            exponent(thousand.memory, all.memory),
        ];
        for ((values, _), value) in values.iter_mut().zip(ours) {
            values.push(value);
        }
        values[0].1.push(thousand.peer);
        values[6].1.push(exponent(thousand.peer, all.peer));
        last = costs;
    }
    let points = |cost: fn(&Costs) -> f64| -> Vec<(usize, f64)> {
        SIZES.into_iter().zip(last.iter().map(cost)).collect()
    };
    let mut document = document(values);
    document["series"] = json!([
        {"ours": points(|costs| costs.ours), "peer": points(|costs| costs.peer)},
        {"ours": points(|costs| costs.memory), "peer": []},
    ]);
    document
}

fn round() -> (Vec<Costs>, Figures) {
    restart_operator();
    let namespace = Namespace::in_phase("many", Phase::Timing);
    let other = namespace.another("many-bare");
    let (name, other) = (namespace.name(), other.name());
    let api = Api::new();
    let counters = Counters::install(&api, &namespace);
    counters.wait_for_silence(&api, SILENCE, || ());
    let events = Lines::watch(QUEUE, name);
    events.find(|_| true);
    let queues: Vec<String> = (0..2000)
        .map(|number| format!("queue-{number}-of-many"))
        .collect();

    let (mut all, mut costs) = (Vec::new(), Costs::default());
    let (mut requests, mut figures) = (0, None);
    let mut done = 0;
    for size in SIZES {
        let more = &queues[done..size];
        let before = counters.read(&api).rest;
        costs.ours += converge(name, more, &events).as_secs_f64();
        // After the last status, events are written and the caches catch up.
        counters.wait_for_silence(&api, SILENCE, || ());
        requests += counters.read(&api).rest - before;
        costs.memory = OperatorProcess::find(&api).memory();
        let children = Children::of(&api, name, &more[0]);
        costs.peer += create_bare(&children, other, more).as_secs_f64();
        say(&format!("{size} GatewayQueues: {costs:.3?}"));
        all.push(costs);
        done = size;
        if size == QUEUES {
            wait_for_deployments(&api, &[name, other]);
            let requests = requests as f64 / QUEUES as f64;
            figures = Some(with_leaders(
                &api,
                &counters,
                name,
                &queues[..size],
                requests,
            ));
            restart_operator();
            // Its Leases expire.
            counters.wait_for_silence(&api, SILENCE.saturating_mul(4), || ());
        }
    }
    (all, figures.expect("a thousand queues"))
}

/// Creates these GatewayQueues, and waits until the status of each is complete, which the operator
/// writes after the children.
fn converge(namespace: &str, queues: &[String], events: &Lines) -> Duration {
    // Earlier events would be parsed first.
    events.printed().for_each(drop);
    let started = Instant::now();
    let mut left: BTreeSet<&str> = queues.iter().map(String::as_str).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for_each(queues, |api, name| {
                let one = queue(name, &json!({"replicas": 0}));
                api.create(QUEUE, namespace, &one).unwrap();
            });
        });
        let at = events.find(|queue| {
            let [_, reason, _] = condition(queue, "Ready");
            let generation = &queue["status"]["observedGeneration"];
            if *generation == queue["metadata"]["generation"] && reason == "ScaledToZero" {
                left.remove(queue["metadata"]["name"].as_str().unwrap());
            }
            left.is_empty()
        });
        at - started
    })
}

/// Creates the children of these queues in another namespace, and an object for the queue itself.
fn create_bare(children: &Children, namespace: &str, queues: &[String]) -> Duration {
    let started = Instant::now();
    for_each(queues, |api, name| {
        let config = json!({
            "apiVersion": CONFIG.version, "kind": CONFIG.word, "metadata": {"name": name},
        });
        api.create(CONFIG, namespace, &config).unwrap();
        for (kind, child) in children.named(name) {
            api.apply(kind, namespace, &kind.child_of(name), &child)
                .unwrap();
        }
    });
    started.elapsed()
}

/// Calls `create` for each of these queues, in a few threads with a client each.
fn for_each(queues: &[String], create: impl Fn(&Api, &str) + Sync) {
    thread::scope(|scope| {
        for queues in queues.chunks(queues.len().div_ceil(THREADS)) {
            let create = &create;
            scope.spawn(move || {
                let api = Api::new();
                queues.iter().for_each(|name| create(&api, name));
            });
        }
    });
}

/// Waits until the controllers of Kubernetes have nothing more to do for the Deployments.
fn wait_for_deployments(api: &Api, namespaces: &[&str]) {
    settle(PATIENCE, || {
        let all = namespaces
            .iter()
            .flat_map(|namespace| api.list(DEPLOYMENT, namespace));
        let waiting = all.filter(|deployment| {
            deployment["status"]["observedGeneration"] != deployment["metadata"]["generation"]
        });
        let count = waiting.count();
        (count > 0).then(|| format!("{count} Deployments wait for their controller"))
    });
}

/// Edits queues, then lets stand-ins lead all of them, and measures the operator for a minute.
fn with_leaders(
    api: &Api,
    counters: &Counters<'_>,
    namespace: &str,
    queues: &[String],
    requests: f64,
) -> Figures {
    let edited = queues.iter().take(EDITS);
    let mut delays: Vec<f64> = edited.map(|queue| edit(api, namespace, queue)).collect();
    let leaders = Leaders::start(namespace, queues, RENEWAL);
    settle(PATIENCE, || leaders.unreported(api));
    counters.wait_for_silence(api, SILENCE, || ());
    wait_for_deployments(api, &[namespace]);
    let operator = OperatorProcess::find(api);
    let before = cpu_time(&operator.0);
    thread::sleep(MINUTE);
    let cpu_time = cpu_time(&operator.0) - before;
    let figures = Figures {
        requests,
        cpu_time: cpu_time.as_secs_f64(),
        memory: operator.memory(),
        edit_p50: percentile(&mut delays, 0.5),
        edit_p99: percentile(&mut delays, 0.99),
    };
    say(&format!("{figures:.3?}"));
    figures
}

/// Returns the processor time of a process since it started.
fn cpu_time(process: &Process) -> Duration {
    let stat = fs::read_to_string(proc(process.pid, "stat")).unwrap();
    // The name of the program, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Returns the time from the response to an edit to the change of the Deployment, in milliseconds.
fn edit(api: &Api, namespace: &str, queue: &str) -> f64 {
    let patch = json!({"spec": {"sessionReserve": 7}});
    api.patch(QUEUE, namespace, queue, &patch).unwrap();
    let started = Instant::now();
    loop {
        let deployment = api
            .get(DEPLOYMENT, namespace, &DEPLOYMENT.child_of(queue))
            .unwrap();
        if session_reserve(&deployment) == "7" {
            return started.elapsed().as_secs_f64() * 1000.0;
        }
        assert!(started.elapsed() < MINUTE, "{queue} is not changed");
    }
}

/// The session reserve of a Deployment's pods.
pub(crate) fn session_reserve(deployment: &Value) -> &str {
    let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let mut env = env.as_array().unwrap().iter();
    let variable = env.find(|variable| variable["name"] == "SESSION_RESERVE");
    variable.unwrap()["value"].as_str().unwrap()
}

/// Starts the operator again: what it used before does not count.
fn restart_operator() {
    let deployment = format!("deployment/{}", OPERATOR.1);
    operator_kubectl(&format!("rollout restart {deployment}")).unwrap();
    operator_kubectl(&format!("rollout status {deployment} --timeout=120s")).unwrap();
    let pods = format!("pods --selector=app.kubernetes.io/instance={}", OPERATOR.1);
    settle(PATIENCE, || {
        let names = operator_kubectl(&format!("get {pods} --output=name")).unwrap();
        (names.lines().count() != 1).then_some(names)
    });
}
