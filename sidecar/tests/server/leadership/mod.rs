//! The candidate and its Lease client with a fake API server over real HTTP, in real time: one
//! leads, never two, and pods recover from faults.

mod deleted;
mod pod;
mod reports;

use std::time::Duration;

use gateway_queue_testkit::api_server::{FakeApiServer, Faults, WatchFault};
use gateway_queue_testkit::certificates::Authority;
use serde_json::{Value, json};
use tokio::time::{interval, sleep};

use pod::{DURATION, Judge, Pod, new_lease, until_one_leads_and_the_other_follows};

fn holder(lease: &Value) -> &str {
    lease["spec"]["holderIdentity"].as_str().unwrap_or("")
}

async fn server() -> FakeApiServer {
    let server = FakeApiServer::start().await;
    server.create(new_lease());
    server
}

/// Starts a leader and its follower.
async fn leader_and_follower(server: &FakeApiServer) -> (Pod, Pod) {
    let one = Pod::start(server, "one").await;
    one.until_it_leads().await;
    let two = Pod::start(server, "two").await;
    two.until_it_follows(&one).await;
    (one, two)
}

/// Waits until the Lease was renewed after this call.
async fn renewed(server: &FakeApiServer) {
    let before = server.lease().unwrap()["spec"]["renewTime"].clone();
    server
        .until(|lease| lease["spec"]["renewTime"] != before)
        .await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_is_replaced_and_follows_when_it_returns() {
    let server = server().await;
    let (one, two) = leader_and_follower(&server).await;
    let judge = Judge::of([&one, &two]);
    server.faults(one.token(), |faults| faults.cut = true);
    two.until_it_leads().await;
    assert!(!one.may_grant());
    server.faults(one.token(), |faults| faults.cut = false);
    one.until_it_follows(&two).await;
    judge.found_one_leader();
}

#[tokio::test]
async fn a_leader_that_resigns_is_replaced_immediately() {
    let server = server().await;
    let (one, two) = leader_and_follower(&server).await;
    let judge = Judge::of([&one, &two]);
    one.resign();
    let released = server.until(|lease| holder(lease).is_empty()).await;
    assert_ne!(
        released["metadata"]["annotations"]["gatewayqueue.dev/handover"],
        json!(null)
    );
    two.until_it_leads().await;
    one.until_it_has_left().await;
    judge.found_one_leader();
}

#[tokio::test]
async fn a_slow_api_server_and_edits_of_other_clients_do_not_change_the_leader() {
    let server = server().await;
    let (one, two) = leader_and_follower(&server).await;
    for pod in [&one, &two] {
        server.faults(pod.token(), |faults| {
            faults.request_delay = Duration::from_millis(100);
            faults.answer_delay = Duration::from_millis(100);
        });
    }
    let judge = Judge::of([&one, &two]);
    let held = holder(&server.lease().unwrap()).to_owned();
    let mut edits = interval(Duration::from_millis(700));
    for edit in 0..12 {
        edits.tick().await;
        server.edit(&json!({"metadata": {"labels": {"edit": edit.to_string()}}}));
    }
    renewed(&server).await;
    assert_eq!(holder(&server.lease().unwrap()), held);
    judge.found_one_leader();
}

#[tokio::test]
async fn a_token_that_is_no_longer_accepted_is_read_again() {
    let server = server().await;
    let mut one = Pod::start(&server, "one").await;
    one.until_it_leads().await;
    server.faults(one.token(), |faults| faults.status = Some(401));
    one.until_it_may_not_grant().await;
    let held = holder(&server.lease().unwrap()).to_owned();
    one.renew_token("one, renewed");
    one.until_it_leads().await;
    assert_eq!(holder(&server.lease().unwrap()), held);
}

#[tokio::test]
async fn answers_that_are_no_lease_are_retried() {
    let server = server().await;
    let bodies: [&[u8]; 4] = [b"", b"<html>", b"{}", &[0xff; 4 * 1024 * 1024]];
    let (one, two) = leader_and_follower(&server).await;
    let judge = Judge::of([&one, &two]);
    for body in bodies {
        for pod in [&one, &two] {
            server.faults(pod.token(), |faults| faults.body = Some(body.to_vec()));
        }
        sleep(Duration::from_millis(500)).await;
    }
    one.until_it_may_not_grant().await;
    for status in [404, 409, 500, 503] {
        for pod in [&one, &two] {
            server.faults(pod.token(), |faults| {
                *faults = Faults {
                    status: Some(status),
                    ..Faults::default()
                };
            });
        }
        sleep(Duration::from_millis(500)).await;
    }
    for pod in [&one, &two] {
        server.faults(pod.token(), |faults| *faults = Faults::default());
    }
    // A 404 that is not about the Lease does not make a pod forget the leader. If the Lease
    // has expired meanwhile, either of the two may acquire it.
    until_one_leads_and_the_other_follows([&one, &two]).await;
    judge.found_one_leader();
}

#[tokio::test]
async fn a_follower_whose_watch_fails_replaces_a_silent_leader() {
    let faults = [
        WatchFault::Expired,
        WatchFault::ExpiredEvent,
        WatchFault::Hung,
        WatchFault::Oversized,
        WatchFault::Garbage,
    ];
    futures::future::join_all(faults.map(|fault| async move {
        let server = server().await;
        let one = Pod::start(&server, "one").await;
        one.until_it_leads().await;
        let mut two = Pod::prepare(&server, "two");
        server.faults(two.token(), |faults| faults.watch = fault);
        two.run();
        two.until_it_follows(&one).await;
        let judge = Judge::of([&one, &two]);
        // Meanwhile it must not flood the API server.
        let asked = server.requests(two.token());
        sleep(DURATION).await;
        let asked = server.requests(two.token()) - asked;
        assert!(asked < 15, "{fault:?}: {asked} requests");
        server.faults(one.token(), |faults| faults.cut = true);
        two.until_it_leads().await;
        judge.found_one_leader();
    }))
    .await;
}

#[tokio::test]
async fn a_new_ca_is_trusted_without_a_restart() {
    let [old, new] = ["old", "new"].map(Authority::new);
    let server = FakeApiServer::start_tls(old.certify()).await;
    server.create(new_lease());
    let mut one = Pod::prepare(&server, "one");
    one.trust(old.pem());
    one.run();
    one.until_it_leads().await;
    // The kubelet writes both into the file; then the API server restarts.
    one.trust(&format!("{}{}", old.pem(), new.pem()));
    server.present(new.certify());
    renewed(&server).await;
    // Now the file is late.
    let newest = Authority::new("newest");
    server.present(newest.certify());
    one.until_it_may_not_grant().await;
    one.trust("no certificate");
    one.trust(newest.pem());
    one.until_it_leads().await;
    renewed(&server).await;
}
