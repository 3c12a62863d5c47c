//! Discord is away, busy, or does not like the token.

use std::fs;
use std::thread;
use std::time::Instant;

use super::{D, Discord, SEEN, SILENCE, SLACK, assert_took, is_silent, ms, said, told};
use crate::common::fake::response;
use crate::common::granted;

const UNKNOWN: &str = r#""blocked_by":"session_starts_unknown""#;

#[test]
fn a_discord_that_comes_after_the_start_is_found_within_the_backoff() {
    let mut discord = Discord::away();
    discord.say(told(1, 5, 60_000));
    let server = discord.serves(&[]);
    let started = Instant::now();
    let mut client = server.ask(0);
    let last_error = server.last_error();
    let reason = "cannot connect to Discord at 127.0.0.1: ";
    assert!(last_error.contains(reason), "{last_error}");
    server.wait_for_state(UNKNOWN);
    assert!(is_silent(&client));
    discord.come();
    let at = granted(&mut client);
    assert!(at >= discord.calls()[0]);
    // A second, and a quarter of it for the jitter.
    assert!(at - started < ms(1250) + SLACK);
}

#[test]
fn a_discord_that_goes_away_or_falls_silent_later_changes_nothing_until_few_are_left() {
    thread::scope(|scope| {
        for silent in [false, true] {
            scope.spawn(move || {
                let mut discord = Discord::saying(told(1, 23, 60_000));
                let server = discord.serves(&[("REFRESH_INTERVAL", "500ms")]);
                let first = granted(&mut server.ask(0));
                let mut clients = Vec::new();
                for n in 1..5 {
                    clients.push(server.ask(n));
                    server.wait_for_state(&format!(r#""waiting":{n}"#));
                }
                if silent {
                    discord.say(SILENCE.to_owned());
                    discord.asked(2);
                } else {
                    discord.here = None;
                    server.wait_for_state("cannot connect to Discord");
                }
                for (n, client) in (1..4).zip(&mut clients) {
                    assert_took("a grant", granted(client) - first, D * n);
                }
                // Of less than 20, others may have used the rest since.
                server.wait_for_state(UNKNOWN);
                server.wait_for_state(r#""remaining":19"#);
                assert!(is_silent(&clients[3]));
                if !silent {
                    discord.say(told(1, 9, 60_000));
                    discord.come();
                    granted(&mut clients[3]);
                }
            });
        }
    });
}

#[test]
fn after_any_answer_there_is_no_fetch_for_an_interval() {
    let answers = [
        (told(1, 500, 60_000), D),
        (told(1, 0, 1), D),
        (told(1, 0, 0), D),
        (told(0, 500, 60_000), D),
        (response("429 Slow\r\nretry-after: 0", ""), D),
        (response("500 Oops", ""), D),
        (response("200 OK", "<html>"), D),
        (response("429 Slow\r\nretry-after: 1.3", ""), ms(1300)),
        (response("429 Slow\r\nretry-after: 2", ""), ms(2000)),
    ];
    thread::scope(|scope| {
        for (answer, pause) in answers {
            scope.spawn(move || {
                let discord = Discord::saying(answer.clone());
                let server = discord.serves(&[("REFRESH_INTERVAL", "1ms")]);
                let client = server.ask(0);
                let calls = discord.asked(2);
                let took = calls[1] - calls[0];
                assert!(took + SEEN >= pause, "{took:?}: {answer}");
                assert!(took < ms(1250).max(pause) + SLACK, "{took:?}: {answer}");
                if !answer.contains(r#""remaining":500"#) {
                    assert!(is_silent(&client), "{answer}");
                }
            });
        }
    });
}

#[test]
fn a_429_that_is_over_lets_the_waiters_go() {
    let discord = Discord::saying(response("429 Slow\r\nretry-after: 0.6", ""));
    let server = discord.serves(&[("REFRESH_INTERVAL", "100ms")]);
    let mut client = server.ask(0);
    server.wait_for_state("Discord answered 429: come back in 1 s");
    server.wait_for_state(UNKNOWN);
    discord.say(told(1, 5, 60_000));
    let at = granted(&mut client);
    let calls = discord.calls();
    assert_took("the pause", at - calls[0], ms(600));
    assert_eq!(calls.len(), 2);
    assert_eq!(said(server, "Discord answered 429"), 1);
}

#[test]
fn a_rejected_token_is_left_alone_until_the_file_says_another_which_is_tried_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "first").unwrap();
    let discord = Discord::saying(told(1, 100, 60_000));
    let server = discord.serves(&[
        ("DISCORD_TOKEN_FILE", file.to_str().unwrap()),
        ("REFRESH_INTERVAL", "100ms"),
    ]);
    granted(&mut server.ask(0));
    discord.say(response("401 Unauthorized", ""));
    // It holds although 99 session starts were known to be left.
    server.wait_for_state(r#""blocked_by":"token_rejected""#);
    let calls = discord.calls().len();
    let client = server.ask(1);
    discord.say(SILENCE.to_owned());
    let written = Instant::now();
    fs::write(&file, "second").unwrap();
    // Of a new token nothing is known.
    server.wait_for_state(UNKNOWN);
    discord.asked(calls + 1);
    // The file is read each second.
    assert!(written.elapsed() < ms(1000) + SLACK);
    let here = discord.here.as_ref().unwrap();
    assert!(here.last_call().contains("Bot second\r\n"));
    assert!(is_silent(&client));
}

#[test]
fn an_empty_token_file_is_not_no_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let discord = Discord::saying(told(1, 100, 60_000));
    let server = discord.serves(&[("DISCORD_TOKEN_FILE", file.path().to_str().unwrap())]);
    let client = server.ask(0);
    server.wait_for_state(r#""waiting":1"#);
    server.wait_for_state(r#""blocked_by":"token_missing""#);
    assert!(is_silent(&client));
    assert!(discord.calls().is_empty());
}
