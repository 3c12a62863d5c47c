//! Namespaces and the operator.

use std::io::Write;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::json;

use crate::common::namespace;
pub(crate) use crate::common::namespace::{TOKEN, command, discord_api, kubectl, variable};
use crate::schedule::{Phase, Slot};

/// An empty namespace, deleted when dropped.
pub(crate) struct Namespace {
    namespace: namespace::Namespace,
    /// The permission to run, of the first namespace of a test.
    slot: Option<Mutex<Slot>>,
}

impl Namespace {
    /// Creates one for a test that mostly waits.
    pub(crate) fn new(name: &str) -> Self {
        Self::in_phase(name, Phase::Short)
    }

    /// Creates one when this phase has come. A namespace that is left from an earlier run is
    /// deleted first.
    pub(crate) fn in_phase(name: &str, phase: Phase) -> Self {
        let slot = Slot::of(phase);
        Self::create(name, Some(Mutex::new(slot)))
    }

    /// Creates another one for the same test.
    pub(crate) fn another(&self, name: &str) -> Self {
        Self::create(name, None)
    }

    fn create(name: &str, slot: Option<Mutex<Slot>>) -> Self {
        let name = format!("gwq-e2e-{name}");
        kubectl(&format!("delete namespace {name} --ignore-not-found")).unwrap();
        let namespace = namespace::Namespace::create(name, &json!({}));
        Self { namespace, slot }
    }

    /// Waits for a later phase.
    pub(crate) fn move_to(&self, phase: Phase) {
        if let Some(slot) = &self.slot {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.move_to(phase);
        }
    }

    pub(crate) fn apply(&self, manifest: &str) -> Result<String, String> {
        self.feed("apply --filename -", manifest)
    }
}

impl Deref for Namespace {
    type Target = namespace::Namespace;

    fn deref(&self) -> &Self::Target {
        &self.namespace
    }
}

/// The start of this run of `cargo xtask test`. Older lines of the operator's log belong to
/// earlier runs.
pub(crate) fn run_started() -> Timestamp {
    let second = variable("E2E_STARTED").parse().unwrap();
    Timestamp::from_second(second).unwrap()
}

/// The namespace and the name of the operator.
pub(crate) const OPERATOR: (&str, &str) = ("gateway-queue-system", "gateway-queue-operator");

/// The namespace and the name of the Lease of the operators of all namespaces.
pub(crate) const ELECTION: (&str, &str) = ("kube-system", "operator.gatewayqueue.dev");

/// The operator with another number of replicas, until this is dropped.
pub(crate) struct ScaledOperator {
    replicas_before: String,
}

impl ScaledOperator {
    pub(crate) fn to(replicas: u8) -> Self {
        let path = "jsonpath={.spec.replicas}";
        let get = format!("get deployment/{} --output={path}", OPERATOR.1);
        let replicas_before = operator_kubectl(&get).unwrap();
        let scaled = Self { replicas_before };
        scaled.scale(&replicas.to_string()).unwrap();
        scaled
    }

    fn scale(&self, replicas: &str) -> Result<String, String> {
        operator_kubectl(&format!(
            "scale deployment/{} --replicas={replicas}",
            OPERATOR.1
        ))
    }
}

impl Drop for ScaledOperator {
    fn drop(&mut self) {
        let rollout = format!("rollout status deployment/{} --timeout=90s", OPERATOR.1);
        let scaled = self.scale(&self.replicas_before);
        let back = scaled.and_then(|_| operator_kubectl(&rollout));
        // A panic while a test fails would abort the process.
        if let Err(error) = back {
            eprintln!("cannot restart the operator: {error}");
        }
    }
}

/// Runs kubectl in the namespace of the operator.
pub(crate) fn operator_kubectl(arguments: &str) -> Result<String, String> {
    kubectl(&format!("--namespace {} {arguments}", OPERATOR.0))
}

/// The image of the operator.
pub(crate) fn operator_image() -> String {
    image(OPERATOR.0, OPERATOR.1)
}

/// The image of the shards and the fake Discord.
pub(crate) fn shards_image() -> String {
    image(&variable("E2E_NAMESPACE"), "fake-discord")
}

fn image(namespace: &str, deployment: &str) -> String {
    let get = format!("get deployment/{deployment} --namespace {namespace}");
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    kubectl(&format!("{get} --output={path}")).unwrap()
}

/// Prints a line even if the test passes: the harness captures only what macros print.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The seed of a random test: SEED, or a random one. It is printed.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    say(&format!("SEED={seed}"));
    seed
}
