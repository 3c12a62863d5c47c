//! Two releases that serve one namespace.

use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{apply_queue, get_through_service, namespace, wait_for, without_discord};
use crate::definition::shared;
use crate::helm::Helm;

/// Two leaders would overwrite each other's changes within seconds.
const UNDISTURBED: Duration = Duration::from_secs(20);

#[test]
fn of_two_releases_that_serve_one_namespace_one_leads_and_the_other_is_on_standby() {
    let _shared = shared();
    let namespace = &namespace("both");
    let name = namespace.name();
    let helm = Helm::Four;
    helm.install(namespace, "left", "");
    apply_queue(namespace, "bot", &without_discord());
    namespace.wait_until_ready("bot");
    let other_image = "--set=queueImage.registry=no-such-registry";
    // An operator on standby is ready.
    helm.install(namespace, "right", other_image);

    let leader = || {
        let lease = "lease/namespace.operator.gatewayqueue.dev";
        namespace.field(lease, ".spec.holderIdentity")
    };
    let deployment = |path| namespace.field("deployment/bot-queue", path);
    let generation = deployment(".metadata.generation");
    let started = Instant::now();
    while started.elapsed() < UNDISTURBED {
        let leader = leader();
        assert!(leader.starts_with(&format!("{name}/left-")), "{leader}");
        assert_eq!(deployment(".metadata.generation"), generation);
        thread::sleep(Duration::from_secs(1));
    }
    let service = "right-gateway-queue-operator-metrics:admin";
    let metrics = get_through_service(namespace, service, "metrics");
    let standby = format!("gateway_queue_operator_leader{{scope=\"{name}\"}} 0\n");
    assert!(metrics.contains(&standby), "{metrics}");

    helm.run(namespace, "uninstall left --wait").unwrap();
    wait_for("the release on standby to take over", || {
        let image = deployment(".spec.template.spec.containers[0].image");
        if image.starts_with("no-such-registry/") {
            Ok(())
        } else {
            Err(image)
        }
    });
    let leader = leader();
    assert!(leader.starts_with(&format!("{name}/right-")), "{leader}");
}
