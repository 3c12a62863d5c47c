//! Followers that cannot reach the leader report it on the Lease at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gateway_queue_core::leadership::state::Leader;
use gateway_queue_core::lease_state::Unreachable;
use gateway_queue_testkit::api_server::FakeApiServer;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::pod::{Pod, new_lease};

const HOLDER: &str = "other_0badcafe-1";
const PODS: [&str; 4] = ["one", "two", "three", "four"];

fn has_report(lease: &Value, pod: &str) -> bool {
    !lease["metadata"]["annotations"][Unreachable::key(pod)].is_null()
}

/// The test is the leader and decides when the Lease is renewed.
#[tokio::test]
async fn reports_of_several_followers_do_not_need_a_renewal_each() {
    let leader = Leader {
        holder: HOLDER.to_owned(),
        address: ([127, 0, 0, 1], 9).into(),
    };
    let server = FakeApiServer::start().await;
    let mut lease = new_lease();
    lease["metadata"]["annotations"] =
        json!({"gatewayqueue.dev/leader-address": leader.address.to_string()});
    lease["spec"] = json!({"holderIdentity": HOLDER, "leaseDurationSeconds": 30,
        "renewTime": "2026-11-27T03:04:05.000000Z"});
    server.create(lease);

    let conflicts = Arc::new(AtomicU32::new(0));
    let mut pods = Vec::new();
    for name in PODS {
        let mut pod = Pod::start(&server, name).await;
        pod.until_it_follows_holder(HOLDER).await;
        pod.report_unreachable(leader.clone(), Arc::clone(&conflicts));
        // All have sent their reports before one of them is on the Lease.
        server.faults(pod.token(), |faults| {
            faults.request_delay = Duration::from_millis(50);
        });
        pods.push(pod);
    }
    let mut renewals = 0;
    loop {
        renewals += 1;
        let time = format!("2026-11-27T03:05:{renewals:02}.000000Z");
        server.edit(&json!({"spec": {"renewTime": time}}));
        let reported = server.until(|lease| PODS.iter().all(|pod| has_report(lease, pod)));
        // Longer than a renewal may be reported on.
        if timeout(Duration::from_secs(2), reported).await.is_ok() {
            break;
        }
    }
    assert!(renewals < PODS.len(), "each report took a renewal");
    assert!(conflicts.load(Ordering::Relaxed) > 0);
}
