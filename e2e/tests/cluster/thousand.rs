//! A thousand GatewayQueues, and what the operator does when there is nothing to
//! do for them.
//!
//! The API server itself counts: it sorts requests by who makes them (API Priority
//! and Fairness), so FlowSchemas of ours tell the operator's watches, its own Lease and
//! what it asks about objects of other namespaces from all else: what is asked about
//! these thousand, or about all there is.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{ACCOUNT, Api, BINDING, DEPLOYMENT, Kind, LEASE, QUEUE, ROLE, SERVICE, queue};
use crate::children::settle;
use crate::kubectl::{ELECTION, Namespace, OPERATOR, say};

const QUEUES: usize = 1000;

/// For so many objects, each with six children and a status.
const MADE_WITHIN: Duration = Duration::from_secs(240);

/// What is under way when the last status is written: events, and what the caches
/// are told a moment later.
const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// So long nothing is heard of the operator before it counts as quiet.
const SILENCE: Duration = Duration::from_secs(5);

/// The operator then asks nothing for so long: for longer than the 30 s after which it rechecks
/// a name that is taken, the only thing that it rechecks regularly.
const OBSERVED: Duration = Duration::from_secs(35);

/// Renewals of the operator's own Lease in that time: one every 3.75 s to 5 s.
const RENEWALS: std::ops::RangeInclusive<u64> = 5..=11;

#[test]
fn a_thousand_queues_are_made_and_then_the_operator_only_watches() {
    let namespace = Namespace::alone("thousand");
    let api = Api::new(&namespace);
    let counters = Counters::install(&api, &namespace);
    let (begun, used) = (counters.read(&api), Usage::of(&api));
    let started = Instant::now();
    for number in 0..QUEUES {
        let one = queue(&format!("q-{number}"), &json!({"replicas": 0}));
        api.create(QUEUE, namespace.name(), &one).unwrap();
    }
    let created = started.elapsed();
    settle(MADE_WITHIN, || {
        let few = |kind: Kind| {
            let count = count(&api, kind, namespace.name());
            // Each namespace has a ServiceAccount of its own.
            let wanted = QUEUES + usize::from(kind == ACCOUNT);
            (count != wanted).then(|| format!("{count} of {wanted} {}", kind.plural))
        };
        let kinds = [ACCOUNT, ROLE, BINDING, LEASE, SERVICE, DEPLOYMENT];
        kinds.into_iter().filter_map(few).collect()
    });
    let made = started.elapsed();
    settle(MADE_WITHIN, || {
        let queues = api.list(QUEUE, namespace.name());
        let told = queues.iter().filter(|queue| is_told(queue)).count();
        (told != QUEUES)
            .then(|| format!("{told} of {QUEUES} have a status"))
            .into_iter()
            .collect()
    });
    let told = started.elapsed();
    let busy = counters.read(&api);
    let used_then = Usage::of(&api);
    say(&format!(
        "{QUEUES} queues: created in {:.1} s, all children there after {:.1} s and each status \
         after {:.1} s; the operator asked {} times, and used {:.1} s of CPU and {} MB of \
         memory",
        created.as_secs_f64(),
        made.as_secs_f64(),
        told.as_secs_f64(),
        busy.rest - begun.rest,
        used_then.cpu - used.cpu,
        used_then.memory / 1_000_000,
    ));
    // Else nobody is counted, and the silence would prove nothing.
    let least = u64::try_from(QUEUES * 7).unwrap();
    assert!(busy.rest - begun.rest >= least, "{begun}, then {busy}");

    let (mut last, mut since) = (busy, Instant::now());
    settle(QUIET_WITHIN, || {
        let now = counters.read(&api);
        if now.rest != last.rest {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() < SILENCE)
            .then(|| format!("the operator still asks: {last}"))
            .into_iter()
            .collect()
    });
    let quiet = started.elapsed();
    let (before, used_before) = (counters.read(&api), Usage::of(&api));
    thread::sleep(OBSERVED);
    let (after, used_after) = (counters.read(&api), Usage::of(&api));
    say(&format!(
        "{QUEUES} queues: quiet after {:.1} s, {} s after the last status; in the {} s after that \
         {} requests, {} to its own Lease, {} about other namespaces, {} watches begun anew; {:.2} s \
         of CPU, {} MB of memory",
        quiet.as_secs_f64(),
        (quiet - told).as_secs(),
        OBSERVED.as_secs(),
        after.rest - before.rest,
        after.own_lease - before.own_lease,
        after.elsewhere - before.elsewhere,
        after.watches - before.watches,
        used_after.cpu - used_before.cpu,
        used_after.memory / 1_000_000,
    ));
    assert_eq!(
        after.rest, before.rest,
        "the operator asked without a cause"
    );
    let renewals = after.own_lease - before.own_lease;
    assert!(RENEWALS.contains(&renewals), "{before}, then {after}");
    // The tests after this one shall find the node idle.
    let gone = Instant::now();
    let delete = ["delete", "namespace", namespace.name(), "--timeout=300s"];
    namespace.kubectl(&delete).unwrap();
    say(&format!(
        "{QUEUES} queues: gone with their namespace in {:.1} s",
        gone.elapsed().as_secs_f64()
    ));
}

fn is_told(queue: &Value) -> bool {
    let mut conditions = queue["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    queue["status"]["observedGeneration"] == queue["metadata"]["generation"]
        && conditions.any(|c| c["type"] == "Ready" && c["reason"] == "ScaledToZero")
}

/// How many there are, without reading them all.
fn count(api: &Api, kind: Kind, namespace: &str) -> usize {
    let path = format!("{}?limit=1", kind.path(namespace, ""));
    let page = api.read(&path).unwrap();
    let remaining = page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
    page["items"].as_array().unwrap().len() + usize::try_from(remaining).unwrap()
}

/// What the API server counts of the operator; removed when dropped.
pub(crate) struct Counters<'a>(&'a Namespace);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    watches: u64,
    own_lease: u64,
    elsewhere: u64,
    /// About the objects of the namespace.
    pub(crate) rest: u64,
}

impl std::fmt::Display for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            watches,
            own_lease,
            elsewhere,
            rest,
        } = self;
        write!(
            f,
            "{watches} watches, {own_lease} of its own Lease, {elsewhere} elsewhere, {rest} others"
        )
    }
}

const WATCHES: &str = "gwq-e2e-operator-watches";
const OWN_LEASE: &str = "gwq-e2e-operator-lease";
const ELSEWHERE: &str = "gwq-e2e-operator-elsewhere";
const REST: &str = "gwq-e2e-operator-rest";

impl<'a> Counters<'a> {
    /// Returns when requests are sorted by them.
    pub(crate) fn install(api: &Api, namespace: &'a Namespace) -> Self {
        let counters = Self(namespace);
        let all = json!(["*"]);
        let (system, _) = OPERATOR;
        let schemas = [
            (WATCHES, 101, json!(["watch"]), &all, json!(["*"])),
            (
                OWN_LEASE,
                102,
                json!(["get", "create", "update", "patch"]),
                &json!(["leases"]),
                json!([ELECTION.0]),
            ),
            (REST, 103, json!(["*"]), &all, json!([namespace.name()])),
            (ELSEWHERE, 104, json!(["*"]), &all, json!(["*"])),
        ];
        for (name, precedence, verbs, resources, namespaces) in schemas {
            let mut rule = json!({
                "subjects": [{
                    "kind": "ServiceAccount",
                    "serviceAccount": {"namespace": system, "name": OPERATOR.1},
                }],
                "resourceRules": [{
                    "verbs": verbs, "apiGroups": ["*"], "resources": resources,
                    "namespaces": namespaces, "clusterScope": true,
                }],
            });
            if name == REST {
                rule["nonResourceRules"] = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
            }
            let schema = json!({
                "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
                "kind": "FlowSchema",
                "metadata": {"name": name},
                "spec": {
                    "priorityLevelConfiguration": {"name": "workload-low"},
                    "matchingPrecedence": precedence,
                    "distinguisherMethod": {"type": "ByUser"},
                    "rules": [rule],
                },
            });
            namespace.apply(&schema.to_string()).unwrap();
        }
        // The probe is a GatewayQueue: it makes the operator ask.
        let probe = queue("probe", &json!({"replicas": 0}));
        api.create(QUEUE, namespace.name(), &probe).unwrap();
        let mut turn = 0;
        settle(QUIET_WITHIN, || {
            turn += 1;
            let spec = json!({"replicas": 0, "sessionReserve": turn});
            api.apply_queue(namespace.name(), "probe", &spec).unwrap();
            let counted = counters.read(api).rest > 0;
            (!counted)
                .then(|| "the operator's requests are not counted".to_owned())
                .into_iter()
                .collect()
        });
        api.delete(QUEUE, namespace.name(), "probe").unwrap();
        settle(QUIET_WITHIN, || {
            let left = count(api, ROLE, namespace.name());
            (left > 0)
                .then(|| "the probe is not gone".to_owned())
                .into_iter()
                .collect()
        });
        counters
    }

    pub(crate) fn read(&self, api: &Api) -> Requests {
        let metrics = api.text("/metrics");
        let of = |schema: &str| {
            let label = format!("flow_schema=\"{schema}\"");
            metrics
                .lines()
                .filter(|line| line.starts_with("apiserver_flowcontrol_dispatched_requests_total{"))
                .filter(|line| line.contains(&label))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        };
        Requests {
            watches: of(WATCHES),
            own_lease: of(OWN_LEASE),
            elsewhere: of(ELSEWHERE),
            rest: of(REST),
        }
    }
}

impl Drop for Counters<'_> {
    fn drop(&mut self) {
        let delete = [
            "delete",
            "flowschema",
            "--ignore-not-found",
            WATCHES,
            OWN_LEASE,
            ELSEWHERE,
            REST,
        ];
        let _ = self.0.kubectl(&delete);
    }
}

/// What the operator's pods use, as the kubelet measures it.
struct Usage {
    /// Seconds since their start.
    cpu: f64,
    /// Bytes.
    memory: u64,
}

impl Usage {
    fn of(api: &Api) -> Self {
        let (mut cpu, mut memory) = (0.0, 0);
        let nodes = api.read("/api/v1/nodes").unwrap();
        for node in nodes["items"].as_array().unwrap() {
            let name = node["metadata"]["name"].as_str().unwrap();
            let path = format!("/api/v1/nodes/{name}/proxy/stats/summary");
            let summary = api.read(&path).unwrap();
            let pods = summary["pods"].as_array().unwrap().iter();
            for pod in pods.filter(|pod| pod["podRef"]["namespace"] == OPERATOR.0) {
                let used = pod["cpu"]["usageCoreNanoSeconds"].as_f64().unwrap_or(0.0);
                cpu += used / 1e9;
                memory += pod["memory"]["workingSetBytes"].as_u64().unwrap_or(0);
            }
        }
        Self { cpu, memory }
    }
}
