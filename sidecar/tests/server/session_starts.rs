//! The binary and Discord: limits, outages, tokens.

use std::fs;
use std::io::Read;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::fake::limits;
use crate::common::{Discord, LONG, Server, granted, machine};

const TOKEN: &str = "t0ken.of-the.bot";

fn start(discord: &Discord, more: &[(&str, &str)]) -> Server {
    let mut environment = vec![
        ("DISCORD_API", discord.url.as_str()),
        ("DISCORD_TOKEN", TOKEN),
    ];
    environment.extend(more);
    Server::start(&environment)
}

#[test]
fn discord_says_how_many_buckets_there_are() {
    let _timed = machine::timed();
    let discord = Discord::start();
    discord.say_limits(4, 1000, 60_000);
    let server = start(&discord, &[]);
    let mut clients: Vec<_> = (0..4).map(|shard| server.ask(shard)).collect();
    let times: Vec<_> = clients.iter_mut().map(granted).collect();
    assert!(times[3] - times[0] < Duration::from_millis(400));
    let requests = discord.requests();
    let request = requests[0].to_ascii_lowercase();
    assert!(
        request.starts_with("get /api/v10/gateway/bot http/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("user-agent: discordbot ("), "{request}");
    assert!(requests[0].contains(&format!("Bot {TOKEN}\r\n")));
}

#[test]
fn while_discord_does_not_answer_well_everybody_is_held() {
    for (status, body) in [
        ("500 Oops", ""),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", ""),
        ("200 OK", "<html>"),
        ("401 Unauthorized", ""),
        ("429 Slow Down\r\nretry-after: 2", ""),
    ] {
        let discord = Discord::start();
        discord.say(status, body);
        let server = start(&discord, &[]);
        let mut client = server.ask(0);
        server.last_error();
        server.wait_for_state(r#""waiting":1"#);
        if status.starts_with("401") {
            server.wait_for_state(r#""blocked_by":"token_rejected""#);
            continue;
        }
        server.wait_for_state(r#""blocked_by":"session_starts_unknown""#);
        discord.say_limits(1, 10, 60_000);
        granted(&mut client);
    }
}

#[test]
fn used_up_session_starts_hold_until_discord_has_opened_a_new_window() {
    let discord = Discord::start();
    discord.say_limits(16, 2, 1500);
    let server = start(&discord, &[]);
    server.wait_for_state(r#""remaining":2,"#);
    let start = Instant::now();
    granted(&mut server.ask(0));
    granted(&mut server.ask(1));
    let mut third = server.ask(2);
    server.wait_for_state(r#""blocked_by":"session_starts_exhausted""#);
    server.wait_for_state(r#""remaining":0"#);
    discord.say_limits(16, 1000, 86_400_000);
    let took = granted(&mut third) - start;
    assert!(took > Duration::from_millis(1400), "{took:?}");
    // At the start, for the first grants, as few are left, and for the third.
    assert_eq!(discord.requests().len(), 3);
}

#[test]
fn what_others_use_of_the_last_session_starts_is_not_granted() {
    for buckets in [1, 16] {
        let discord = Discord::start();
        discord.say_limits(buckets, 12, 86_400_000);
        let server = start(&discord, &[]);
        server.wait_for_state(r#""remaining":12,"#);
        // Others use ten of them, and one of ours is counted as soon as it is granted.
        discord.say_limits(buckets, 2, 86_400_000);
        let (grants, granted) = channel();
        for shard in 0..12 {
            let (grants, mut client) = (grants.clone(), server.ask(shard));
            thread::spawn(move || {
                let mut byte = [0];
                if client.read_exact(&mut byte).is_ok() {
                    let _ = grants.send(());
                }
            });
        }
        drop(grants);
        for left in [1, 0] {
            granted.recv_timeout(LONG).unwrap();
            discord.say_limits(buckets, left, 86_400_000);
        }
        server.wait_for_state(r#""blocked_by":"session_starts_exhausted""#);
        // Eight intervals: Discord is asked no more, and nobody is granted.
        let third = granted.recv_timeout(Duration::from_secs(4));
        assert!(third.is_err(), "a third grant");
        let metrics = server.page("/metrics").1;
        assert!(
            metrics.contains("gateway_queue_grants_total 2\n"),
            "{metrics}"
        );
        for request in discord.requests() {
            let request = request.to_ascii_lowercase();
            assert!(request.contains("\r\ncache-control: no-cache\r\n"));
        }
    }
}

#[test]
fn the_last_session_starts_are_granted_when_nobody_else_uses_them() {
    let _timed = machine::timed();
    for buckets in [1, 16] {
        let discord = Discord::start();
        discord.say_limits(buckets, 12, 86_400_000);
        let server = start(&discord, &[]);
        server.wait_for_state(r#""remaining":12,"#);
        let start = Instant::now();
        let mut clients: Vec<_> = (0..12).map(|shard| server.ask(shard)).collect();
        for (left, client) in (0..12).rev().zip(&mut clients) {
            granted(client);
            discord.say_limits(buckets, left, 86_400_000);
        }
        let (took, asked) = (start.elapsed(), discord.requests().len());
        match buckets {
            // One answer is good for all who came together.
            16 => {
                assert!(took < Duration::from_millis(300), "{took:?}");
                assert_eq!(asked, 2);
            }
            // One interval for each, one more for the last; and how long a busy
            // machine takes. Never more questions than one per interval.
            _ => {
                assert!(took < Duration::from_secs(12), "{took:?}");
                let most = took.as_millis() / 500 + 3;
                assert!(asked as u128 <= most, "{asked} in {took:?}");
            }
        }
    }
}

#[test]
fn a_low_budget_holds_while_discord_does_not_answer_and_goes_on_when_it_does() {
    for (status, body) in [
        ("500 Oops", ""),
        ("200 OK", "<html>"),
        ("200 OK\r\nage: 1", &*limits(1, 9, 86_400_000)),
        ("429 Slow Down\r\nretry-after: 1", ""),
    ] {
        let discord = Discord::start();
        discord.say_limits(1, 9, 86_400_000);
        let server = start(&discord, &[]);
        server.wait_for_state(r#""remaining":9,"#);
        discord.say(status, body);
        let mut client = server.ask(0);
        server.wait_for_log("cannot fetch the session starts");
        server.wait_for_state(r#""blocked_by":"session_starts_unknown""#);
        assert!(
            server.page("/state").1.contains(r#""waiting":1,"#),
            "{status}"
        );
        let metrics = server.page("/metrics").1;
        assert!(
            metrics.contains("gateway_queue_grants_total 0\n"),
            "{status}"
        );
        discord.say_limits(1, 9, 86_400_000);
        granted(&mut client);
        server.wait_for_state(r#""blocked_by":null,"last_error":null"#);
    }
}

#[test]
fn a_token_file_may_come_later_and_change() {
    let discord = Discord::start();
    discord.say_limits(1, 1000, 60_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let server = start(&discord, &[("DISCORD_TOKEN_FILE", file.to_str().unwrap())]);
    let mut client = server.ask(0);
    server.wait_for_state(r#""blocked_by":"token_missing","last_error":"cannot read /"#);
    assert_eq!(server.page("/readyz").0, 200);
    fs::write(&file, "first").unwrap();
    granted(&mut client);
    discord.say("401 Unauthorized", "");
    fs::write(&file, "second").unwrap();
    server.wait_for_state(r#""blocked_by":"token_rejected""#);
    let mut client = server.ask(0);
    discord.say_limits(1, 1000, 60_000);
    fs::write(&file, "third").unwrap();
    granted(&mut client);
    let requests = discord.requests();
    let tokens = ["Bot first\r\n", "Bot second\r\n", "Bot third\r\n"];
    for (request, token) in requests.iter().zip(tokens) {
        assert!(request.contains(token));
    }
}

#[test]
fn the_token_is_printed_nowhere() {
    let discord = Discord::start();
    discord.say_limits(1, 1000, 60_000);
    let server = start(&discord, &[("RUST_LOG", "trace")]);
    let ask = format!(
        "POST /?shard=0&token={TOKEN} HTTP/1.1\r\nhost: q\r\ncontent-length: 16\r\n\r\n{TOKEN}"
    );
    granted(&mut server.send(ask.as_bytes()));
    for page in ["/state", "/metrics"] {
        assert!(!server.page(page).1.contains("t0ken"));
    }
    server.signal("-TERM");
    for line in server.log_to_the_end() {
        assert!(!line.contains("t0ken"), "{line}");
    }
}
