//! A shard whose session Discord invalidates again and again.

use std::net::SocketAddr;
use std::time::Duration;

use super::queue::Queue;
use crate::common::http;
use crate::kubectl::Namespace;
use crate::wait::settle;

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn repeated_invalid_sessions_are_reported_by_the_condition_degraded() {
    let namespace = Namespace::new("degraded");
    let queue = Queue::without_token(&namespace, 2, 1);
    let (status, _) = queue.condition("Degraded");
    assert_eq!(status, "False");
    // Its reports are passed on to the leader.
    let [follower] = queue.others().try_into().unwrap();
    let address = follower.target("follower").address;
    for _ in 0..4 {
        http::get(address, "/?shard=3").unwrap();
        report(address, "invalid_session");
    }
    settle(PATIENCE, || {
        let (status, message) = queue.condition("Degraded");
        let is_reported = status == "True" && message.contains("Shard 3 ");
        (!is_reported).then_some(message)
    });
    settle(PATIENCE, || {
        (queue.events("InvalidSessions") == 0).then(|| "no event".to_owned())
    });
}

fn report(queue: SocketAddr, report: &str) {
    let response = http::get(queue, &format!("/?shard=3&report={report}"));
    let response = response.unwrap_err();
    assert!(response.starts_with("HTTP/1.0 204 "), "{response}");
}
