//! What a person needs to find out why it failed.

use crate::install;
use crate::kubernetes::Kubernetes;

/// Prints the state, the events and the logs of everything that took part.
pub(crate) fn tell(kubernetes: &Kubernetes, namespace: &str) {
    let record =
        format!("/api/v1/namespaces/{namespace}/services/fake-discord:control/proxy/record");
    let queue = "app.kubernetes.io/name=gateway-queue";
    let everything: [&[&str]; 8] = [
        &[
            "--namespace",
            namespace,
            "get",
            "gwq,pods,services,endpointslices,leases",
            "--output",
            "wide",
        ],
        &["--namespace", namespace, "describe", "gwq"],
        &[
            "--namespace",
            namespace,
            "get",
            "events",
            "--sort-by=.lastTimestamp",
        ],
        &[
            "--namespace",
            namespace,
            "logs",
            "--selector",
            queue,
            "--tail=100",
            "--prefix",
        ],
        &[
            "--namespace",
            namespace,
            "logs",
            "deployment/fake-discord",
            "--tail=50",
        ],
        &[
            "--namespace",
            namespace,
            "logs",
            "--selector",
            "app.kubernetes.io/name=bot",
            "--tail=50",
            "--prefix",
        ],
        &[
            "--namespace",
            install::NAMESPACE,
            "logs",
            "deployment/gateway-queue-operator",
            "--tail=100",
        ],
        &["get", "--raw", &record],
    ];
    for arguments in everything {
        println!("\n--- kubectl {}", arguments.join(" "));
        match kubernetes.kubectl(arguments) {
            Ok(said) => println!("{}", said.trim_end()),
            Err(error) => println!("{error:#}"),
        }
    }
    println!();
}
