//! Two releases, in two namespaces and in one.

use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Namespace, kubectl, wait_for};
use crate::definition::Shared;
use crate::helm::Helm;

const RELEASE: &str = "twin";

#[test]
fn two_releases_of_one_name_serve_a_namespace_each() {
    let _shared = Shared::hold();
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

/// Two that both worked would roll the queue back and forth within seconds.
const UNDISTURBED: Duration = Duration::from_secs(20);

#[test]
fn of_two_releases_that_serve_one_namespace_one_leads_and_the_other_is_on_standby() {
    let _shared = Shared::hold();
    let namespace = &Namespace::new("both");
    let helm = Helm::Four;
    helm.install(namespace, "left", &[]).unwrap();
    namespace.apply_queue("bot");
    namespace.wait_until_ready("bot");
    // Ready on standby, too.
    let other = "--set=queueImage.repository=no-such-image";
    helm.install(namespace, "right", &[other]).unwrap();

    let leader = || {
        let path = "--output=jsonpath={.spec.holderIdentity}";
        let get = ["get", "lease", "namespace.operator.gatewayqueue.dev", path];
        namespace.kubectl(&get).unwrap()
    };
    let deployment = |path: &str| {
        let path = format!("--output=jsonpath={{{path}}}");
        let get = ["get", "deployment", "bot", &path];
        namespace.kubectl(&get).unwrap()
    };
    let generation = deployment(".metadata.generation");
    let started = Instant::now();
    while started.elapsed() < UNDISTURBED {
        let left = format!("{}/left-", namespace.name());
        assert!(leader().starts_with(&left), "{}", leader());
        assert_eq!(deployment(".metadata.generation"), generation);
        thread::sleep(Duration::from_secs(1));
    }
    let path = format!(
        "/api/v1/namespaces/{}/services/right-gateway-queue-operator-metrics:admin/proxy/metrics",
        namespace.name()
    );
    let metrics = kubectl(&["get", "--raw", &path]).unwrap();
    let standby = format!(
        "gateway_queue_operator_leader{{scope=\"{}\"}} 0\n",
        namespace.name()
    );
    assert!(metrics.contains(&standby), "{metrics}");

    helm.run(namespace, &["uninstall", "left", "--wait"])
        .unwrap();
    wait_for("the release on standby to take over", || {
        let image = deployment(".spec.template.spec.containers[0].image");
        match image.contains("no-such-image") {
            true => Ok(()),
            false => Err(image),
        }
    });
    let right = format!("{}/right-", namespace.name());
    assert!(leader().starts_with(&right), "{}", leader());
    helm.run(namespace, &["uninstall", "right", "--wait"])
        .unwrap();
}
