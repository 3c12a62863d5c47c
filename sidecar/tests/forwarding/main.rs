//! Two queues in one process, told by the test who leads: what becomes of
//! clients who wait on the one that does not, and when that changes.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fake_leader;
mod limit;
mod pod;
mod unreachable;

use std::time::Duration;

use gateway_queue::clock::boot_time;
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::leadership::term::{Inheritance, Term};
use gateway_queue_core::protocol::GRANT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use fake_leader::FakeLeader;
use pod::{LONG, NEVER, Pod, SPACING, answer, granted, send};

#[tokio::test]
async fn who_waits_on_a_pod_that_does_not_lead_is_granted_by_the_leader() {
    let (leader, follower) = (Pod::start().await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    let first = granted(&mut follower.ask("shard=1").await).await;
    let second = granted(&mut leader.ask("shard=2").await).await;
    assert!(second.since(first) + Duration::from_millis(20) > SPACING);
}

#[tokio::test]
async fn who_hangs_up_is_cancelled_through_the_hop() {
    let (leader, follower) = (Pod::spaced(NEVER).await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    granted(&mut leader.ask("shard=0").await).await;
    let client = follower.ask("shard=1").await;
    leader.wait_for(&[1]).await;
    drop(client);
    leader.wait_for(&[]).await;
    assert_eq!(leader.gone().await, 1);
}

#[tokio::test]
async fn a_grant_that_is_on_its_way_when_the_leader_changes_is_not_lost() {
    // Whichever of the two is seen first.
    for grants_first in [true, false] {
        let (fake, follower) = (FakeLeader::start().await, Pod::start().await);
        fake.lead(&follower);
        let mut client = follower.ask("shard=1").await;
        let hop = fake.hop().await;
        if grants_first {
            FakeLeader::grant(&hop);
        }
        follower.stand(None, None);
        if !grants_first {
            for _ in 0..10 {
                // The follower sees the change.
                tokio::task::yield_now().await;
            }
            FakeLeader::grant(&hop);
        }
        granted(&mut client).await;
    }
}

#[tokio::test]
async fn who_asked_a_leader_that_is_lost_goes_on_to_the_next() {
    let (fake, next, follower) = (
        FakeLeader::start().await,
        Pod::start().await,
        Pod::start().await,
    );
    fake.lead(&follower);
    let mut client = follower.ask("shard=1").await;
    // It says nothing, and its connection stays.
    let _hop = fake.hop().await;
    next.lead(1);
    follower.follow(&next);
    granted(&mut client).await;
}

#[tokio::test]
async fn a_grant_that_lay_in_the_socket_of_a_frozen_process_is_thrown_away() {
    // The grant and the end of the freeze are seen in any order.
    for _ in 0..20 {
        let (fake, follower) = (FakeLeader::start().await, Pod::start().await);
        fake.lead(&follower);
        let mut client = follower.ask("shard=1").await;
        let hop = fake.hop().await;
        FakeLeader::grant(&hop);
        let thawed = boot_time::now() + Duration::from_secs(1);
        follower.route.beat.beat(thawed);
        // It asks again, and has not answered.
        let _again = fake.hop().await;
        let quiet = timeout(Duration::from_millis(5), client.read(&mut [0])).await;
        assert!(quiet.is_err(), "an old grant was passed on");
    }
}

#[tokio::test]
async fn a_pod_that_is_to_end_keeps_no_connection_for_a_next_request() {
    let (leader, follower) = (Pod::start().await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    let kept = "GET /?shard=1 HTTP/1.1\r\nhost: q\r\n\r\n";
    let mut client = TcpStream::connect(follower.clients).await.unwrap();
    client.write_all(kept.as_bytes()).await.unwrap();
    let mut answered = vec![0; 1024];
    let read = client.read(&mut answered).await.unwrap();
    assert!(answered[..read].ends_with(GRANT));

    follower.leaving.cancel();
    client.write_all(kept.as_bytes()).await.unwrap();
    // To the end of the connection.
    let text = answer(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
}

#[tokio::test]
async fn a_pod_that_ends_refuses_those_who_opted_in_and_closes_all_others() {
    let (leader, follower) = (Pod::spaced(NEVER).await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    granted(&mut leader.ask("shard=0").await).await;
    let mut told = follower.ask("shard=1&wait=60").await;
    leader.wait_for(&[1]).await;
    let mut closed = follower.ask("shard=2").await;
    leader.wait_for(&[1, 2]).await;
    let query = format!("leader={}&shard=3&age=0", leader.holder());
    let mut hop = send(leader.peers, &query).await;
    leader.wait_for(&[1, 2, 3]).await;

    follower.leaving.cancel();
    follower.end.cancel();
    let text = answer(&mut told).await;
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    assert!(text.contains(r#""reason":"no_leader""#), "{text}");
    assert_eq!(answer(&mut closed).await, "");
    // Their places at the leader are free.
    leader.wait_for(&[3]).await;

    // The pod that asked is not answered: it asks the next leader.
    leader.end.cancel();
    assert_eq!(answer(&mut hop).await, "");
}

#[tokio::test]
async fn a_client_that_sends_its_body_slowly_counts_and_is_answered_at_the_end() {
    let pod = Pod::start().await;
    pod.lead(1);
    let slow = async |query: &str| {
        let mut client = TcpStream::connect(pod.clients).await.unwrap();
        let head = format!("POST /?{query} HTTP/1.1\r\nhost: q\r\ncontent-length: 9\r\n\r\nbody");
        client.write_all(head.as_bytes()).await.unwrap();
        client
    };
    let (mut told, mut closed) = (slow("shard=1&wait=60").await, slow("shard=2").await);
    let start = Instant::now();
    while pod.held().await < 2 {
        assert!(start.elapsed() < LONG, "they are not counted");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    pod.leaving.cancel();
    pod.end.cancel();
    let text = answer(&mut told).await;
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    assert!(text.contains(r#""reason":"no_leader""#), "{text}");
    assert_eq!(answer(&mut closed).await, "");
    assert_eq!(pod.held().await, 0);
}

#[tokio::test]
async fn waiters_go_on_to_the_next_leader_and_stand_there_as_they_stood_here() {
    let (old, new) = (Pod::spaced(NEVER).await, Pod::start().await);
    old.lead(1);
    new.follow(&old);
    granted(&mut old.ask("shard=0").await).await;
    // The last one asks first. A place is only as exact as the time that a forwarded
    // request takes, so they are far apart.
    let waiters = [
        new.waits_since(Duration::ZERO, 3),
        old.waits_since(LONG, 2),
        new.waits_since(LONG * 2, 1),
    ];
    old.wait_for(&[1, 2, 3]).await;
    // As after a release: for a moment nobody leads.
    old.stand(None, None);
    new.stand(None, None);
    let guard = Inheritance::unknown(boot_time::now() + SPACING);
    let mut term = LeadershipState::alone(guard).term.unwrap();
    term.holder = new.holder();
    // It may not grant until all of them have arrived, however long that takes.
    let lapsed = Term {
        until: boot_time::now(),
        ..term.clone()
    };
    new.stand(Some(lapsed), None);
    old.follow(&new);
    new.wait_for(&[1, 2, 3]).await;
    new.stand(Some(term), None);
    for waiter in waiters {
        timeout(LONG, waiter).await.unwrap().unwrap();
    }
    assert_eq!(new.granted().await, [1, 2, 3]);
}

#[tokio::test]
async fn a_pod_that_does_not_lead_closes_a_hop_without_an_answer() {
    let (one, other) = (Pod::start().await, Pod::start().await);
    // Each believes that the other leads.
    one.follow(&other);
    other.follow(&one);
    assert_eq!(answer(&mut one.hop().await).await, "");
    let mut client = one.ask("shard=1").await;
    other.lead(1);
    granted(&mut client).await;
}

#[tokio::test]
async fn only_hops_are_answered_where_hops_are_taken() {
    let pod = Pod::start().await;
    pod.lead(1);
    for query in [
        "shard=1",
        "age=5",
        "",
        "shard=1&age=5",
        "leader=other&shard=1&age=5",
    ] {
        assert_eq!(
            answer(&mut send(pod.peers, query).await).await,
            "",
            "{query}"
        );
    }
    granted(&mut pod.hop().await).await;
}

#[tokio::test]
async fn a_limited_wait_travels_with_the_hop_and_so_does_the_refusal() {
    let (leader, follower) = (Pod::spaced(NEVER).await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    granted(&mut leader.ask("shard=0").await).await;
    let text = answer(&mut follower.ask("shard=1&wait=0.05").await).await;
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(
        text.contains(r#""reason":"waiting","position":1,"#),
        "{text}"
    );
}

#[tokio::test]
async fn while_nobody_leads_who_wants_to_wait_for_a_limited_time_is_told_so() {
    let pod = Pod::start().await;
    let text = answer(&mut pod.ask("shard=1&wait=0.05").await).await;
    assert!(
        text.contains(r#"{"reason":"no_leader","position":null,"#),
        "{text}"
    );
    // And where the right of the leader ran out.
    let mut standing = LeadershipState::alone(Inheritance::NOTHING);
    standing.term.as_mut().unwrap().until = boot_time::now();
    pod.route.standing.send_replace(standing);
    let text = answer(&mut pod.ask("shard=1&wait=0.05").await).await;
    assert!(
        text.contains(r#"{"reason":"no_leader","position":1,"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_leader_whose_right_ran_out_holds_until_it_has_it_again() {
    let pod = Pod::start().await;
    let mut standing = LeadershipState::alone(Inheritance::NOTHING);
    standing.term.as_mut().unwrap().until = boot_time::now();
    pod.route.standing.send_replace(standing.clone());
    let mut client = pod.ask("shard=1").await;
    pod.wait_for(&[1]).await;
    let quiet = timeout(Duration::from_millis(100), client.read(&mut [0])).await;
    assert!(quiet.is_err(), "it granted without the right to");
    standing.term.as_mut().unwrap().until = boot_time::now() + LONG;
    pod.route.standing.send_replace(standing);
    granted(&mut client).await;
}

#[tokio::test]
async fn after_a_gap_the_leader_is_asked_again_and_the_place_is_kept() {
    let (leader, follower) = (Pod::spaced(NEVER).await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    granted(&mut leader.ask("shard=0").await).await;
    let _client = follower.ask("shard=1").await;
    leader.wait_for(&[1]).await;
    let _later = follower.ask("shard=2").await;
    leader.wait_for(&[1, 2]).await;
    assert_eq!(leader.gone().await, 0);
    // As if the process had been frozen for a second.
    follower
        .route
        .beat
        .beat(boot_time::now() + Duration::from_secs(1));
    let start = Instant::now();
    while leader.gone().await < 2 {
        assert!(start.elapsed() < LONG, "they were not asked for again");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    leader.wait_for(&[1, 2]).await;
}

#[tokio::test]
async fn a_leader_that_does_not_answer_is_noticed_long_before_its_lease_runs_out() {
    let (gone, follower) = (Pod::start().await, Pod::start().await);
    follower.follow(&gone);
    let _client = follower.ask("shard=1").await;
    let start = Instant::now();
    while !follower.route.reach.is_silent(boot_time::now()) {
        assert!(start.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(follower.held().await, 1);
}
