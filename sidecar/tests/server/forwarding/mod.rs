//! Several pods in one process; the test chooses the leader. What happens to the clients of a
//! follower, and to all clients when the leader changes.

mod limit;
pub(crate) mod pod;
mod reports;
mod unreachable;

use std::time::Duration;

use gateway_queue::clock::boot_time;
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::leadership::term::{ReceivedHandover, Term};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use pod::{
    LONG, Pod, SPACING, answer, ask_again, grant, granted, granted_and_open, refused, send, until,
    waits,
};

#[tokio::test]
async fn a_client_of_a_follower_is_granted_by_the_leader() {
    let (leader, follower) = (Pod::start().await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    let first = granted(&mut follower.ask("shard=1").await).await;
    let second = granted(&mut leader.ask("shard=2").await).await;
    assert!(second.since(first) + Duration::from_millis(20) > SPACING);
}

#[tokio::test]
async fn a_disconnect_is_forwarded_to_the_leader() {
    let (leader, follower) = Pod::busy_leader_and_follower().await;
    let client = follower.ask("shard=1").await;
    leader.wait_for(&[1]).await;
    drop(client);
    leader.wait_for(&[]).await;
    assert_eq!(leader.cancelled().await, 1);
}

#[tokio::test]
async fn a_grant_in_flight_when_the_leader_changes_is_not_lost() {
    // Whichever of the two is seen first.
    for grants_first in [true, false] {
        let follower = Pod::start().await;
        let leader = follower.follow_fake().await;
        let mut client = follower.ask("shard=1").await;
        let forwarded = leader.next().await;
        if grants_first {
            grant(&forwarded);
        }
        follower.set_leadership(None, None);
        if !grants_first {
            for _ in 0..10 {
                // The follower sees the change.
                tokio::task::yield_now().await;
            }
            grant(&forwarded);
        }
        granted(&mut client).await;
    }
}

#[tokio::test]
async fn a_request_to_a_lost_leader_is_forwarded_to_the_next() {
    let (next, follower) = (Pod::start().await, Pod::start().await);
    let lost = follower.follow_fake().await;
    let mut client = follower.ask("shard=1").await;
    // It does not answer, and its connection remains open.
    let _forwarded = lost.next().await;
    next.lead(1);
    follower.follow(&next);
    granted(&mut client).await;
}

#[tokio::test]
async fn a_grant_that_arrived_while_the_process_was_suspended_is_discarded() {
    // The grant and the end of the stall are seen in any order.
    for _ in 0..20 {
        let follower = Pod::start().await;
        let leader = follower.follow_fake().await;
        let mut client = follower.ask("shard=1").await;
        let forwarded = leader.next().await;
        grant(&forwarded);
        follower.stall();
        // The request is forwarded again, and not answered.
        let _again = leader.next().await;
        waits(&mut client, Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_pod_that_is_about_to_end_closes_each_connection_after_its_answer() {
    let (leader, follower) = (Pod::start().await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    let mut client = TcpStream::connect(follower.clients).await.unwrap();
    ask_again(&mut client, "shard=1").await;
    granted_and_open(&mut client).await;
    follower.leaving.cancel();
    ask_again(&mut client, "shard=1").await;
    let text = answer(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
}

#[tokio::test]
async fn a_pod_that_ends_refuses_clients_that_opted_in_and_closes_all_others() {
    let (leader, follower) = Pod::busy_leader_and_follower().await;
    let mut opted_in = follower.ask("shard=1&wait=60").await;
    leader.wait_for(&[1]).await;
    let mut closed = follower.ask("shard=2").await;
    leader.wait_for(&[1, 2]).await;
    let mut forwarded = leader.forward(3).await;
    leader.wait_for(&[1, 2, 3]).await;

    follower.leaving.cancel();
    follower.end.cancel();
    refused(&mut opted_in, r#""no_leader""#).await;
    assert_eq!(answer(&mut closed).await, "");
    // They no longer wait at the leader.
    leader.wait_for(&[3]).await;

    // The follower gets no answer, and asks the next leader.
    leader.end.cancel();
    assert_eq!(answer(&mut forwarded).await, "");
}

#[tokio::test]
async fn a_client_with_an_incomplete_body_is_counted_and_answered_at_the_end() {
    let pod = Pod::start().await;
    pod.lead(1);
    let slow = async |query: &str| {
        let mut client = TcpStream::connect(pod.clients).await.unwrap();
        let head = format!("POST /?{query} HTTP/1.1\r\nhost: q\r\ncontent-length: 9\r\n\r\nbody");
        client.write_all(head.as_bytes()).await.unwrap();
        client
    };
    let (mut opted_in, mut closed) = (slow("shard=1&wait=60").await, slow("shard=2").await);
    until("they are counted", async || pod.held().await == 2).await;
    pod.leaving.cancel();
    pod.end.cancel();
    refused(&mut opted_in, r#""no_leader""#).await;
    assert_eq!(answer(&mut closed).await, "");
    assert_eq!(pod.held().await, 0);
}

#[tokio::test]
async fn waiters_keep_their_order_at_the_next_leader() {
    let (old, new) = (Pod::busy_leader().await, Pod::start().await);
    new.follow(&old);
    // The last one asks first. A place is only as exact as the time that a forwarded
    // request takes, so they are far apart.
    let waiters = [
        new.waits_since(Duration::ZERO, 3),
        old.waits_since(LONG, 2),
        new.waits_since(LONG * 2, 1),
    ];
    old.wait_for(&[1, 2, 3]).await;
    // As after a release: for a moment there is no leader.
    old.set_leadership(None, None);
    new.set_leadership(None, None);
    let guard = ReceivedHandover::unknown(boot_time::now() + SPACING);
    let mut term = LeadershipState::alone(guard).term.unwrap();
    term.holder = new.holder();
    // It may not grant until all of them have arrived, however long that takes.
    let expired = Term {
        until: boot_time::now(),
        ..term.clone()
    };
    new.set_leadership(Some(expired), None);
    old.follow(&new);
    new.wait_for(&[1, 2, 3]).await;
    new.set_leadership(Some(term), None);
    for waiter in waiters {
        timeout(LONG, waiter).await.unwrap().unwrap();
    }
    assert_eq!(new.granted().await, [1, 2, 3]);
}

#[tokio::test]
async fn a_pod_that_does_not_lead_closes_a_forwarded_request_without_an_answer() {
    let (one, other) = (Pod::start().await, Pod::start().await);
    // Each believes that the other leads.
    one.follow(&other);
    other.follow(&one);
    assert_eq!(answer(&mut one.forward(1).await).await, "");
    let mut client = one.ask("shard=1").await;
    other.lead(1);
    granted(&mut client).await;
}

#[tokio::test]
async fn the_peer_port_answers_only_forwarded_requests() {
    let pod = Pod::start().await;
    pod.lead(1);
    for query in [
        "shard=1",
        "age=5",
        "",
        "shard=1&age=5",
        "leader=other&shard=1&age=5",
    ] {
        let text = answer(&mut send(pod.peers, query).await).await;
        assert_eq!(text, "", "{query}");
    }
    granted(&mut pod.forward(1).await).await;
}

#[tokio::test]
async fn a_limited_wait_and_its_refusal_are_forwarded() {
    let (_leader, follower) = Pod::busy_leader_and_follower().await;
    let mut client = follower.ask("shard=1&wait=0.05").await;
    refused(&mut client, r#""waiting","position":1"#).await;
}

#[tokio::test]
async fn without_a_leader_a_limited_wait_is_refused_for_that_reason() {
    let pod = Pod::start().await;
    let mut client = pod.ask("shard=1&wait=0.05").await;
    refused(&mut client, r#""no_leader","position":null"#).await;
    pod.expire();
    let mut client = pod.ask("shard=1&wait=0.05").await;
    refused(&mut client, r#""no_leader","position":1"#).await;
}

#[tokio::test]
async fn a_leader_whose_right_has_lapsed_grants_only_when_it_is_renewed() {
    let pod = Pod::start().await;
    pod.expire();
    let mut client = pod.ask("shard=1").await;
    pod.wait_for(&[1]).await;
    waits(&mut client, Duration::from_millis(100)).await;
    pod.route.leadership.send_modify(|state| {
        state.term.as_mut().unwrap().until = boot_time::now() + LONG;
    });
    granted(&mut client).await;
}

#[tokio::test]
async fn after_a_stall_requests_are_forwarded_again_and_keep_their_position() {
    let (leader, follower) = Pod::busy_leader_and_follower().await;
    let _client = follower.ask("shard=1").await;
    leader.wait_for(&[1]).await;
    let _later = follower.ask("shard=2").await;
    leader.wait_for(&[1, 2]).await;
    assert_eq!(leader.cancelled().await, 0);
    follower.stall();
    until("forwarded again", async || leader.cancelled().await == 2).await;
    leader.wait_for(&[1, 2]).await;
}

#[tokio::test]
async fn a_leader_that_does_not_answer_is_noticed_before_its_lease_expires() {
    let (silent, follower) = (Pod::start().await, Pod::start().await);
    follower.follow(&silent);
    let _client = follower.ask("shard=1").await;
    until("silent", async || {
        follower.route.reach.is_silent(boot_time::now())
    })
    .await;
    assert_eq!(follower.held().await, 1);
}
