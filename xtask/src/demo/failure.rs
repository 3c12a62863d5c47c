//! What helps to find the cause of a failed demo.

use crate::install;
use crate::kubernetes::Kubernetes;

/// Prints the state, the events and the logs of everything that took part.
pub(crate) fn print(kubernetes: &Kubernetes, namespace: &str) {
    let record = super::record_path(namespace);
    let ours = format!("--namespace {namespace}");
    let system = format!("--namespace {}", install::NAMESPACE);
    let logs = "logs --prefix --selector app.kubernetes.io/name";
    for command in [
        format!("{ours} get gwq,pods,services,endpointslices,leases --output wide"),
        format!("{ours} describe gwq"),
        format!("{ours} get events --sort-by=.lastTimestamp"),
        format!("{ours} {logs}=gateway-queue --tail=100"),
        format!("{ours} logs deployment/fake-discord --tail=50"),
        format!("{ours} {logs}=bot --tail=50"),
        format!("{system} logs deployment/gateway-queue-operator --tail=100"),
        format!("get --raw {record}"),
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let output = kubernetes.kubectl(&arguments);
        let output = output.unwrap_or_else(|error| format!("{error:#}"));
        println!("\n--- kubectl {command}\n{}", output.trim_end());
    }
    println!();
}
