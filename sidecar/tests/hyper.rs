//! Compares how requests are read with hyper: the same requests, the same bodies, and the same
//! ends of connections. A request that hyper refuses must never be read: it could be granted.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use gateway_queue_core::protocol::body::MAX_BODY_BYTES;
use gateway_queue_core::protocol::head::{self, MAX_HEAD_BYTES};
use gateway_queue_core::protocol::request::{self, Malformed, Parameters};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::USER_AGENT;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::{AsyncWriteExt, duplex};
use tokio::time::timeout;

/// A request that was read to the end of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    is_head: bool,
    is_connect: bool,
    path: String,
    parameters: Result<Parameters, Malformed>,
    is_http_11: bool,
    is_from_gateway_queue: bool,
}

/// What is read from a connection, and whether more would be.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    read: Vec<Read>,
    is_open: bool,
}

fn ours(bytes: &[u8]) -> Outcome {
    let mut read = Vec::new();
    let is_open = read_ours(bytes, &mut read).is_some();
    Outcome { read, is_open }
}

/// Returns none if the connection is closed.
fn read_ours(mut bytes: &[u8], read: &mut Vec<Read>) -> Option<()> {
    while let Some(head) = head::parse(bytes).ok()? {
        let request = Read {
            is_head: head.form.is_head,
            is_connect: head.is_connect,
            path: head.uri.path().to_owned(),
            parameters: request::parse(head.uri.query()),
            is_http_11: head.form.is_http_11,
            is_from_gateway_queue: head.is_from_gateway_queue,
        };
        if head.is_connect {
            read.push(request);
            return None;
        }
        bytes = &bytes[head.bytes..];
        let mut body = head.body;
        bytes = &bytes[body.read(bytes).ok()?..];
        if !body.is_complete() {
            break;
        }
        read.push(request);
        head.form.keep_alive.then_some(())?;
    }
    Some(())
}

fn hypers(bytes: &[u8]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let read = Mutex::new(Vec::new());
    let is_open = runtime.block_on(async {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        let service = service_fn(|request| serve_with_hyper(request, &read));
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(server), service);
        // The clock only moves when there is nothing left to do.
        timeout(Duration::from_secs(1), connection).await.is_err()
    });
    Outcome {
        read: read.into_inner().unwrap(),
        is_open,
    }
}

async fn serve_with_hyper(
    request: Request<Incoming>,
    read: &Mutex<Vec<Read>>,
) -> Result<Response<Empty<Bytes>>, Box<dyn Error + Send + Sync>> {
    let user_agent = request.headers().get(USER_AGENT);
    let this = Read {
        is_head: request.method() == Method::HEAD,
        is_connect: request.method() == Method::CONNECT,
        path: request.uri().path().to_owned(),
        parameters: request::parse(request.uri().query()),
        is_http_11: request.version() == Version::HTTP_11,
        is_from_gateway_queue: user_agent.is_some_and(|agent| agent == "gateway-queue"),
    };
    if this.is_connect {
        read.lock().unwrap().push(this);
        return Err("closed".into());
    }
    Limited::new(request.into_body(), MAX_BODY_BYTES as usize)
        .collect()
        .await?;
    read.lock().unwrap().push(this);
    Ok(Response::default())
}

#[test]
fn what_clients_send_is_read_in_the_same_way() {
    for (bytes, requests, is_open) in [
        (
            "GET /?shard=3 HTTP/1.1\r\nHost: q\r\nUser-Agent: x\r\n\r\n",
            1,
            true,
        ),
        (
            "GET /?shard=3&wait=1 HTTP/1.1\r\nUser-Agent: gateway-queue\r\n\r\n",
            1,
            true,
        ),
        (
            "\r\nGET /?shard=3 HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            1,
            false,
        ),
        (
            "GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            2,
            false,
        ),
        (
            "GET / HTTP/1.1\r\nconnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            1,
            false,
        ),
        (
            "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcHEAD / HTTP/1.1\r\n\r\n",
            2,
            true,
        ),
        (
            "POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nab",
            0,
            true,
        ),
        (
            "POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
            1,
            true,
        ),
        (
            "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nt: u\r\n\r\n\
             GET /?report=ready&shard=1 HTTP/1.1\r\n\r\n",
            2,
            true,
        ),
        (
            "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n0\r\n\r\n",
            1,
            false,
        ),
        (
            "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            1,
            true,
        ),
        ("CONNECT q:443 HTTP/1.1\r\nhost: q\r\n\r\n", 1, false),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, false),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}", 0, false),
        ("GET / HTTP/1.1\r\nhost: q", 0, true),
        ("", 0, true),
    ] {
        let outcome = ours(bytes.as_bytes());
        assert_eq!(
            (outcome.read.len(), outcome.is_open),
            (requests, is_open),
            "{bytes}"
        );
        assert_eq!(outcome, hypers(bytes.as_bytes()), "{bytes}");
    }
}

#[test]
fn the_same_number_of_headers_and_of_trailers_is_too_many() {
    for (count, is_open) in [(100, true), (101, false)] {
        let lines = "a: b\r\n".repeat(count);
        for bytes in [
            format!("GET / HTTP/1.1\r\n{lines}\r\n"),
            format!("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{lines}\r\n"),
        ] {
            let outcome = ours(bytes.as_bytes());
            assert_eq!(outcome.is_open, is_open);
            assert_eq!(outcome, hypers(bytes.as_bytes()));
        }
    }
}

#[test]
fn a_longer_head_or_body_is_read_by_neither() {
    let head = |bytes: usize| format!("GET /?{} HTTP/1.1\r\n\r\n", "x".repeat(bytes - 19));
    let sized = |bytes: usize| {
        let body = "x".repeat(bytes);
        format!("PUT / HTTP/1.1\r\ncontent-length: {bytes}\r\n\r\n{body}")
    };
    let chunked = |bytes: usize| {
        let body = "x".repeat(bytes);
        format!(
            "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    let longest = MAX_BODY_BYTES as usize;
    for (bytes, read) in [
        (head(MAX_HEAD_BYTES), 1),
        (head(MAX_HEAD_BYTES + 1), 0),
        (sized(longest), 1),
        (sized(longest + 1), 0),
        (chunked(longest), 1),
        (chunked(longest + 1), 0),
    ] {
        assert_eq!(ours(bytes.as_bytes()).read.len(), read);
        assert_eq!(hypers(bytes.as_bytes()).read.len(), read);
    }
}

type Words = &'static [&'static str];

fn mostly(good: Words, odd: Words) -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => select(good), 1 => select(odd)]
}

/// Draws a request, most of which are valid.
fn request() -> impl Strategy<Value = String> {
    let method = mostly(
        &["GET", "POST", "HEAD"],
        &[
            "CONNECT", "OPTIONS", "get", "M-SEARCH", "P%T", "G\u{fc}T", "",
        ],
    );
    let target = mostly(
        &[
            "/",
            "/?shard=1",
            "/x/y?shard=2&wait=3.5",
            "/?report=ready&shard=4",
            "http://q/?shard=5",
        ],
        &[
            "*",
            "//",
            "/?",
            "/?a#b&shard=1",
            "/#",
            "q",
            "q:443",
            "q:x",
            "q/",
            "http://",
            "http:///",
            "http://q?shard=6",
            "http://u:p@q/",
            "http://[::1]:5/",
            "http://[",
            "?shard=7",
            "/%zz%",
            "/\u{fc}?shard=\u{fc}",
            "/{}|\\^`\"<>",
            "/?{}|\\^`\"<>",
            "\\",
            "/\t",
            "",
        ],
    );
    let version = mostly(
        &["HTTP/1.1", "HTTP/1.0"],
        &["HTTP/1.1", "HTTP/2.0", "http/1.1", "HTTP/1.", ""],
    );
    let framing = mostly(
        &["content-length: 3", "transfer-encoding: chunked"],
        &[
            "content-length: 0",
            "content-length: 03",
            "content-length: 5",
            "content-length: 3, 3",
            "content-length: +3",
            "content-length: 3 ",
            "content-length:",
            "content-length: 3\u{fc}",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: chunked, gzip",
            "transfer-encoding: gzip",
            "transfer-encoding: identity",
            "transfer-encoding:",
            "transfer-encoding: chunked,",
            "transfer-encoding: ,\tchunked ",
            "transfer-encoding: \u{fc}, chunked",
            "transfer-encoding: \"chunked\"",
        ],
    );
    let connection = mostly(
        &["connection: close", "connection: keep-alive"],
        &[
            "connection: x,close",
            "connection: close, keep-alive",
            "connection: closed",
            "connection: \u{fc}, close",
            "connection:",
            "connection: upgrade",
            "connection: keep-alive\t,",
        ],
    );
    let other = mostly(
        &[
            "host: q",
            "user-agent: gateway-queue",
            "expect: 100-continue",
            "x:",
        ],
        &[
            "user-agent: gateway-queue/1",
            "upgrade: h2c",
            "te: trailers",
            "host: r",
            " folded",
            "\tfolded",
            "x y: z",
            "x : y",
            ": y",
            "x",
            "x: \u{fc}",
            "x: \u{1}",
            "x: \u{7f}",
            "\u{fc}: x",
        ],
    );
    let line = prop_oneof![framing, connection, other];
    let cased = (line, any::<bool>()).prop_map(|(line, is_upper)| match line.split_once(':') {
        Some((name, value)) if is_upper => format!("{}:{value}", name.to_ascii_uppercase()),
        _ => line.to_owned(),
    });
    let eol = prop_oneof![6 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let body = mostly(
        &["", "abc", "3\r\nabc\r\n0\r\n\r\n"],
        &[
            "3;x=\"y\"\r\nabc\r\n0\r\nt: u\r\n\r\n",
            "0\r\n\r\n",
            "000;\r\n\r\n",
            "1 \t\r\nx\r\n0\r\n\r\n",
            "A\r\n0123456789\r\n0\r\na:\r\nb: \u{fc}\r\n\r\n",
            "zz\r\n",
            "-1\r\n",
            "3\nabc\n0\n\n",
            "3\r\nabcd\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\nx y: z\r\n\r\n",
            "0\r\nx: \u{1}\r\n\r\n",
            "1;\n",
            "0\r\n\r",
            "ab",
            "2\r\na",
            "\r\n",
        ],
    );
    (method, target, version, vec(cased, 0..4), eol, body).prop_map(
        |(method, target, version, headers, eol, body)| {
            let lines: Vec<_> = headers.iter().map(|line| format!("{line}{eol}")).collect();
            format!(
                "{method} {target} {version}{eol}{}{eol}{body}",
                lines.concat()
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn requests_are_read_in_the_same_way(requests in vec(request(), 1..4)) {
        let bytes = requests.concat();
        prop_assert_eq!(ours(bytes.as_bytes()), hypers(bytes.as_bytes()));
    }

    #[test]
    fn a_chunked_body_that_hyper_refuses_is_not_read(
        parts in vec(
            prop_oneof![
                3 => select(&["1\r\nx\r\n", "0\r\n", "\r\n", "t: u\r\n", "3;x=y\r\n", "abc\r\n"][..]),
                1 => select(&[
                    "0", "3", "a", "\r", "\n", ";", " ", "\t", ":", "x", "\u{fc}", "\0", "0;\n", "1;x\n",
                    "t: u\n",
                ][..]),
            ],
            0..8,
        ),
    ) {
        let head = "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let bytes = [head, &parts.concat()].concat();
        not_more_than_hyper(bytes.as_bytes())?;
    }

    #[test]
    fn what_hyper_refuses_is_not_read(
        requests in vec(request(), 1..3),
        changes in vec((any::<prop::sample::Index>(), 0..3_usize, vec(any::<u8>(), 0..3)), 0..4),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = requests.concat().into_bytes();
        for (at, removed, added) in changes {
            let at = at.index(bytes.len() + 1);
            let to = (at + removed).min(bytes.len());
            bytes.splice(at..to, added);
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len() + 1));
        }
        not_more_than_hyper(&bytes)?;
    }
}

/// Fails if a request is read that hyper does not read, or if the connection stays open although
/// hyper closes it. What cannot become valid any more may be refused earlier.
fn not_more_than_hyper(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (ours, hypers) = (ours(bytes), hypers(bytes));
    prop_assert!(
        hypers.read.starts_with(&ours.read) && (hypers.is_open || !ours.is_open),
        "{}: {ours:?} {hypers:?}",
        bytes.escape_ascii(),
    );
    Ok(())
}
