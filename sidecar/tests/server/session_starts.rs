//! The binary and Discord: limits, outages, tokens.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::{Discord, Server, granted, machine};

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
        server.trouble();
        server.wait_for_state(r#""waiting":1"#);
        if status.starts_with("401") {
            server.wait_for_state(r#""hold":"token_rejected""#);
            continue;
        }
        server.wait_for_state(r#""hold":"session_starts_unknown""#);
        discord.say_limits(1, 10, 60_000);
        granted(&mut client);
    }
}

#[test]
fn used_up_session_starts_hold_until_discord_has_opened_a_new_window() {
    let discord = Discord::start();
    discord.say_limits(16, 2, 1500);
    let server = start(&discord, &[]);
    let start = Instant::now();
    granted(&mut server.ask(0));
    granted(&mut server.ask(1));
    let mut third = server.ask(2);
    server.wait_for_state(r#""hold":"session_starts_exhausted""#);
    server.wait_for_state(r#""remaining":0"#);
    discord.say_limits(16, 1000, 86_400_000);
    let took = granted(&mut third) - start;
    assert!(took > Duration::from_millis(1400), "{took:?}");
    assert_eq!(discord.requests().len(), 2);
}

#[test]
fn a_token_file_may_come_later_and_change() {
    let discord = Discord::start();
    discord.say_limits(1, 1000, 60_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let server = start(&discord, &[("DISCORD_TOKEN_FILE", file.to_str().unwrap())]);
    let mut client = server.ask(0);
    server.wait_for_state(r#""hold":"token_missing","trouble":"cannot read /"#);
    assert_eq!(server.page("/readyz").0, 200);
    fs::write(&file, "first").unwrap();
    granted(&mut client);
    discord.say("401 Unauthorized", "");
    fs::write(&file, "second").unwrap();
    server.wait_for_state(r#""hold":"token_rejected""#);
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
