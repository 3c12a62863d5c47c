//! How many connections a port takes, and for how long.

use std::time::Duration;

use gateway_queue::clock::boot_time;
use gateway_queue::forwarding::leader_client;
use gateway_queue::serving::http::Listener;
use gateway_queue_core::leadership::state::Leader;
use gateway_queue_core::protocol::GRANT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pod::{LONG, NEVER, Pod, answer, granted, send};

#[tokio::test]
async fn at_the_limit_a_connection_that_is_idle_gives_way_and_one_that_waits_does_not() {
    let pod = Pod::spaced(NEVER).await;
    pod.lead(1);
    let address = pod.serve(Listener::Clients, 1).await;
    let ask = |shard: u32| async move {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /?shard={shard} HTTP/1.1\r\nhost: q\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client
    };
    let mut idle = ask(0).await;
    let mut answered = vec![0; 1024];
    let read = idle.read(&mut answered).await.unwrap();
    assert!(answered[..read].ends_with(GRANT));

    let waiting = ask(1).await;
    pod.wait_for(&[1]).await;
    assert_eq!(idle.read(&mut answered).await.unwrap(), 0);

    let mut next = ask(2).await;
    let quiet = timeout(Duration::from_millis(100), next.read(&mut answered)).await;
    assert!(quiet.is_err(), "there is no seat for it");
    assert_eq!(pod.waiting().await, [1]);
    drop(waiting);
    pod.wait_for(&[2]).await;
}

#[tokio::test]
async fn a_leader_with_as_many_forwarded_requests_as_it_may_hold_answers_probes() {
    let pod = Pod::spaced(NEVER).await;
    pod.lead(1);
    granted(&mut pod.ask("shard=0").await).await;
    let leader = Leader {
        holder: pod.holder(),
        address: pod.serve(Listener::Peers, 2).await,
    };
    let forward = |shard: u32| {
        let query = format!("leader={}&shard={shard}&age=0", leader.holder);
        async move { send(leader.address, &query).await }
    };
    let first = forward(1).await;
    pod.wait_for(&[1]).await;
    let _second = forward(2).await;
    pod.wait_for(&[1, 2]).await;
    assert!(
        leader_client::probe(&leader, LONG).await,
        "no answer to a probe"
    );
    // Far more than fit beside them.
    for shard in 3..103 {
        let answered = answer(&mut forward(shard).await).await;
        assert!(answered.starts_with("HTTP/1.1 204 "), "{answered}");
    }
    assert!(leader_client::probe(&leader, LONG).await);
    assert_eq!(pod.waiting().await, [1, 2]);

    drop(first);
    pod.wait_for(&[2]).await;
    let _next = forward(3).await;
    pod.wait_for(&[2, 3]).await;
}

#[tokio::test]
async fn a_client_for_which_the_leader_has_no_capacity_waits_until_it_has() {
    let (leader, follower) = (Pod::spaced(NEVER).await, Pod::start().await);
    leader.lead(1);
    granted(&mut leader.ask("shard=0").await).await;
    let address = leader.serve(Listener::Peers, 1).await;
    let holder = leader.holder();
    follower.stand(None, Some(Leader { holder, address }));
    let first = follower.ask("shard=1").await;
    leader.wait_for(&[1]).await;
    let mut second = follower.ask("shard=2").await;
    let busy = "gateway_queue_forwarded_requests_total{outcome=\"busy\"}";
    while follower.counted(busy).await < 3 {
        let quiet = timeout(Duration::from_millis(20), second.read(&mut [0])).await;
        assert!(quiet.is_err(), "it was not held");
    }
    assert!(
        !follower.route.reach.is_silent(boot_time::now()),
        "a busy leader is not silent"
    );
    drop(first);
    leader.wait_for(&[2]).await;
}

#[tokio::test]
async fn an_idle_connection_serves_a_next_request_for_two_minutes() {
    let pod = Pod::start().await;
    pod.lead(1);
    let mut client = TcpStream::connect(pod.clients).await.unwrap();
    let mut answered = vec![0; 1024];
    for _ in 0..2 {
        let request = b"GET /?shard=1 HTTP/1.1\r\nhost: q\r\n\r\n";
        client.write_all(request).await.unwrap();
        let read = timeout(LONG, client.read(&mut answered)).await.unwrap();
        assert!(answered[..read.unwrap()].ends_with(GRANT));
        idle_for(Duration::from_secs(119)).await;
    }
    idle_for(Duration::from_secs(2)).await;
    let read = timeout(LONG, client.read(&mut answered)).await.unwrap();
    assert_eq!(read.unwrap(), 0);
}

/// Lets the time limits of connections go on, without waiting for them.
async fn idle_for(time: Duration) {
    // A limit begins once the answer before was written.
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
