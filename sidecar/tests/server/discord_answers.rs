//! Whatever Discord answers, or whoever is in its place: nothing panics,
//! nothing is granted on it, and the log says what was wrong with it.

mod parse;
mod slow;

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::fake::{Port, limits, response};
use crate::common::{Server, granted, machine};

/// Every bad answer quotes it; nothing of ours may.
const TOKEN: &str = "t0ken.of-the.bot";

type Talk = Box<dyn Fn(&str, &mut TcpStream) -> io::Result<()> + Send>;

/// A bad answer, and what the log must say of it.
struct Bad {
    name: String,
    why: &'static str,
    talk: Talk,
}

fn talks(
    name: impl Into<String>,
    why: &'static str,
    talk: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + 'static,
) -> Bad {
    Bad {
        name: name.into(),
        why,
        talk: Box::new(talk),
    }
}

fn says(name: impl Into<String>, why: &'static str, bytes: impl Into<Vec<u8>>) -> Bad {
    let bytes = bytes.into();
    talks(name, why, move |_, stream| stream.write_all(&bytes))
}

fn start(port: &Port, more: &[(&str, &str)]) -> Server {
    let url = port.url();
    let mut environment = vec![("DISCORD_API", url.as_str()), ("DISCORD_TOKEN", TOKEN)];
    environment.extend(more);
    Server::start(&environment)
}

fn is_silent(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let peeked = client.peek(&mut [0]);
    client.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Held by the bad answer, and granted by the good one that comes next.
fn is_held_and_then_granted(Bad { name, why, talk }: Bad) {
    println!("{name}");
    let port = Port::take();
    let good = Arc::new(AtomicBool::new(false));
    let is_good = Arc::clone(&good);
    let _discord = port.listen(move |head, mut stream| {
        let _ = match is_good.load(Ordering::SeqCst) {
            true => stream.write_all(response("200 OK", &limits(1, 9, 60_000)).as_bytes()),
            false => talk(head, &mut stream),
        };
    });
    let mut server = start(&port, &[]);
    let mut client = server.ask(0);
    let last_error = server.last_error();
    assert!(last_error.starts_with(why), "{name}: {last_error}");
    server.wait_for_state(r#""waiting":1"#);
    let state = server.page("/state").1;
    assert!(
        state.contains(r#""blocked_by":"session_starts_unknown""#),
        "{name}: {state}"
    );
    assert!(is_silent(&client), "{name}: granted");
    good.store(true, Ordering::SeqCst);
    granted(&mut client);
    server.signal("-TERM");
    for line in server.log_to_the_end().chain([state]) {
        assert!(!line.contains("t0ken"), "{name}: {line}");
        assert!(!line.contains("panicked"), "{name}: {line}");
    }
    assert!(server.ended().success(), "{name}");
}

/// All at the same time, as each is mostly waiting.
fn all_are_held(answers: Vec<Bad>) {
    let _busy = machine::busy();
    thread::scope(|scope| {
        for bad in answers {
            scope.spawn(move || is_held_and_then_granted(bad));
        }
    });
}

const NOT_DISCORDS: &str = "an answer that is not Discord's (";

const FIELDS: [&str; 5] = [
    "shards",
    "total",
    "remaining",
    "reset_after",
    "max_concurrency",
];

/// What no field of them can be.
const WRONG: [&str; 10] = [
    "null",
    "-1",
    "1.5",
    "1e400",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    r#""1""#,
    "true",
    "{}",
    "[1]",
];

#[test]
fn a_field_that_is_missing_or_wrong_spoils_the_answer() {
    const BUCKETS: &str = "Discord said a max_concurrency that is not 1 to 4096";
    let mut answers = vec![
        says("4097", BUCKETS, response("200 OK", &limits(4097, 9, 9))),
        says("0", BUCKETS, response("200 OK", &limits(0, 9, 9))),
    ];
    let deep = with("remaining", &"[".repeat(10_000));
    answers.push(says("deep", NOT_DISCORDS, response("200 OK", &deep)));
    // Each value with one field, and each field with two; every pair is tried
    // without a process in between, in `parse`.
    for (n, field) in FIELDS.iter().enumerate() {
        for body in [
            with(field, WRONG[n]),
            with(field, WRONG[n + FIELDS.len()]),
            with(field, &format!(r#"1,"{field}":1"#)),
            good().replace(&format!(r#""{field}""#), r#""other""#),
        ] {
            answers.push(says(body.clone(), NOT_DISCORDS, response("200 OK", &body)));
        }
    }
    all_are_held(answers);
}

/// A good answer that quotes the token.
fn good() -> String {
    format!(
        r#"{{"url":"{TOKEN}","shards":1,"session_start_limit":{{"total":2,"remaining":3,"reset_after":4,"max_concurrency":5}}}}"#
    )
}

/// The good answer with this as the value of this field.
fn with(field: &str, value: &str) -> String {
    let key = format!(r#""{field}":"#);
    let body = good();
    let (before, after) = body.split_once(&key).unwrap();
    format!("{before}{key}{value}{}", &after[1..])
}

#[test]
fn what_is_no_json_of_discords_is_no_answer() {
    let bytes = |head: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\n{head}content-length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let half = &good()[..40];
    let mut not_utf8 = good().into_bytes();
    let end = not_utf8.len() - 3;
    not_utf8[end] = 0xff;
    all_are_held(vec![
        says("an empty body", NOT_DISCORDS, bytes("", b"")),
        says(
            "HTML",
            NOT_DISCORDS,
            bytes("content-type: text/html\r\n", TOKEN.as_bytes()),
        ),
        says("half of it", NOT_DISCORDS, bytes("", half.as_bytes())),
        says(
            "more after it",
            NOT_DISCORDS,
            bytes("", (good() + TOKEN).as_bytes()),
        ),
        says("no UTF-8", NOT_DISCORDS, bytes("", &not_utf8)),
        says(
            "gzip",
            NOT_DISCORDS,
            bytes("content-encoding: gzip\r\n", b"\x1f\x8b\x08\x00t0ken"),
        ),
        talks("our own request", NOT_DISCORDS, move |head, stream| {
            stream.write_all(response("200 OK", head).as_bytes())
        }),
        says(
            "a list",
            NOT_DISCORDS,
            bytes("", format!("[{}]", good()).as_bytes()),
        ),
        says(
            "10,000 deep",
            NOT_DISCORDS,
            bytes("", r#"{"a":"#.repeat(10_000).as_bytes()),
        ),
    ]);
}

#[test]
fn no_status_but_200_has_an_answer_in_it() {
    let body = good();
    let mut answers = vec![
        says(
            "204",
            "Discord answered 204",
            "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
        ),
        says(
            "201",
            "Discord answered 201",
            response("201 Created", &body),
        ),
        says("403", "Discord answered 403", response("403 No", &body)),
        says("404", "Discord answered 404", response("404 No", &body)),
        says("500", "Discord answered 500", response("500 Oops", &body)),
        says("503", "Discord answered 503", response("503 Oops", &body)),
        says("999", "Discord answered 999", response("999 What", &body)),
        says(
            "429 without a time",
            "Discord answered 429",
            response("429 Slow", &body),
        ),
    ];
    for time in [
        "-1",
        "NaN",
        "inf",
        "1e300",
        "soon t0ken",
        "",
        "Wed, 21 Oct 2026 07:28:00 GMT",
    ] {
        let status = format!("429 Slow\r\nretry-after: {time}");
        answers.push(says(
            status.clone(),
            "Discord answered 429",
            response(&status, &body),
        ));
    }
    all_are_held(answers);
}

#[test]
fn an_answer_that_a_cache_has_kept_is_no_answer() {
    const CACHED: &str = "the answer is from a cache (its Age is not 0), not from Discord";
    let ages = ["1", "-1", "soon", "", "18446744073709551616", "0\r\nage: 7"];
    let answers = ages.map(|age| {
        let status = format!("200 OK\r\nage: {age}");
        says(
            status.clone(),
            CACHED,
            response(&status, &limits(1, 1000, 9)),
        )
    });
    all_are_held(answers.into());
}

#[test]
fn a_redirect_is_never_followed() {
    let target = Port::take();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let _target = target.listen(move |_, mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = stream.write_all(response("200 OK", &limits(1, 9, 9)).as_bytes());
    });
    let to = format!("location: {}/gateway/bot", target.url());
    let whys = [
        "Discord answered 301",
        "Discord answered 302",
        "Discord answered 303",
        "Discord answered 307",
        "Discord answered 308",
    ];
    let answers = whys.map(|why| {
        let status = format!("{} Moved\r\n{to}", &why[why.len() - 3..]);
        says(why, why, response(&status, ""))
    });
    all_are_held(answers.into());
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[test]
fn what_is_no_whole_http_is_no_answer() {
    const CUT: &str = "no whole answer from Discord at 127.0.0.1: ";
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}", good());
    let chunks =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{{\r\nt0ken{TOKEN}\r\n");
    let two = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nt0ken";
    all_are_held(vec![
        says("closed at once", CUT, ""),
        says(
            "closed in the head",
            CUT,
            format!("HTTP/1.1 200 OK\r\nx-y: {TOKEN}"),
        ),
        says("closed in the body", CUT, cut),
        says("chunks that are none", CUT, chunks),
        says("two lengths", CUT, two),
        says("no HTTP", CUT, format!("SSH-2.0-{TOKEN}\r\n\r\n")),
        says(
            "noise",
            CUT,
            (0..=255).cycle().take(9000).collect::<Vec<u8>>(),
        ),
        says(
            "100 Continue, 2000 times",
            CUT,
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000),
        ),
        talks("a head without an end", CUT, |_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(format!("x-more: {TOKEN}\r\n").repeat(1000).as_bytes())?;
            }
        }),
    ]);
}

#[test]
fn what_is_known_stays_in_force_through_bad_answers() {
    let bad = [
        response("200 OK", ""),
        response("500 Oops", ""),
        response("429 Slow", ""),
        response("302 Found\r\nlocation: http://127.0.0.1:1/", ""),
        "SSH-2.0".to_owned(),
    ];
    thread::scope(|scope| {
        for bad in bad {
            scope.spawn(move || {
                let port = Port::take();
                let says = Arc::new(Mutex::new(response("200 OK", &limits(2, 900, 60_000))));
                let now = Arc::clone(&says);
                let discord = port.listen(move |_, mut stream| {
                    let _ = stream.write_all(now.lock().unwrap().as_bytes());
                });
                let server = start(&port, &[("REFRESH_INTERVAL", "500ms")]);
                granted(&mut server.ask(0));
                says.lock().unwrap().clone_from(&bad);
                server.last_error();
                let asked = discord.calls().len();
                granted(&mut server.ask(1));
                granted(&mut server.ask(2));
                let state = server.page("/state").1;
                assert!(state.contains(r#""blocked_by":null"#), "{bad}: {state}");
                assert!(state.contains(r#""remaining":897"#), "{bad}: {state}");
                assert!(state.contains(r#""max_concurrency":2"#), "{bad}: {state}");
                assert!(!state.contains(r#""last_error":null"#), "{bad}: {state}");
                assert!(asked >= 2, "{bad}");
            });
        }
    });
}

#[test]
fn only_the_json_counts_not_what_it_is_called() {
    let port = Port::take();
    let _discord = port.listen(|_, mut stream| {
        let status = "200 OK\r\ncontent-type: text/html";
        let answer = response(status, &limits(1, u64::MAX, u64::MAX));
        let _ = stream.write_all(answer.as_bytes());
    });
    let server = start(&port, &[]);
    granted(&mut server.ask(0));
    let page = server.page("/metrics").1;
    assert!(
        page.contains("gateway_queue_session_starts_remaining 9223372036854775807\n"),
        "{page}"
    );
}
