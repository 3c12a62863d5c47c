//! `GET /gateway/bot`: the limits as the leader counts them, wherever a client asks.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use gateway_queue::forwarding::limits;
use gateway_queue_testkit::discord::limits_response;
use gateway_queue_testkit::scripted_server::{ReservedPort, ScriptedServer, response};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::common::{PATIENCE, Server, granted, send};
use crate::forwarding::pod::{self, Pod, answer, get, until};

/// Sends a request to the admin port, and returns the head in lower case and the body.
fn request(admin: SocketAddr, method: &str, path: &str) -> (String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: q\r\n\r\n");
    let mut stream = send(admin, request.as_bytes());
    let mut text = String::new();
    // The server closes the connection.
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// Returns the limits, and the time until the reset.
fn reported(server: &Server) -> (Value, u64) {
    let (status, body) = server.page("/gateway/bot");
    assert_eq!(status, 200, "{body}");
    let mut limits: Value = serde_json::from_str(&body).unwrap();
    let reset_after = limits["session_start_limit"]["reset_after"].take();
    (limits, reset_after.as_u64().unwrap())
}

/// Returns limits as Discord reports them, without the time until the reset.
fn limits_of(remaining: u64, max_concurrency: u32) -> Value {
    json!({"url": "wss://x", "shards": 3, "session_start_limit": {"total": 1000,
        "remaining": remaining, "reset_after": null, "max_concurrency": max_concurrency}})
}

/// Returns the message of a response without limits.
fn unknown(server: &Server) -> String {
    let (head, body) = request(server.admin, "GET", "/gateway/bot");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(head.contains("\r\nretry-after: 1"), "{head}");
    assert!(
        head.contains("\r\ncontent-type: application/json"),
        "{head}"
    );
    let body: Value = serde_json::from_str(&body).unwrap();
    body["message"].as_str().unwrap().to_owned()
}

#[test]
fn the_limits_are_those_that_the_queue_counts_above_its_reserve() {
    let discord = ScriptedServer::reporting(4, 900, 60_000);
    let server = Server::with_discord(&discord, &[("SESSION_RESERVE", "50")]);
    server.wait_for_state(r#""remaining":900,"#);
    let (limits, reset_after) = reported(&server);
    assert_eq!(limits, limits_of(850, 4));
    // The end of the window is known to the second.
    assert!((1..=60_500).contains(&reset_after), "{reset_after}");
    granted(&mut server.ask(0));
    server.wait_for_state(r#""remaining":899,"#);
    assert_eq!(reported(&server).0, limits_of(849, 4));
    // Discord was asked only by the queue.
    assert_eq!(discord.received().len(), 1);

    let start = Instant::now();
    while reported(&server).1 >= reset_after {
        assert!(
            start.elapsed() < PATIENCE,
            "{reset_after} does not count down"
        );
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn both_paths_of_discord_answer_and_nothing_else_does() {
    let discord = ScriptedServer::reporting(4, 900, 60_000);
    let server = Server::with_discord(&discord, &[]);
    server.wait_for_state(r#""remaining":900,"#);
    for path in ["/gateway/bot", "/api/v10/gateway/bot"] {
        let (head, body) = request(server.admin, "GET", path);
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        for line in ["content-type: application/json", "connection: close"] {
            assert!(head.contains(&format!("\r\n{line}")), "no {line} in {head}");
        }
        assert!(
            body.starts_with(r#"{"url":"wss://x","shards":3,"#),
            "{body}"
        );
        let length = format!("\r\ncontent-length: {}", body.len());
        let (head, body) = request(server.admin, "HEAD", path);
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        // The number of digits of the time until the reset is the same.
        assert!(head.contains(&length), "{head}");
        assert_eq!(body, "");
    }
    for path in ["/gateway", "/api/v9/gateway/bot", "/gateway/bot/"] {
        assert_eq!(server.page(path).0, 404, "{path}");
    }
}

#[test]
fn all_pods_of_a_bot_may_ask_at_once() {
    const PODS: usize = 300;

    let discord = ScriptedServer::reporting(4, 900, 60_000);
    let server = Server::with_discord(&discord, &[]);
    server.wait_for_state(r#""remaining":900,"#);
    let (admin, together) = (server.admin, Barrier::new(PODS));
    thread::scope(|scope| {
        for _ in 0..PODS {
            scope.spawn(|| {
                together.wait();
                let (head, _) = request(admin, "GET", "/gateway/bot");
                assert!(head.starts_with("http/1.1 200 ok"), "{head}");
            });
        }
    });
}

#[test]
fn while_the_limits_are_unknown_the_response_says_why() {
    let discord = ScriptedServer::saying(response("500 Oops", ""));
    let server = Server::with_discord(&discord, &[]);
    server.last_error();
    let message = unknown(&server);
    assert!(message.contains("Discord answered 500"), "{message}");
    let agent = Server::agent(&server);
    assert_eq!(unknown(&agent), message);

    let without_a_url = limits_response(1, 900, 60_000).replace("wss://x", "https:x");
    discord.say(without_a_url);
    server.wait_for_state(r#""remaining":900,"#);
    let message = unknown(&server);
    assert!(message.contains("the URL of its gateway"), "{message}");

    let message = unknown(&Server::start(&[]));
    assert!(message.starts_with("The queue has no token"), "{message}");
}

#[test]
fn an_agent_passes_on_the_limits_of_its_upstream() {
    let discord = ScriptedServer::reporting(4, 900, 60_000);
    let upstream = Server::with_discord(&discord, &[("SESSION_RESERVE", "50")]);
    upstream.wait_for_state(r#""remaining":900,"#);
    let agent = Server::agent(&upstream);
    assert_eq!(reported(&agent).0, limits_of(850, 4));
    // Nothing is cached.
    granted(&mut agent.ask(0));
    upstream.wait_for_state(r#""remaining":899,"#);
    assert_eq!(reported(&agent).0, limits_of(849, 4));
    drop(upstream);
    let message = unknown(&agent);
    assert!(
        message.starts_with("The upstream at 127.0.0.1:"),
        "{message}"
    );
}

#[test]
fn only_limits_are_passed_on() {
    let queue = ReservedPort::new();
    let url = format!("http://{}", queue.address);
    for answer in [
        response("200 OK", "<html>Sign in</html>"),
        response("200 OK", r#"{"shards":1}"#),
        response("403 Forbidden", "{}"),
        limits_response(0, 900, 60_000),
        limits_response(1, 900, 60_000).replace("200 OK", "502 Bad Gateway"),
    ] {
        let admin = ScriptedServer::saying(answer.as_str());
        let port = admin.address().port().to_string();
        let agent = Server::start(&[("UPSTREAM", &url), ("UPSTREAM_ADMIN_PORT", &port)]);
        let message = unknown(&agent);
        assert!(
            message.contains("unexpected response"),
            "{answer}: {message}"
        );
    }
}

#[tokio::test]
async fn a_follower_asks_its_leader() {
    let discord = ScriptedServer::reporting(4, 900, 60_000);
    let (leader, follower) = (Pod::with_discord(&discord.api()).await, Pod::start().await);
    leader.lead(1);
    follower.follow(&leader);
    until("the leader knows", async || {
        limits::answer(&leader.route).await.0 == StatusCode::OK
    })
    .await;
    let (status, json) = limits::answer(&follower.route).await;
    assert_eq!(status, StatusCode::OK, "{json}");
    let mut limits: Value = serde_json::from_str(&json).unwrap();
    limits["session_start_limit"]["reset_after"].take();
    assert_eq!(limits, limits_of(900, 4));

    // Another leader has this address now.
    follower.follow_at("other", leader.peers);
    let (status, json) = limits::answer(&follower.route).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        json.starts_with(r#"{"message":"The leader at 127.0.0.1:"#),
        "{json}"
    );
    follower.set_leadership(None, None);
    let (status, json) = limits::answer(&follower.route).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        json.starts_with(r#"{"message":"No leader is known"#),
        "{json}"
    );
}

#[tokio::test]
async fn on_the_peer_port_only_the_named_leader_reports_the_limits() {
    let leader = Pod::start().await;
    let named = format!("/gateway/bot?leader={}", leader.holder());
    assert_eq!(answer(&mut get(leader.peers, &named).await).await, "");
    leader.lead(1);
    // It has no token.
    let text = answer(&mut get(leader.peers, &named).await).await;
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(
        text.contains(r#"{"message":"The queue has no token"#),
        "{text}"
    );
    for path in ["/gateway/bot", "/gateway/bot?leader=other"] {
        assert_eq!(
            answer(&mut get(leader.peers, path).await).await,
            "",
            "{path}"
        );
    }
    // For clients, every request is an identify request.
    pod::granted(&mut get(leader.clients, &named).await).await;
}
