//! The responses, as the bytes that are sent.

use std::borrow::Cow;
use std::fmt::Write as _;

use gateway_queue_core::protocol::GRANT;
use gateway_queue_core::protocol::head::ResponseForm;
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::Malformed;
use hyper::StatusCode;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::queue::messages::Permit;

/// The response to a request.
#[derive(Debug)]
pub(crate) enum Response {
    /// A grant.
    Grant(Permit),
    /// The refusal of a client with `wait`.
    Refusal(Refusal),
    /// Names what a request with `wait` or `report` has wrong.
    Malformed(Malformed),
    /// Confirms a report, or answers another pod.
    NoContent,
    /// The limits, or why they are unknown, for a follower that names this leader.
    Limits(StatusCode, String),
}

impl Response {
    /// Returns the bytes of the response at this time.
    pub(crate) fn bytes(&self, form: ResponseForm, now: Timestamp) -> Vec<u8> {
        let json = |json: String| Some(Cow::<[u8]>::Owned(json.into_bytes()));
        let (status, body) = match self {
            Self::Grant(_) => (StatusCode::OK, Some(Cow::Borrowed(GRANT))),
            Self::Refusal(refusal) => (StatusCode::TOO_MANY_REQUESTS, json(refusal.json())),
            Self::Malformed(malformed) => (StatusCode::BAD_REQUEST, json(malformed.json())),
            Self::NoContent => (StatusCode::NO_CONTENT, None),
            Self::Limits(status, limits) => (*status, Some(Cow::Borrowed(limits.as_bytes()))),
        };
        let mut head = format!("HTTP/1.{} {status}\r\n", u8::from(form.is_http_11));
        // Writing to a string cannot fail.
        if let Some(body) = &body {
            let length = body.len();
            let _ = write!(
                head,
                "content-type: application/json\r\ncontent-length: {length}\r\n"
            );
        }
        if let Self::Refusal(refusal) = self {
            let (seconds, ms) = (refusal.retry_after_seconds(), refusal.retry_after_ms());
            let _ = write!(head, "retry-after: {seconds}\r\nx-retry-after-ms: {ms}\r\n");
        }
        head.push_str(match (form.is_http_11, form.keep_alive) {
            (true, false) => "connection: close\r\n",
            (false, true) => "connection: keep-alive\r\n",
            // The default of the version.
            (true, true) | (false, false) => "",
        });
        if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&now) {
            let _ = write!(head, "date: {date}\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if let Some(body) = body.filter(|_| !form.is_head) {
            bytes.extend_from_slice(&body);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::time::Duration;

    use gateway_queue_core::protocol::head;
    use gateway_queue_core::protocol::refusal::Reason;
    use http_body_util::Full;
    use hyper::Request;
    use hyper::body::{Bytes, Incoming};
    use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::clock::boot_time;
    use crate::serving::socket::tests::permit;

    const HTTP_11: ResponseForm = ResponseForm {
        is_http_11: true,
        is_head: false,
        keep_alive: true,
    };

    fn text(response: &Response, form: ResponseForm) -> String {
        let now = "2026-11-24T01:02:03Z".parse().unwrap();
        String::from_utf8(response.bytes(form, now)).unwrap()
    }

    #[test]
    fn the_grant_is_the_documented_response() {
        let grant = Response::Grant(permit(boot_time::now()).0);
        assert_eq!(
            text(&grant, HTTP_11),
            "HTTP/1.1 200 OK\r\n\
             content-type: application/json\r\n\
             content-length: 45\r\n\
             date: Tue, 24 Nov 2026 01:02:03 GMT\r\n\
             \r\n\
             {\"message\": \"You're free to connect now! :)\"}"
        );
    }

    #[test]
    fn a_refusal_says_when_to_retry_and_the_response_to_head_has_no_body() {
        let refusal = Response::Refusal(Refusal {
            reason: Reason::Waiting,
            position: Some(5),
            retry_after: Duration::from_millis(13_125),
        });
        let head = "HTTP/1.1 429 Too Many Requests\r\n\
                    content-type: application/json\r\n\
                    content-length: 56\r\n\
                    retry-after: 14\r\n\
                    x-retry-after-ms: 13125\r\n\
                    date: Tue, 24 Nov 2026 01:02:03 GMT\r\n\
                    \r\n";
        let body = r#"{"reason":"waiting","position":5,"retry_after_ms":13125}"#;
        assert_eq!(text(&refusal, HTTP_11), [head, body].concat());
        let form = ResponseForm {
            is_head: true,
            ..HTTP_11
        };
        assert_eq!(text(&refusal, form), head);
    }

    #[test]
    fn a_response_without_content_has_no_length() {
        let expected = "HTTP/1.1 204 No Content\r\ndate: Tue, 24 Nov 2026 01:02:03 GMT\r\n\r\n";
        assert_eq!(text(&Response::NoContent, HTTP_11), expected);
    }

    #[test]
    fn a_response_has_the_version_of_its_request_and_says_if_it_is_not_the_default_what_follows() {
        for (is_http_11, keep_alive, first, connection) in [
            (true, true, "HTTP/1.1 400 Bad Request", None),
            (true, false, "HTTP/1.1 400 Bad Request", Some("close")),
            (false, true, "HTTP/1.0 400 Bad Request", Some("keep-alive")),
            (false, false, "HTTP/1.0 400 Bad Request", None),
        ] {
            let form = ResponseForm {
                is_http_11,
                is_head: false,
                keep_alive,
            };
            let text = text(&Response::Malformed(Malformed::Wait), form);
            let mut lines = text.lines();
            assert_eq!(lines.next(), Some(first));
            let found = lines.find_map(|line| line.strip_prefix("connection: "));
            assert_eq!(found, connection);
        }
    }

    /// Sends a request to hyper, which sends this status, and JSON unless it is empty.
    async fn by_hyper(request: &str, status: StatusCode, json: &str) -> String {
        let (mut client, server) = duplex(4096);
        client.write_all(request.as_bytes()).await.unwrap();
        let service = service_fn(|_: Request<Incoming>| {
            let mut response = hyper::Response::new(Full::new(Bytes::from(json.to_owned())));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            if !json.is_empty() {
                let json = HeaderValue::from_static("application/json");
                headers.insert(CONTENT_TYPE, json);
            }
            if status == StatusCode::TOO_MANY_REQUESTS {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                headers.insert("x-retry-after-ms", HeaderValue::from_static("1000"));
            }
            ready(Ok::<_, hyper::Error>(response))
        });
        let serving = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        let mut received = vec![0; 4096];
        tokio::select! {
            biased;
            _ = serving => {}
            () = tokio::task::yield_now() => {}
        }
        let length = client.read(&mut received).await.unwrap();
        String::from_utf8(received[..length].to_vec()).unwrap()
    }

    /// Returns the first line, the headers in order of their names except the date, and the body.
    fn parts(response: &str) -> (&str, Vec<&str>, &str) {
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let (first, headers) = head.split_once("\r\n").unwrap();
        let mut headers: Vec<_> = headers.split("\r\n").collect();
        headers.sort_unstable();
        let dates = headers.extract_if(.., |header| header.starts_with("date: "));
        assert_eq!(dates.count(), 1, "{response}");
        (first, headers, body)
    }

    #[tokio::test]
    async fn a_response_is_what_hyper_would_send() {
        let limits = r#"{"url":"wss://gateway.discord.gg"}"#.to_owned();
        let responses = [
            Response::Grant(permit(boot_time::now()).0),
            Response::Refusal(Refusal::NO_LEADER),
            Response::Malformed(Malformed::Shard),
            Response::NoContent,
            Response::Limits(StatusCode::SERVICE_UNAVAILABLE, limits),
        ];
        for response in &responses {
            for request in [
                "GET / HTTP/1.1\r\n\r\n",
                "HEAD / HTTP/1.1\r\n\r\n",
                "GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
                "GET / HTTP/1.0\r\n\r\n",
                "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            ] {
                let Ok(Some(head)) = head::parse(request.as_bytes()) else {
                    panic!("{request}");
                };
                let ours = text(response, head.form);
                let form = ResponseForm {
                    is_head: false,
                    ..head.form
                };
                let whole = text(response, form);
                let (first, _, json) = parts(&whole);
                let status = first[9..12].parse().unwrap();
                let hypers = by_hyper(request, status, json).await;
                assert_eq!(parts(&ours), parts(&hypers), "{request}");
            }
        }
    }
}
