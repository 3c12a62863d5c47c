//! The CustomResourceDefinition, of which a cluster has one.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::{Value, json};

use crate::cluster::{feed, kubectl};

const NAME: &str = "gatewayqueues.gatewayqueue.dev";

static CLUSTER: RwLock<()> = RwLock::new(());

/// What the whole cluster has, to be left as it is by the tests that hold this at the same
/// time: the definition, which the suite's own release brings, and the kinds of monitors.
pub(crate) struct Shared {
    _guard: RwLockReadGuard<'static, ()>,
}

impl Shared {
    pub(crate) fn hold() -> Self {
        Self {
            _guard: CLUSTER.read().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// The right of one test to do with the definition what it likes, while no other test
/// holds anything. When dropped, the definition is as it was: whose release it is, what it
/// says, and who owns which of its fields, as helm 4 goes by that.
pub(crate) struct Definition {
    before: Option<Value>,
    _guard: RwLockWriteGuard<'static, ()>,
}

impl Definition {
    pub(crate) fn borrow() -> Self {
        let guard = CLUSTER.write().unwrap_or_else(PoisonError::into_inner);
        Self {
            before: now(),
            _guard: guard,
        }
    }

    /// Whether the definition knows a queue with several pods: the first chart's
    /// did not.
    pub(crate) fn has_replicas() -> bool {
        let Some(definition) = now() else {
            return false;
        };
        let version = &definition["spec"]["versions"][0];
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["properties"]["replicas"].is_object() && version["subresources"]["scale"].is_object()
    }

    /// The version of the chart that wrote it.
    pub(crate) fn chart() -> Option<String> {
        let definition = now()?;
        let chart = definition["metadata"]["labels"]["helm.sh/chart"].as_str()?;
        Some(chart.to_owned())
    }
}

impl Drop for Definition {
    fn drop(&mut self) {
        let restored = match &self.before {
            Some(before) => restore(before),
            None => kubectl(&["delete", "crd", NAME, "--ignore-not-found"]).map(|_| ()),
        };
        if let Err(error) = restored {
            println!("the definition is not as it was: {error}");
        }
    }
}

fn restore(before: &Value) -> Result<(), String> {
    let mut object = before.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    let fields = metadata.remove("managedFields");
    for told in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
        metadata.remove(told);
    }
    feed(&["replace", "--filename", "-"], &object.to_string())?;
    let patch = json!({"metadata": {"managedFields": fields}}).to_string();
    kubectl(&["patch", "crd", NAME, "--type=merge", "--patch", &patch]).map(|_| ())
}

fn now() -> Option<Value> {
    let get = [
        "get",
        "crd",
        NAME,
        "--output=json",
        "--ignore-not-found",
        "--show-managed-fields",
    ];
    let said = kubectl(&get).unwrap();
    serde_json::from_str(&said).ok()
}
