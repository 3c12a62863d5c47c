//! The requests that the operator makes, counted by the API server.
//!
//! API Priority and Fairness sorts requests by FlowSchema and counts them. The FlowSchemas
//! here separate the operator's watches, its own Lease and requests about other namespaces
//! from requests about one namespace.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::{Api, Kind};
use crate::kubectl::{ELECTION, Namespace, OPERATOR, kubectl};
use crate::wait::settle;

const PATIENCE: Duration = Duration::from_secs(120);

/// The FlowSchemas, deleted when dropped.
pub(crate) struct Counters<'a>(&'a Namespace);

/// How many requests were made since the API server started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    pub(crate) watches: u64,
    pub(crate) own_lease: u64,
    pub(crate) elsewhere: u64,
    /// Requests about objects of the namespace, or of all namespaces.
    pub(crate) rest: u64,
}

const KINDS: [&str; 4] = ["watches", "own-lease", "rest", "elsewhere"];

impl<'a> Counters<'a> {
    /// Creates the FlowSchemas, and waits until requests are counted by them.
    pub(crate) fn install(api: &Api, namespace: &'a Namespace) -> Self {
        let counters = Self(namespace);
        let all = json!(["*"]);
        let lease_verbs = json!(["get", "create", "update", "patch"]);
        let own = json!([namespace.name()]);
        let rules = [
            (json!(["watch"]), all.clone(), all.clone()),
            (lease_verbs, json!(["leases"]), json!([ELECTION.0])),
            (all.clone(), all.clone(), own),
            (all.clone(), all.clone(), all.clone()),
        ];
        for (number, (verbs, resources, namespaces)) in rules.into_iter().enumerate() {
            let kind = KINDS[number];
            let other_urls = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
            let schema = json!({
                "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
                "kind": "FlowSchema",
                "metadata": {"name": counters.name(kind)},
                "spec": {
                    "priorityLevelConfiguration": {"name": "workload-low"},
                    "matchingPrecedence": 101 + number,
                    "distinguisherMethod": {"type": "ByUser"},
                    "rules": [{
                        "subjects": [{
                            "kind": "ServiceAccount",
                            "serviceAccount": {"namespace": OPERATOR.0, "name": OPERATOR.1},
                        }],
                        "resourceRules": [{
                            "verbs": verbs, "apiGroups": all, "resources": resources,
                            "namespaces": namespaces, "clusterScope": true,
                        }],
                        "nonResourceRules": if kind == "rest" { other_urls } else { json!([]) },
                    }],
                },
            });
            namespace.apply(&schema.to_string()).unwrap();
        }
        // Each change of this GatewayQueue causes requests of the operator. It stays: the garbage
        // collector is slow after a restart of the API server.
        let mut changes = 0;
        settle(PATIENCE, || {
            changes += 1;
            let spec = json!({"replicas": 0, "sessionReserve": changes});
            api.apply_queue(namespace.name(), "probe", &spec).unwrap();
            let counted = counters.read(api).rest > 0;
            (!counted).then(|| "the operator's requests are not counted".to_owned())
        });
        counters
    }

    pub(crate) fn read(&self, api: &Api) -> Requests {
        let metrics = api.text("/metrics").unwrap();
        let [watches, own_lease, rest, elsewhere] = KINDS.map(|kind| {
            let label = format!("flow_schema=\"{}\"", self.name(kind));
            metrics
                .lines()
                .filter(|line| line.starts_with("apiserver_flowcontrol_dispatched_requests_total{"))
                .filter(|line| line.contains(&label))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        });
        Requests {
            watches,
            own_lease,
            elsewhere,
            rest,
        }
    }

    /// Waits until the operator makes no request for `silence`. Calls `begin` whenever the wait
    /// begins: at first, and after each request.
    pub(crate) fn wait_for_silence(&self, api: &Api, silence: Duration, mut begin: impl FnMut()) {
        let (mut last, mut since) = (self.read(api), Instant::now());
        begin();
        settle(PATIENCE, || {
            let now = self.read(api);
            if now.rest != last.rest {
                (last, since) = (now, Instant::now());
                begin();
            }
            (since.elapsed() < silence)
                .then(|| format!("the operator still makes requests: {now:?}"))
        });
    }

    fn name(&self, kind: &str) -> String {
        format!("{}-{kind}", self.0.name())
    }
}

impl Drop for Counters<'_> {
    fn drop(&mut self) {
        let names = KINDS.map(|kind| self.name(kind)).join(" ");
        let _ = kubectl(&format!("delete flowschema --ignore-not-found {names}"));
    }
}

/// The number of objects of a kind, without reading them all.
pub(crate) fn count(api: &Api, kind: Kind, namespace: &str) -> usize {
    let path = format!("{}?limit=1", kind.path(namespace, ""));
    let page = api.read(&path).unwrap();
    let remaining = page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
    page["items"].as_array().unwrap().len() + usize::try_from(remaining).unwrap()
}
