//! The time from the apply of a GatewayQueue to its condition Ready, and the same for its children
//! applied by hand.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Api, DEPLOYMENT, POD, QUEUE, condition, is_ready};
use crate::bare::Children;
use crate::figures::document;
use crate::kubectl::Namespace;
use crate::lines::Lines;
use crate::schedule::Phase;
use crate::wait::settle;

/// The GatewayQueue whose children are copied. It has no pods, and so never a leader.
const MODEL: &str = "model-queue";

/// A pod without waiting clients ends within seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The time between two looks of the kubelet at which containers have started or ended.
const KUBELET_PERIOD: Duration = Duration::from_secs(1);

/// The fractional parts of its multiples are evenly spread.
const GOLDEN_RATIO: f64 = 0.618;

/// The namespace, observed in the same way for both sides.
struct Scene {
    namespace: Namespace,
    api: Api,
    children: Children,
    queues: Lines,
    deployments: Lines,
    pods: Lines,
}

pub(crate) fn measure(rounds: usize) -> Value {
    let scene = Scene::new();
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    // The first round is not measured: it loads the image and starts the watches.
    for round in 0..=rounds {
        let (first, second) = if round % 2 == 1 {
            let first = scene.by_operator(round);
            (first, scene.by_hand(round))
        } else {
            let second = scene.by_hand(round);
            (scene.by_operator(round), second)
        };
        if round > 0 {
            ours.push(first.as_secs_f64());
            peer.push(second.as_secs_f64());
        }
    }
    document([(ours, peer)])
}

impl Scene {
    fn new() -> Self {
        let namespace = Namespace::in_phase("ready", Phase::Timing);
        let api = Api::new();
        let name = namespace.name();
        api.apply_queue(name, MODEL, &spec(0)).unwrap();
        settle(PATIENCE, || {
            let queue = api.get(QUEUE, name, MODEL).unwrap();
            let [_, reason, _] = condition(&queue, "Ready");
            (reason != "ScaledToZero").then_some(reason)
        });
        Self {
            children: Children::of(&api, name, MODEL),
            queues: Lines::watch(QUEUE, name),
            deployments: Lines::watch(DEPLOYMENT, name),
            pods: Lines::watch(POD, name),
            namespace,
            api,
        }
    }

    fn by_operator(&self, round: usize) -> Duration {
        let (api, namespace) = (&self.api, self.namespace.name());
        let name = format!("operator-{round}");
        let started = begin(round);
        api.apply_queue(namespace, &name, &spec(1)).unwrap();
        let at = self.queues.find(|queue| is(queue, &name, "Ready"));
        api.delete(QUEUE, namespace, &name).unwrap();
        self.wait_for_the_end_of_pods();
        at - started
    }

    fn by_hand(&self, round: usize) -> Duration {
        let (api, namespace) = (&self.api, self.namespace.name());
        let name = format!("hand-{round}");
        let mut children: Vec<_> = self.children.named(&name).collect();
        for (_, child) in children.iter_mut().filter(|(kind, _)| *kind == DEPLOYMENT) {
            child["spec"]["replicas"] = json!(1);
        }
        let started = begin(round);
        for (kind, child) in &children {
            api.apply(*kind, namespace, &kind.child_of(&name), child)
                .unwrap();
        }
        let prefix = format!("{name}-");
        let ready = self.pods.find(|pod| {
            let name = pod["metadata"]["name"].as_str();
            name.is_some_and(|name| name.starts_with(&prefix)) && is_ready(pod)
        });
        let available = self
            .deployments
            .find(|deployment| is(deployment, &DEPLOYMENT.child_of(&name), "Available"));
        for (kind, _) in &children {
            api.delete(*kind, namespace, &kind.child_of(&name)).unwrap();
        }
        self.wait_for_the_end_of_pods();
        ready.max(available) - started
    }

    fn wait_for_the_end_of_pods(&self) {
        settle(PATIENCE, || {
            let pods = self.api.list(POD, self.namespace.name());
            (!pods.is_empty()).then(|| format!("{} pods are left", pods.len()))
        });
    }
}

/// Returns the start of a measurement. It would always follow a look of the kubelet, at the end of
/// the last pod, so the rounds pause for different parts of the kubelet's period.
fn begin(round: usize) -> Instant {
    thread::sleep(KUBELET_PERIOD.mul_f64(round as f64 * GOLDEN_RATIO % 1.0));
    Instant::now()
}

fn spec(replicas: usize) -> Value {
    json!({"replicas": replicas, "maxConcurrency": 1})
}

/// Whether this condition of the object of this name is true.
fn is(object: &Value, name: &str, type_: &str) -> bool {
    let [status, ..] = condition(object, type_);
    object["metadata"]["name"] == name && status == "True"
}
