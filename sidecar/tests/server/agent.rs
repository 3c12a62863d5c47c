//! An agent: its clients wait for the grants of an upstream, whatever happens there.

use std::time::Duration;

use futures::future::join_all;
use gateway_queue_testkit::manual_server::ManualServer;
use gateway_queue_testkit::scripted_server::{ReservedPort, ScriptedServer, response};
use tokio::time::{Instant, timeout};

use crate::common::{self, GRANT, Server};
use crate::forwarding::pod::{Pod, SPACING, grant, granted, refused, until, waits};

/// As long as an agent asks its upstream for at a time.
const PIECE: Duration = Duration::from_secs(45);

/// So short that a client is asked for many times.
const SHORT: Duration = Duration::from_millis(20);

/// Returns the number of requests to the upstream with this outcome.
async fn counted(agent: &Pod, outcome: &str) -> u64 {
    let series = format!("gateway_queue_forwarded_requests_total{{outcome=\"{outcome}\"}}");
    agent.counted(&series).await
}

/// Waits until this many more requests to the upstream have failed.
async fn fails(agent: &Pod, times: u64) {
    let enough = counted(agent, "failed").await + times;
    until("the upstream fails", async || {
        counted(agent, "failed").await >= enough
    })
    .await;
}

/// Returns the refusal of an upstream that its client may repeat after this time.
fn refusal(retry_after_ms: u64) -> String {
    let body =
        format!(r#"{{"reason":"no_leader","position":null,"retry_after_ms":{retry_after_ms}}}"#);
    response("429 Too Many Requests", &body)
}

#[tokio::test]
async fn a_grant_of_the_upstream_is_passed_on() {
    let upstream = Pod::start().await;
    upstream.lead(1);
    let name = format!("localhost:{}", upstream.clients.port());
    let agent = Pod::agent(name, PIECE).await;
    let first = granted(&mut agent.ask("shard=1").await).await;
    let second = granted(&mut agent.ask("shard=2").await).await;
    assert!(second.since(first) + Duration::from_millis(20) > SPACING);
    until("granted there", async || upstream.granted().await == [1, 2]).await;
}

#[tokio::test]
async fn the_upstream_receives_what_any_client_sends() {
    let upstream = ManualServer::start().await;
    let agent = Pod::agent(upstream.address(), PIECE).await;
    let mut open = Vec::new();
    for (query, sent) in [
        ("shard=7", "shard=7&wait=45"),
        ("shard=7&wait=3600", "shard=7&wait=45"),
        ("shard=x", "wait=45"),
        ("shard=5&shard=6", "shard=5&wait=45"),
        ("shard=7&wait=1&report=ready", "shard=7&report=ready"),
    ] {
        let client = agent.ask(query).await;
        let request = upstream.next().await;
        let first = format!("GET /?{sent} HTTP/1.1\r\n");
        assert!(request.head.starts_with(&first), "{}", request.head);
        let host = format!("\r\nhost: {}\r\n", upstream.address());
        assert!(request.head.contains(&host), "{}", request.head);
        open.push((client, request));
    }
}

#[tokio::test]
async fn a_client_does_not_notice_that_the_upstream_restarts() {
    // It closes each connection without an answer, as a process that ends.
    let mut upstream = ScriptedServer::scripted(|_, _| Ok(()));
    let agent = Pod::agent(upstream.address(), PIECE).await;
    let mut client = agent.ask("shard=1").await;
    fails(&agent, 2).await;
    upstream.go_down();
    fails(&agent, 2).await;
    waits(&mut client, SHORT).await;
    upstream.say(response("200 OK", GRANT));
    upstream.come_up();
    granted(&mut client).await;
}

#[tokio::test]
async fn nothing_but_the_exact_grant_is_a_grant() {
    let long = "x".repeat(5000);
    let answers = [
        response("500 Internal Server Error", "<html>Oops</html>"),
        response("500 Internal Server Error", GRANT),
        response("503 Service Unavailable", ""),
        response("404 Not Found", GRANT),
        response("302 Found\r\nlocation: /", GRANT),
        response("201 Created", GRANT),
        response("204 No Content", ""),
        response("429 Too Many Requests", "slow down"),
        response("200 OK", "<html>Sign in</html>"),
        response("200 OK", ""),
        response("200 OK", &format!("{GRANT} ")),
        response("200 OK", &long),
        response("200 OK", GRANT).replace(":)\"}", ""),
        "HTTP/1.1 200".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
    ];
    let cases = answers.into_iter().map(|answer| async move {
        let upstream = ScriptedServer::saying(answer.as_str());
        let agent = Pod::agent(upstream.address(), PIECE).await;
        let mut client = agent.ask("shard=1").await;
        let mut limited = agent.ask("shard=1&wait=3600").await;
        fails(&agent, 4).await;
        for client in [&mut client, &mut limited] {
            waits(client, SHORT).await;
        }
        upstream.say(response("200 OK", GRANT));
        granted(&mut client).await;
        granted(&mut limited).await;
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_client_that_disconnects_no_longer_waits_at_the_upstream() {
    let upstream = Pod::busy_leader().await;
    let agent = Pod::agent(upstream.clients, PIECE).await;
    let client = agent.ask("shard=1").await;
    upstream.wait_for(&[1]).await;
    drop(client);
    upstream.wait_for(&[]).await;
    assert_eq!(upstream.cancelled().await, 1);
}

#[tokio::test]
async fn the_order_of_the_clients_is_kept_while_the_agent_asks_again_and_again() {
    let upstream = Pod::busy_leader().await;
    let agent = Pod::agent(upstream.clients, SHORT).await;
    let _first = agent.ask("shard=1").await;
    until("the first waits", async || {
        counted(&agent, "refused").await > 0
    })
    .await;
    let _second = agent.ask("shard=2").await;
    upstream.wait_for(&[1, 2]).await;
    let _direct = upstream.ask("shard=3").await;
    upstream.wait_for(&[1, 2, 3]).await;
    until("asked again", async || {
        let waiting = upstream.waiting().await;
        assert!(waiting.is_sorted(), "{waiting:?}");
        counted(&agent, "refused").await > 40
    })
    .await;
    upstream.wait_for(&[1, 2, 3]).await;
}

#[tokio::test]
async fn a_limited_wait_ends_with_the_last_refusal_of_the_upstream() {
    let upstream = Pod::busy_leader().await;
    let agent = Pod::agent(upstream.clients, SHORT).await;
    let start = Instant::now();
    let mut client = agent.ask("shard=1&wait=0.3").await;
    refused(&mut client, r#""waiting","position":1"#).await;
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(290), "{waited:?}");
    assert!(counted(&agent, "refused").await > 1);
}

#[tokio::test]
async fn without_an_upstream_a_limited_wait_is_refused_for_that_reason() {
    let nothing = ReservedPort::new();
    let agent = Pod::agent(nothing.address, PIECE).await;
    let mut client = agent.ask("shard=1&wait=0.05").await;
    refused(&mut client, r#""no_leader","position":null"#).await;
}

#[tokio::test]
async fn an_upstream_that_refuses_early_is_asked_again_when_it_says() {
    let upstream = ManualServer::start().await;
    let agent = Pod::agent(upstream.address(), PIECE).await;
    let mut client = agent.ask("shard=1").await;
    upstream.next().await.answer(&refusal(400)).await;
    let refused_at = Instant::now();
    let again = upstream.next().await;
    let pause = refused_at.elapsed();
    assert!(pause > Duration::from_millis(350), "{pause:?}");
    grant(&again);
    granted(&mut client).await;

    // A client that does not wait as long is told so.
    let mut client = agent.ask("shard=1&wait=20").await;
    upstream.next().await.answer(&refusal(25_000)).await;
    let text = refused(&mut client, r#""no_leader""#).await;
    assert!(text.contains("x-retry-after-ms: 25000\r\n"), "{text}");
}

#[tokio::test]
async fn an_upstream_that_ignores_wait_is_not_asked_again_before_it_answers() {
    let upstream = ManualServer::start().await;
    let agent = Pod::agent(upstream.address(), SHORT).await;
    let mut client = agent.ask("shard=1").await;
    let request = upstream.next().await;
    assert!(timeout(SHORT * 10, upstream.next()).await.is_err());
    grant(&request);
    granted(&mut client).await;
}

#[tokio::test]
async fn a_grant_that_arrived_while_the_agent_was_suspended_is_discarded() {
    // The grant and the end of the stall are seen in any order.
    for _ in 0..20 {
        let upstream = ManualServer::start().await;
        let agent = Pod::agent(upstream.address(), PIECE).await;
        let mut client = agent.ask("shard=1").await;
        let request = upstream.next().await;
        grant(&request);
        agent.stall();
        // The agent asks again, and gets no answer.
        let _again = upstream.next().await;
        waits(&mut client, Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_request_of_an_agent_is_not_forwarded_again() {
    let nothing = ReservedPort::new();
    let relay = Pod::agent(nothing.address, PIECE).await;
    let agent = Pod::agent(relay.clients, PIECE).await;
    let _client = agent.ask("shard=1").await;
    fails(&agent, 3).await;
    assert_eq!(counted(&relay, "failed").await, 0);
}

#[tokio::test]
async fn an_upstream_that_honors_wait_and_then_falls_silent_is_asked_again() {
    let upstream = ManualServer::start().await;
    let agent = Pod::agent(upstream.address(), SHORT).await;
    let mut client = agent.ask("shard=1").await;
    upstream.next().await.answer(&refusal(0)).await;
    let _unanswered = upstream.next().await;
    let again = upstream.next().await;
    grant(&again);
    granted(&mut client).await;
}

#[test]
fn an_agent_reports_its_upstream_and_ends_at_once() {
    let upstream = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    common::granted(&mut upstream.ask(0));
    let mut agent = Server::agent(&upstream);
    let closed = agent.ask(1);
    upstream.wait_for_state(r#""shards":[1]"#);
    let mut opted_in = agent.ask_with("shard=2&wait=60");
    upstream.wait_for_state(r#""shards":[1,2]"#);
    let state = agent.wait_for_state(r#""held_requests":2,"#);
    let named = format!(r#""upstream":"{}""#, upstream.queue);
    for text in [
        r#"{"role":"agent","leader":null,"#,
        r#""session_starts":null,"#,
        r#""message":null,"#,
        &named,
    ] {
        assert!(state.contains(text), "no {text} in {state}");
    }
    agent.has_metric("gateway_queue_role{role=\"agent\"} 1\n");
    assert_eq!(agent.page("/readyz").0, 200);

    agent.signal("-TERM");
    let (head, body) = common::answer(&mut opted_in);
    assert!(head.starts_with("http/1.1 429 "), "{head}");
    assert!(body.starts_with(r#"{"reason":"no_leader","#), "{body}");
    assert!(common::closed_silently(closed));
    assert!(agent.ended().success());
    upstream.wait_for_state(r#""waiting":0,"#);
}

#[test]
fn an_upstream_that_does_not_respond_is_reported_and_the_agent_stays_ready() {
    let nothing = ReservedPort::new();
    let url = format!("http://{}", nothing.address);
    let agent = Server::start(&[("UPSTREAM", &url)]);
    let client = agent.ask(0);
    let line = agent.wait_for_log("no response from the upstream");
    assert!(line.contains(&nothing.address.to_string()), "{line}");
    assert!(line.contains("Connection refused"), "{line}");
    let message = format!(r#""message":"The queue at {} does not "#, nothing.address);
    agent.wait_for_state(&message);
    assert_eq!(agent.page("/readyz").0, 200);
    assert!(common::waits(&client));
}
