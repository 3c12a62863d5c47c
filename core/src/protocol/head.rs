//! The head of a request: HTTP/1.0 or HTTP/1.1, as strict as hyper.

use std::mem::MaybeUninit;

use http::{Method, Uri};
use httparse::{Request, Status};

use crate::protocol::body::Body;
use crate::protocol::{InvalidRequest, USER_AGENT};

/// The maximum size of a head; a longer one is invalid.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The maximum number of headers, which is that of hyper.
const MAX_HEADERS: usize = 100;

/// What the queue uses of a head. It cannot be printed, because some clients put the bot's token
/// into the URI.
pub struct Head {
    /// The length, with the empty lines before the request line and after the headers.
    pub bytes: usize,
    /// The target of the request.
    pub uri: Uri,
    /// Whether the method is CONNECT.
    pub is_connect: bool,
    /// Whether the request was sent by another process of this program.
    pub is_from_gateway_queue: bool,
    /// The body that follows.
    pub body: Body,
    /// What the response depends on.
    pub form: ResponseForm,
}

/// What the head of a response depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseForm {
    /// Whether the client speaks HTTP/1.1, and not HTTP/1.0.
    pub is_http_11: bool,
    /// Whether the method is HEAD: the response has no body.
    pub is_head: bool,
    /// Whether the connection stays open after the response.
    pub keep_alive: bool,
}

/// Reads the head at the beginning of `bytes`. Returns none while its end is missing.
///
/// # Errors
///
/// If `bytes` are not the beginning of a valid request, or the head or the body is too long.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, InvalidRequest> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut headers);
    let length = match parsed.map_err(|_| InvalidRequest)? {
        Status::Complete(length) => length,
        Status::Partial if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
        Status::Partial => return Err(InvalidRequest),
    };
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(InvalidRequest);
    };
    if length > MAX_HEAD_BYTES {
        return Err(InvalidRequest);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| InvalidRequest)?;
    let is_http_11 = version == 1;
    let headers = Headers::read(request.headers, is_http_11)?;
    Ok(Some(Head {
        bytes: length,
        uri: Uri::try_from(target).map_err(|_| InvalidRequest)?,
        is_connect: method == Method::CONNECT,
        is_from_gateway_queue: headers.user_agent == Some(USER_AGENT.as_bytes()),
        body: headers.body,
        form: ResponseForm {
            is_http_11,
            is_head: method == Method::HEAD,
            keep_alive: headers.keep_alive,
        },
    }))
}

/// The headers that matter to the queue.
struct Headers<'a> {
    body: Body,
    keep_alive: bool,
    user_agent: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    fn read(headers: &[httparse::Header<'a>], is_http_11: bool) -> Result<Self, InvalidRequest> {
        let is_chunked = |token: &[u8]| token.eq_ignore_ascii_case(b"chunked");
        let (mut length, mut has_length) = (None, false);
        // Whether the last Transfer-Encoding ends in `chunked`.
        let mut chunked = None;
        let (mut close, mut keep_alive) = (false, is_http_11);
        let mut user_agent = None;
        for header in headers {
            let is = |name| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                has_length = true;
                // Next to a Transfer-Encoding it does not count.
                if chunked.is_none() {
                    let read = decimal(header.value).ok_or(InvalidRequest)?;
                    if length.is_some_and(|length| length != read) {
                        return Err(InvalidRequest);
                    }
                    length = Some(read);
                }
            } else if is("transfer-encoding") {
                if !is_http_11 {
                    return Err(InvalidRequest);
                }
                chunked = Some(tokens(header.value).next_back().is_some_and(is_chunked));
            } else if is("connection") {
                let has = |name: &[u8]| tokens(header.value).any(|t| t.eq_ignore_ascii_case(name));
                close |= has(b"close");
                keep_alive |= has(b"keep-alive");
            } else if is("user-agent") {
                user_agent = user_agent.or(Some(header.value));
            }
        }
        let body = match chunked {
            None => Body::sized(length.unwrap_or(0))?,
            Some(true) => Body::chunked(),
            Some(false) => return Err(InvalidRequest),
        };
        // With both, a proxy in between may have read another body.
        let is_ambiguous = has_length && chunked.is_some();
        Ok(Self {
            body,
            keep_alive: keep_alive && !close && !is_ambiguous,
            user_agent,
        })
    }
}

/// Returns the tokens of a list; none if it is not ASCII.
fn tokens(list: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let list = if list.is_ascii() { list } else { b"" };
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Reads digits only: `parse` alone would accept a plus sign.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(text).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &str) -> Head {
        let Ok(Some(read)) = parse(head.as_bytes()) else {
            panic!("{head}");
        };
        read
    }

    fn is_refused(head: &str) -> bool {
        parse(head.as_bytes()).is_err()
    }

    #[test]
    fn a_head_ends_with_its_empty_line() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "\r\n\nGET /?shard=1 HTTP/1.0\r\nhost: q\r\n\r\n",
            "POST /x HTTP/1.1\nhost: q\ncontent-length: 3\n\n",
        ] {
            let bytes = [head, "abc\r\n\r\n"].concat();
            for end in 0..head.len() {
                let part = parse(&bytes.as_bytes()[..end]);
                assert!(matches!(part, Ok(None)), "{}", &bytes[..end]);
            }
            assert_eq!(read(&bytes).bytes, head.len());
        }
    }

    #[test]
    fn the_method_the_target_and_the_sender_are_read() {
        let head = read("HEAD http://q/a?shard=1#b HTTP/1.1\r\nUser-Agent:gateway-queue \r\n\r\n");
        assert_eq!((head.uri.path(), head.uri.query()), ("/a", Some("shard=1")));
        assert!(head.is_from_gateway_queue && head.form.is_head && !head.is_connect);
        let head =
            read("CONNECT q:80 HTTP/1.1\r\nuser-agent: x\r\nuser-agent: gateway-queue\r\n\r\n");
        assert!(!head.is_from_gateway_queue && !head.form.is_head && head.is_connect);
    }

    #[test]
    fn the_connection_stays_open_as_the_client_wishes() {
        for (version, headers, stays_open) in [
            ("1.1", "", true),
            ("1.1", "connection: x, Close\r\n", false),
            (
                "1.1",
                "connection: close\r\nconnection: keep-alive\r\n",
                false,
            ),
            ("1.1", "connection: closed\r\n", true),
            (
                "1.1",
                "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
                false,
            ),
            ("1.0", "", false),
            (
                "1.0",
                "connection: x\r\nConnection: \tKeep-Alive ,y\r\n",
                true,
            ),
            ("1.0", "connection: keep-alive, close\r\n", false),
            ("1.0", "connection: keep-alive\u{fc}\r\n", false),
        ] {
            let form = read(&format!("GET / HTTP/{version}\r\n{headers}\r\n")).form;
            assert_eq!(form.keep_alive, stays_open, "{headers}");
            assert_eq!(form.is_http_11, version == "1.1");
        }
    }

    #[test]
    fn a_body_has_one_length_or_is_chunked() {
        let framed = |headers: &str| format!("PUT / HTTP/1.1\r\n{headers}\r\n\r\n");
        let body = |headers| read(&framed(headers)).body;
        let sized = |length| Body::sized(length).unwrap();
        assert_eq!(body("host: q"), sized(0));
        assert_eq!(body("Content-Length: 3\r\ncontent-length: 03"), sized(3));
        for headers in [
            "Transfer-Encoding: Chunked",
            "transfer-encoding: gzip,\tchunked",
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
            "content-length: 3\r\ntransfer-encoding: chunked\r\ncontent-length: 4",
        ] {
            assert_eq!(body(headers), Body::chunked(), "{headers}");
        }
        for headers in [
            "content-length: 3\r\ncontent-length: 4",
            "content-length: 3, 3",
            "content-length: +3",
            "content-length:",
            "content-length: 65537",
            "content-length: 18446744073709551616",
            "transfer-encoding: chunked, gzip",
            "transfer-encoding: chunked\r\ntransfer-encoding: gzip",
            "transfer-encoding:",
            "transfer-encoding: chunked\u{fc}",
        ] {
            assert!(is_refused(&framed(headers)), "{headers}");
        }
        assert!(is_refused(
            "PUT / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
    }

    #[test]
    fn what_is_no_request_is_refused_at_once() {
        for bytes in [
            "\u{16}\u{3}\u{1}",
            "PRI * HTTP/2.0\r\n\r\n",
            "GET /\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /\u{1} HTTP/1.1\r\n\r\n",
            "GET q/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n folded: x\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: q\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : q\r\n\r\n",
            "GET / HTTP/1.1\r\nx: \0\r\n\r\n",
        ] {
            assert!(is_refused(bytes), "{}", bytes.escape_debug());
        }
    }

    #[test]
    fn a_head_may_have_100_headers_and_8_kib() {
        let with = |headers: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(headers));
        read(&with(MAX_HEADERS));
        assert!(is_refused(&with(MAX_HEADERS + 1)));
        let long = |bytes: usize| {
            let head = "GET / HTTP/1.1\r\n: \r\n\r\n";
            head.replace(':', &format!("a: {}", "x".repeat(bytes - head.len() - 2)))
        };
        assert_eq!(read(&long(MAX_HEAD_BYTES)).bytes, MAX_HEAD_BYTES);
        for end in [MAX_HEAD_BYTES, MAX_HEAD_BYTES + 1] {
            assert!(is_refused(&long(MAX_HEAD_BYTES + 1)[..end]));
        }
    }

    proptest! {
        #[test]
        fn a_part_of_a_head_is_incomplete_or_refused_and_what_follows_does_not_matter(
            words in prop::collection::vec(
                "GET|HEAD| |/|\\?shard=1|HTTP/1\\.[01]|\r\n|host: q|connection: |close|content-length: 3|,|\\PC",
                0..20,
            ),
            after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let bytes = ["GET / HTTP/1.1\r\n".to_owned(), words.concat(), "\r\n\r\n".to_owned()].concat();
            let bytes = [bytes.as_bytes(), &after].concat();
            if let Ok(Some(head)) = parse(&bytes) {
                prop_assert!(matches!(parse(&bytes[..head.bytes - 1]), Ok(None)));
                let alone = parse(&bytes[..head.bytes]);
                let Ok(Some(alone)) = alone else { return Err(TestCaseError::fail("alone")) };
                prop_assert_eq!((alone.bytes, alone.form, alone.body), (head.bytes, head.form, head.body));
            }
        }
    }
}
