//! How many connections a port accepts, and for how long.

use std::time::Duration;

use gateway_queue::clock::boot_time;
use gateway_queue::forwarding::leader_client;
use gateway_queue::serving::http::Listener;
use gateway_queue_core::leadership::state::Leader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pod::{LONG, Pod, answer, ask_again, send, until, waits};

#[tokio::test]
async fn at_the_limit_an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let pod = Pod::busy_leader().await;
    let address = pod.serve(Listener::Clients, 1).await;
    let ask = async |shard: u32| {
        let mut client = TcpStream::connect(address).await.unwrap();
        ask_again(&mut client, &format!("shard={shard}")).await;
        client
    };
    let mut idle = TcpStream::connect(address).await.unwrap();
    ask_again(&mut idle, "shard=0&wait=0").await;
    assert_ne!(idle.read(&mut [0; 1024]).await.unwrap(), 0);

    let waiting = ask(1).await;
    pod.wait_for(&[1]).await;
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);

    let mut next = ask(2).await;
    waits(&mut next, Duration::from_millis(100)).await;
    assert_eq!(pod.waiting().await, [1]);
    drop(waiting);
    pod.wait_for(&[2]).await;
}

#[tokio::test]
async fn a_leader_at_its_limit_of_forwarded_requests_answers_probes() {
    let pod = Pod::busy_leader().await;
    let leader = Leader {
        holder: pod.holder(),
        address: pod.serve(Listener::Peers, 2).await,
    };
    let forward = async |shard| send(leader.address, &pod.forwarded(shard)).await;
    let first = forward(1).await;
    pod.wait_for(&[1]).await;
    let _second = forward(2).await;
    pod.wait_for(&[1, 2]).await;
    assert!(leader_client::probe(&leader, LONG).await);
    // Far more than fit beside them.
    for shard in 3..103 {
        let text = answer(&mut forward(shard).await).await;
        assert!(text.starts_with("HTTP/1.1 204 "), "{text}");
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
    let (leader, follower) = (Pod::busy_leader().await, Pod::start().await);
    let address = leader.serve(Listener::Peers, 1).await;
    follower.follow_at(&leader.holder(), address);
    let first = follower.ask("shard=1").await;
    leader.wait_for(&[1]).await;
    let mut second = follower.ask("shard=2").await;
    let busy = "gateway_queue_forwarded_requests_total{outcome=\"busy\"}";
    until("busy", async || follower.counted(busy).await >= 3).await;
    waits(&mut second, Duration::from_millis(20)).await;
    assert!(
        !follower.route.reach.is_silent(boot_time::now()),
        "a busy leader is not silent"
    );
    drop(first);
    leader.wait_for(&[2]).await;
}

#[tokio::test]
async fn a_client_that_sends_its_request_slowly_is_closed_after_30_s() {
    let pod = Pod::start().await;
    pod.lead(1);
    let mut clients = Vec::new();
    for begin in [
        "",
        "GET /?shard=",
        "GET / HTTP/1.1\r\nhost: ",
        "POST / HTTP/1.1\r\ncontent-length: 60000\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n",
    ] {
        let mut client = TcpStream::connect(pod.clients).await.unwrap();
        client.write_all(begin.as_bytes()).await.unwrap();
        clients.push(client);
    }
    // The last two; the server has accepted the others before.
    until("they are counted", async || pod.held().await == 2).await;
    for _ in 0..29 {
        // The first client sends nothing at all.
        for client in &mut clients[1..] {
            client.write_all(b"x").await.unwrap();
        }
        pass(Duration::from_secs(1)).await;
    }
    for client in &mut clients {
        waits(client, Duration::from_millis(20)).await;
    }
    pass(Duration::from_secs(2)).await;
    for mut client in clients {
        let mut received = Vec::new();
        let closed = timeout(LONG, client.read_to_end(&mut received)).await;
        // A reset is a close, too.
        let _ = closed.expect("it is closed");
        assert!(received.is_empty(), "{}", received.escape_ascii());
    }
}

/// Lets the time limits of connections pass without waiting for them.
async fn pass(time: Duration) {
    // A limit begins after the answer before it was written.
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
