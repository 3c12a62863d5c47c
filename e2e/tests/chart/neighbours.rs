//! Two releases in two namespaces.

use crate::cluster::{Namespace, kubectl};
use crate::definition::Definition;
use crate::helm::Helm;

const RELEASE: &str = "twin";

#[test]
fn two_releases_of_one_name_serve_a_namespace_each() {
    let _definition = Definition::present();
    let namespaces = [Namespace::new("one"), Namespace::new("two")];
    let pairs = Helm::BOTH.iter().zip(&namespaces);
    for (helm, namespace) in pairs.clone() {
        helm.install(namespace, RELEASE, &["--set=replicas=2"])
            .unwrap();
    }
    // Nothing of them is for the whole cluster.
    let ours = "--selector=app.kubernetes.io/instance=twin";
    let roles = [
        "get",
        "clusterroles,clusterrolebindings",
        ours,
        "--output=name",
    ];
    assert_eq!(kubectl(&roles).unwrap(), "");

    for (helm, namespace) in pairs.clone() {
        helm.test(namespace, RELEASE);
        namespace.apply_queue("bot");
        namespace.wait_until_ready("bot");
        let path = format!(
            "/api/v1/namespaces/{}/services/twin-gateway-queue-operator-metrics:admin/proxy/readyz",
            namespace.name()
        );
        assert_eq!(kubectl(&["get", "--raw", &path]).unwrap(), "ok\n");
        let budget = ["get", "poddisruptionbudget/twin-gateway-queue-operator"];
        namespace.kubectl(&budget).unwrap();
    }

    let [first, second] = &namespaces;
    Helm::Three
        .run(first, &["uninstall", RELEASE, "--wait"])
        .unwrap();
    Helm::Four.test(second, RELEASE);
    Helm::Four
        .run(second, &["uninstall", RELEASE, "--wait"])
        .unwrap();
}
