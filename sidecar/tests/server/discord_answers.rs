//! Whatever Discord, or a program in its place, answers: a bad answer is refused with a reason
//! that quotes nothing of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gateway_queue::discord::api::Discord;
use gateway_queue_core::bot_token::BotToken;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_testkit::discord::limits;
use gateway_queue_testkit::scripted_server::{ScriptedServer, response};

use crate::common::TOKEN;

const NOT_DISCORDS: &str = "the response is not from Discord: ";
const INCOMPLETE: &str = "no complete response from Discord at 127.0.0.1: ";

async fn fetch(discord: &ScriptedServer) -> Outcome {
    let client = Discord::new(&discord.api(), None).unwrap();
    client.fetch(&BotToken::parse(TOKEN).unwrap()).await
}

/// Fetches from this server, and checks that the answer is refused for this reason.
async fn is_refused(discord: ScriptedServer, error: &str, name: &str) {
    match fetch(&discord).await {
        Outcome::Invalid(refusal) | Outcome::Unreachable(refusal) => {
            assert!(refusal.starts_with(error), "{name}: {refusal}");
            assert!(!refusal.contains("t0ken"), "{name}: {refusal}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

async fn are_refused(answers: impl IntoIterator<Item = (&str, impl Into<Vec<u8>>)>) {
    for (error, answer) in answers {
        let answer = answer.into();
        let name = answer[..answer.len().min(500)].escape_ascii().to_string();
        is_refused(ScriptedServer::saying(answer), error, &name).await;
    }
}

/// A good answer that quotes the token.
fn good() -> String {
    limits(1, 9, 60_000).replace("wss://x", TOKEN)
}

#[tokio::test]
async fn a_good_answer_is_read_whatever_its_content_type_is() {
    let status = "200 OK\r\ncontent-type: text/html";
    let discord = ScriptedServer::saying(response(status, &good()));
    let Outcome::Limits(limits) = fetch(&discord).await else {
        panic!("refused");
    };
    assert_eq!((limits.total, limits.remaining), (1000, 9));
    assert_eq!(limits.max_concurrency, Some(1));
}

#[tokio::test]
async fn a_body_that_is_not_discords_json_is_refused() {
    let good = good();
    let body = |head: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\n{head}content-length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let mut not_utf8 = good.clone().into_bytes();
    let end = not_utf8.len() - 3;
    not_utf8[end] = 0xff;
    are_refused(
        [
            body("", b""),
            body("content-type: text/html\r\n", TOKEN.as_bytes()),
            body("", &good.as_bytes()[..40]),
            body("", (good.clone() + TOKEN).as_bytes()),
            body("", &not_utf8),
            body("content-encoding: gzip\r\n", b"\x1f\x8b\x08\x00t0ken"),
            body("", format!("[{good}]").as_bytes()),
            body("", r#"{"a":"#.repeat(10_000).as_bytes()),
        ]
        .map(|answer| (NOT_DISCORDS, answer)),
    )
    .await;
    let echo = ScriptedServer::scripted(|head, stream| {
        stream.write_all(response("200 OK", head).as_bytes())
    });
    is_refused(echo, NOT_DISCORDS, "our own request").await;
}

#[tokio::test]
async fn only_the_status_200_has_limits() {
    let target = ScriptedServer::reporting(1, 9, 9);
    let location = format!("location: {}/gateway/bot", target.api());
    let no_time = "Discord answered 429 with no Retry-After";
    let answers = [
        ("Discord answered 201", "201 Created"),
        ("Discord answered 204", "204 No Content"),
        ("Discord answered 301", &format!("301 Moved\r\n{location}")),
        ("Discord answered 302", &format!("302 Moved\r\n{location}")),
        ("Discord answered 303", &format!("303 Moved\r\n{location}")),
        ("Discord answered 307", &format!("307 Moved\r\n{location}")),
        ("Discord answered 308", &format!("308 Moved\r\n{location}")),
        ("Discord answered 403", "403 No"),
        ("Discord answered 404", "404 No"),
        ("Discord answered 500", "500 Oops"),
        ("Discord answered 503", "503 Oops"),
        ("Discord answered 999", "999 What"),
        (no_time, "429 Slow"),
        (no_time, "429 Slow\r\nretry-after: soon t0ken"),
    ];
    are_refused(answers.map(|(error, status)| (error, response(status, &good())))).await;
    assert!(target.received().is_empty(), "a redirect was followed");

    let answers = [
        ("401 Unauthorized", Outcome::Rejected),
        (
            "429 Slow\r\nretry-after: 1.3",
            Outcome::RateLimited(Duration::from_millis(1300)),
        ),
    ];
    for (status, outcome) in answers {
        let discord = ScriptedServer::saying(response(status, &good()));
        assert_eq!(fetch(&discord).await, outcome);
    }
}

#[tokio::test]
async fn an_answer_from_a_cache_is_refused() {
    const CACHED: &str = "the response is from a cache (its Age is not 0), not from Discord";
    let statuses = ["200 OK\r\nage: 1", "200 OK\r\nage: 0\r\nage: 7"];
    are_refused(statuses.map(|status| (CACHED, response(status, &good())))).await;
}

#[tokio::test]
async fn an_incomplete_or_invalid_response_is_refused() {
    let noise: Vec<u8> = (0..=255).cycle().take(9000).collect();
    let texts = [
        String::new(),
        format!("HTTP/1.1 200 OK\r\nx-y: {TOKEN}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}", good()),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{{\r\nt0ken{TOKEN}\r\n"),
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nt0ken".to_owned(),
        format!("SSH-2.0-{TOKEN}\r\n\r\n"),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000),
    ];
    are_refused(texts.map(|text| (INCOMPLETE, text))).await;
    are_refused([(INCOMPLETE, noise)]).await;
    let endless = ScriptedServer::scripted(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(format!("x-more: {TOKEN}\r\n").repeat(1000).as_bytes())?;
        }
    });
    is_refused(endless, INCOMPLETE, "a head without an end").await;
}

#[tokio::test]
async fn of_a_huge_body_only_a_few_bytes_are_read() {
    const MEGABYTE: usize = 1 << 20;
    for chunked in [false, true] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let discord = ScriptedServer::scripted(move |_, stream| {
            let (framing, block) = if chunked {
                let chunk = format!("{MEGABYTE:x}\r\n{}\r\n", " ".repeat(MEGABYTE));
                ("transfer-encoding: chunked".to_owned(), chunk)
            } else {
                let length = 100 * MEGABYTE;
                (format!("content-length: {length}"), " ".repeat(MEGABYTE))
            };
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes())?;
            for _ in 0..100 {
                stream.write_all(block.as_bytes())?;
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        is_refused(
            discord,
            "the response has more than 65536 bytes",
            "a huge body",
        )
        .await;
        // What the kernel buffers was written, too.
        assert!(sent.load(Ordering::SeqCst) < 50, "{sent:?} MB");
    }
}

#[tokio::test]
async fn a_slow_or_silent_answer_is_given_up_after_ten_seconds() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    fn trickle(first: &str, more: &str, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(first.as_bytes())?;
        while !more.is_empty() {
            thread::sleep(Duration::from_millis(100));
            stream.write_all(more.as_bytes())?;
        }
        stream.read(&mut [0]).map(drop)
    }
    let slow = [
        ("", ""),
        ("HTTP/1.1 200", ""),
        (HEAD, ""),
        (HEAD, " "),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ];
    let given_up = slow.map(|(first, more)| async move {
        let discord = ScriptedServer::scripted(move |_, stream| trickle(first, more, stream));
        let start = Instant::now();
        let error = "no response from Discord in time";
        is_refused(discord, error, &format!("{first:?}, then {more:?}")).await;
        assert!(start.elapsed() < Duration::from_secs(12));
    });
    join_all(given_up).await;
}
