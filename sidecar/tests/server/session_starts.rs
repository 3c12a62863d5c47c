//! The binary and Discord: limits, outages, tokens.

use std::fs;
use std::thread;
use std::time::Duration;

use gateway_queue_testkit::scripted_server::{ScriptedServer, response};

use crate::common::{Server, TOKEN, granted, waits};

#[test]
fn discord_reports_the_number_of_buckets() {
    let discord = ScriptedServer::reporting(4, 1000, 60_000);
    let server = Server::with_discord(&discord, &[("IDENTIFY_INTERVAL", "1h")]);
    // Each has a bucket of its own: none waits for an hour.
    for mut client in [0, 1, 2, 3].map(|shard| server.ask(shard)) {
        granted(&mut client);
    }
    let head = &discord.received()[0].head;
    assert!(head.contains(&format!("Bot {TOKEN}\r\n")));
    let head = head.to_ascii_lowercase();
    assert!(
        head.starts_with("get /api/v10/gateway/bot http/1.1\r\n"),
        "{head}"
    );
    for header in [
        "\r\nuser-agent: discordbot (",
        "\r\ncache-control: no-cache\r\n",
    ] {
        assert!(head.contains(header), "{head}");
    }
}

#[test]
fn without_a_usable_answer_requests_wait_until_there_is_one() {
    let refused = "cannot connect to Discord at 127.0.0.1: ";
    // Some answers quote the token; no output of the server may.
    let answers = [
        (None, refused),
        (
            Some(response("200 OK", TOKEN)),
            "the response is not from Discord: ",
        ),
        (
            Some(response("429 Slow Down\r\nretry-after: 2", TOKEN)),
            "Discord answered 429",
        ),
    ];
    thread::scope(|scope| {
        for (answer, last_error) in answers {
            scope.spawn(move || {
                let mut discord = ScriptedServer::down();
                if let Some(answer) = answer {
                    discord.say(answer);
                    discord.come_up();
                }
                let mut server = Server::with_discord(&discord, &[]);
                let mut client = server.ask(0);
                let state = server.last_error();
                assert!(state.starts_with(last_error), "{state}");
                server.wait_for_state(r#""waiting":1"#);
                let state = server.wait_for_state(r#""blocked_by":"session_starts_unknown""#);
                assert!(waits(&client), "{last_error}: granted");

                discord.report(1, 10, 60_000);
                if last_error == refused {
                    discord.come_up();
                }
                granted(&mut client);
                if last_error.ends_with("429") {
                    let asked = discord.received();
                    let pause = asked[1].at - asked[0].at;
                    assert!(pause > Duration::from_millis(1980), "{pause:?}");
                }
                server.signal("-TERM");
                for line in server.log_to_the_end().chain([state]) {
                    assert!(!line.contains("t0ken"), "{last_error}: {line}");
                    assert!(!line.contains("panicked"), "{last_error}: {line}");
                }
                assert!(server.ended().success(), "{last_error}");
            });
        }
    });
}

#[test]
fn known_limits_stay_in_force_while_discord_is_down() {
    let mut discord = ScriptedServer::reporting(2, 900, 60_000);
    let server = Server::with_discord(&discord, &[("REFRESH_INTERVAL", "500ms")]);
    granted(&mut server.ask(0));
    discord.go_down();
    server.last_error();
    granted(&mut server.ask(1));
    granted(&mut server.ask(2));
    let state = server.wait_for_state(r#""remaining":897"#);
    for known in [r#""blocked_by":null"#, r#""max_concurrency":2"#] {
        assert!(state.contains(known), "{known} in {state}");
    }
    assert!(!state.contains(r#""last_error":null"#), "{state}");
}

#[test]
fn with_few_session_starts_left_a_failed_request_is_why_nothing_is_granted() {
    let mut discord = ScriptedServer::reporting(2, 3, 60_000);
    let server = Server::with_discord(&discord, &[]);
    server.wait_for_state(r#""remaining":3"#);
    discord.go_down();
    let mut client = server.ask(0);
    server.wait_for_state(r#""blocked_by":"session_starts_unknown""#);
    discord.come_up();
    granted(&mut client);
    // They are still few.
    server.wait_for_state(r#""remaining":2"#);
    let state = server.wait_for_state(r#""blocked_by":null"#);
    assert!(state.contains(r#""last_error":null"#), "{state}");
}

#[test]
fn numbers_that_no_gauge_and_no_time_can_hold_are_accepted() {
    let discord = ScriptedServer::reporting(1, u64::MAX, u64::MAX);
    let server = Server::with_discord(&discord, &[]);
    granted(&mut server.ask(0));
    server.has_metric(&format!("session_starts_remaining {}\n", i64::MAX));
    let state = server.wait_for_state(r#""reset_time":null"#);
    assert!(state.contains(r#""blocked_by":null"#), "{state}");
}

#[test]
fn used_up_session_starts_return_when_discord_reports_a_new_window() {
    const EXHAUSTED: &str = "session_starts_exhausted";
    let discord = ScriptedServer::reporting(16, 3, 1500);
    let server = Server::with_discord(&discord, &[("SESSION_RESERVE", "1")]);
    server.wait_for_state(r#""remaining":3,"#);
    let first = granted(&mut server.ask(0));
    granted(&mut server.ask(1));
    let mut third = server.ask(2);
    server.wait_for_state(&format!(r#""blocked_by":"{EXHAUSTED}""#));
    server.wait_for_state(r#""remaining":1"#);
    server.has_metric("_reserve 1\n");
    discord.report(16, 1000, 86_400_000);
    let took = granted(&mut third) - first;
    assert!(took > Duration::from_millis(1400), "{took:?}");
    // At the start, for the first grants because few are left, and for the third.
    assert_eq!(discord.received().len(), 3);
    server.has_metric("gateway_queue_discord_requests_total{outcome=\"success\"} 3\n");
    server.signal("-TERM");
    let reason = format!(r#""reason":"{EXHAUSTED}""#);
    let reported = server
        .log_to_the_end()
        .filter(|line| line.contains(&reason));
    assert_eq!(reported.count(), 1);
}

#[test]
fn an_impossible_max_concurrency_is_counted_and_the_old_one_kept() {
    let discord = ScriptedServer::reporting(0, 1000, 3_600_000);
    let server = Server::with_discord(&discord, &[("REFRESH_INTERVAL", "500ms")]);
    let refused = |count: u32| {
        let line = format!("gateway_queue_invalid_max_concurrency_total {count}\n");
        server.wait_for_page("/metrics", &line);
    };
    refused(1);
    discord.report(2, 1000, 3_600_000);
    granted(&mut server.ask(0));
    discord.report(5000, 1000, 3_600_000);
    refused(2);
    server.has_metric("gateway_queue_max_concurrency 2\n");
    granted(&mut server.ask(1));
}

#[test]
fn a_token_file_may_appear_later_and_change() {
    let discord = ScriptedServer::reporting(1, 1000, 60_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let server = Server::start(&[
        ("DISCORD_API", &discord.api()),
        ("DISCORD_TOKEN_FILE", file.to_str().unwrap()),
    ]);
    let mut client = server.ask(0);
    server.wait_for_state(r#""blocked_by":"token_missing","last_error":"cannot read /"#);
    assert_eq!(server.page("/readyz").0, 200);
    fs::write(&file, "\n").unwrap();
    server.wait_for_state("contains no token: it is empty");
    assert!(waits(&client) && discord.received().is_empty());
    fs::write(&file, "first").unwrap();
    granted(&mut client);

    discord.say(response("401 Unauthorized", ""));
    fs::write(&file, "second").unwrap();
    server.wait_for_state(r#""blocked_by":"token_rejected""#);
    let mut client = server.ask(0);
    discord.report(1, 1000, 60_000);
    fs::write(&file, "third").unwrap();
    granted(&mut client);
    let tokens = ["Bot first\r\n", "Bot second\r\n", "Bot third\r\n"];
    for (request, token) in discord.received().iter().zip(tokens) {
        assert!(request.head.contains(token));
    }
}
