//! Reports to a follower, to a pod without a leader, and to one that ends.

use std::time::Duration;

use gateway_queue::clock::boot_time;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::pod::{Pod, SPACING, answer, granted, send, until};

async fn report(pod: &Pod, shard: u32, report: &str) {
    no_content(&mut pod.ask(&format!("shard={shard}&report={report}")).await).await;
}

async fn no_content(client: &mut TcpStream) {
    let text = answer(client).await;
    assert!(text.starts_with("HTTP/1.1 204 No Content\r\n"), "{text}");
}

/// Returns the shards that the leader knows, each with its last report.
async fn known(leader: &Pod) -> Vec<(u32, Option<&'static str>)> {
    let shards = leader.snapshot().await.leader_view.unwrap().shards;
    shards
        .iter()
        .map(|state| {
            (
                state.shard,
                state.last_report.map(|(report, _)| report.as_str()),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_follower_passes_a_report_on_to_the_leader() {
    let (leader, follower) = (Pod::start().await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    granted(&mut follower.ask("shard=1").await).await;
    until("written", async || leader.granted().await == [1]).await;
    let reported = boot_time::now();
    report(&follower, 1, "invalid_session").await;
    report(&follower, 7, "resumed").await;
    let expected = [(1, Some("invalid_session")), (7, Some("resumed"))];
    assert_eq!(known(&leader).await, expected);
    // It delays the next grant, and is counted by the pod that received it.
    let next = granted(&mut follower.ask("shard=2").await).await;
    assert!(next.since(reported) >= SPACING);
    let counted = "gateway_queue_reports_total{report=\"resumed\"}";
    assert_eq!(follower.counted(counted).await, 1);
    assert_eq!(leader.counted(counted).await, 0);
}

#[tokio::test]
async fn a_report_without_a_leader_is_answered_counted_and_dropped() {
    let pod = Pod::start().await;
    report(&pod, 1, "ready").await;
    pod.expire();
    report(&pod, 2, "ready").await;
    let counted = "gateway_queue_reports_total{report=\"ready\"}";
    assert_eq!(pod.counted(counted).await, 2);
    pod.lead(2);
    report(&pod, 3, "ready").await;
    assert_eq!(known(&pod).await, [(3, Some("ready"))]);
}

#[tokio::test]
async fn a_report_to_a_leader_that_does_not_answer_is_answered_after_a_second() {
    let follower = Pod::start().await;
    let leader = follower.follow_fake().await;
    let started = Instant::now();
    let mut client = follower.ask("shard=1&report=ready").await;
    let forwarded = leader.next().await;
    // A leader of an older version grants only a forwarded request with an age.
    assert!(
        forwarded
            .head
            .starts_with("GET /?leader=fake&shard=1&report=ready HTTP/1.1\r\n")
    );
    no_content(&mut client).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(950), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_leader_takes_a_forwarded_report_only_if_it_is_addressed_to_it() {
    let leader = Pod::start().await;
    leader.lead(1);
    let text = answer(&mut send(leader.peers, "leader=other&shard=1&report=ready").await).await;
    assert_eq!(text, "");
    assert!(known(&leader).await.is_empty());
    let own = format!("leader={}&shard=1&report=ready", leader.holder());
    no_content(&mut send(leader.peers, &own).await).await;
    assert_eq!(known(&leader).await, [(1, Some("ready"))]);
}

#[tokio::test]
async fn a_report_with_an_incomplete_body_is_answered_when_the_process_ends() {
    let pod = Pod::start().await;
    pod.lead(1);
    let mut client = TcpStream::connect(pod.clients).await.unwrap();
    let head = "POST /?shard=1&report=ready HTTP/1.1\r\nhost: q\r\ncontent-length: 9\r\n\r\nbody";
    client.write_all(head.as_bytes()).await.unwrap();
    let counted = "gateway_queue_reports_total{report=\"ready\"}";
    until("counted", async || pod.counted(counted).await == 1).await;
    // It is no waiting client.
    assert_eq!(pod.held().await, 0);
    pod.leaving.cancel();
    pod.end.cancel();
    no_content(&mut client).await;
}

#[tokio::test]
async fn a_request_without_a_valid_shard_is_forwarded_as_such() {
    let follower = Pod::start().await;
    let leader = follower.follow_fake().await;
    let mut open = Vec::new();
    for (query, shard) in [("shard=x", 0), ("shard=5&shard=6", 5)] {
        let client = follower.ask(query).await;
        let forwarded = leader.next().await;
        let expected = format!("GET /?leader=fake&shard={shard}&invalid_shard=true&age=");
        assert!(forwarded.head.starts_with(&expected), "{}", forwarded.head);
        open.push((client, forwarded));
    }
}
