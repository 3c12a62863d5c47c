//! The CustomResourceDefinition, of which a cluster has one.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::{Value, json};

use crate::cluster::{feed, kubectl};

const NAME: &str = "gatewayqueues.gatewayqueue.dev";

static CLUSTER: RwLock<()> = RwLock::new(());

/// Keeps other tests from changing the definition.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    CLUSTER.read().unwrap_or_else(PoisonError::into_inner)
}

/// Lets one test change the definition while no other test runs. When dropped, the definition is
/// restored: its release, its spec, and the owners of its fields, which helm 4 respects.
pub(crate) struct Definition {
    before: Value,
    _guard: RwLockWriteGuard<'static, ()>,
}

impl Definition {
    pub(crate) fn borrow() -> Self {
        let guard = CLUSTER.write().unwrap_or_else(PoisonError::into_inner);
        Self {
            before: Self::get(),
            _guard: guard,
        }
    }

    /// Returns the chart that wrote it, with the version.
    pub(crate) fn chart(&self) -> String {
        let chart = &Self::get()["metadata"]["labels"]["helm.sh/chart"];
        chart.as_str().unwrap_or_default().to_owned()
    }

    /// Returns whether it has `spec.replicas` and the scale subresource, unlike that of the first
    /// chart.
    pub(crate) fn has_replicas(&self) -> bool {
        let version = &Self::get()["spec"]["versions"][0];
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["properties"]["replicas"].is_object() && version["subresources"]["scale"].is_object()
    }

    fn get() -> Value {
        let get = format!("get crd {NAME} --output=json --show-managed-fields");
        serde_json::from_str(&kubectl(&get).unwrap()).unwrap()
    }

    fn restore(&self) -> Result<(), String> {
        let mut object = self.before.clone();
        let metadata = object["metadata"].as_object_mut().unwrap();
        let fields = metadata.remove("managedFields");
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
            metadata.remove(field);
        }
        feed("replace --filename -", &object.to_string())?;
        let patch = json!({"metadata": {"managedFields": fields}}).to_string();
        let from_stdin = format!("patch crd {NAME} --type=merge --patch-file=/dev/stdin");
        feed(&from_stdin, &patch).map(drop)
    }
}

impl Drop for Definition {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            println!("the definition is not restored: {error}");
        }
    }
}
