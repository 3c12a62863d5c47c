//! The operator's process, on the node's machine: its restarts and its memory.

use std::fs;

use serde_json::Value;

use crate::api::{Api, POD};
use crate::kubectl::OPERATOR;
use crate::process::{Process, proc};

/// The program, as its image starts it.
const PROGRAM: &str = "/gateway-queue-operator";

/// The process of the operator.
pub(crate) struct OperatorProcess(pub(crate) Process);

impl OperatorProcess {
    /// Finds the process of the only operator.
    pub(crate) fn find(api: &Api) -> Self {
        let pods = running(api);
        let [pod] = &pods[..] else {
            panic!("not one operator: {pods:#?}");
        };
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        Self(Process::in_pod(uid, PROGRAM))
    }

    /// The resident memory, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most resident memory since it started, in MiB.
    pub(crate) fn peak_memory(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> f64 {
        let status = fs::read_to_string(proc(self.0.pid, "status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<f64>().unwrap() / 1024.0
    }
}

/// The operator's running pods, and the restarts of each.
pub(crate) fn starts(api: &Api) -> Vec<(Value, Value)> {
    let mut starts: Vec<_> = running(api)
        .iter()
        .map(|pod| {
            let name = pod["metadata"]["name"].clone();
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
            (name, restarts)
        })
        .collect();
    starts.sort_by_key(|(name, _)| name.to_string());
    assert!(!starts.is_empty(), "no operator is running");
    starts
}

fn running(api: &Api) -> Vec<Value> {
    let mut pods = api.list(POD, OPERATOR.0);
    pods.retain(|pod| {
        pod["status"]["phase"] == "Running"
            && pod["metadata"]["labels"]["app.kubernetes.io/instance"] == OPERATOR.1
    });
    pods
}
