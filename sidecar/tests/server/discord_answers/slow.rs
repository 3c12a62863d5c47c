//! Answers that would take all our memory, or for ever.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{is_silent, start};
use crate::common::fake::Port;

#[test]
fn a_huge_body_is_given_up_after_a_few_bytes_of_it() {
    const MEGABYTE: usize = 1 << 20;
    let sent = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    for (chunked, sent) in [false, true].into_iter().zip(&sent) {
        let port = Port::take();
        let count = Arc::clone(sent);
        let _discord = port.listen(move |_, mut stream| {
            let framing = match chunked {
                true => "transfer-encoding: chunked".to_owned(),
                false => format!("content-length: {}", 100 * MEGABYTE),
            };
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
            let mut written = stream.write_all(head.as_bytes());
            let mut block = vec![b' '; MEGABYTE];
            if chunked {
                let size = format!("{:x}\r\n", MEGABYTE);
                block = [size.as_bytes(), &block, b"\r\n"].concat();
            }
            for _ in 0..100 {
                written = written.and_then(|()| stream.write_all(&block));
                if written.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let server = start(&port, &[]);
        let before = server.peak_memory();
        let client = server.ask(0);
        let last_error = server.last_error();
        let wanted = "an answer of more than 65536 bytes";
        assert!(last_error.contains(wanted), "{last_error}");
        let more = server.peak_memory() - before;
        assert!(more < 8 * 1024, "{more} KiB");
        assert!(is_silent(&client));
    }
    for sent in sent {
        // What a kernel buffers was written, too.
        assert!(sent.load(Ordering::SeqCst) < 50, "{sent:?} MB");
    }
}

#[test]
fn who_is_slow_or_silent_is_given_up_after_ten_seconds() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    /// Says this, and then this again and again.
    fn trickle(first: &'static str, more: &'static str) -> impl Fn(&mut TcpStream) + Send {
        move |stream| {
            let mut written = stream.write_all(first.as_bytes());
            while written.is_ok() && !more.is_empty() {
                thread::sleep(Duration::from_millis(100));
                written = stream.write_all(more.as_bytes());
            }
            // Until they hang up.
            let _ = stream.read(&mut [0]);
        }
    }
    let slow = [
        ("", ""),
        ("HTTP/1.1 200", ""),
        (HEAD, ""),
        (HEAD, " "),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ];
    thread::scope(|scope| {
        for (first, more) in slow {
            scope.spawn(move || {
                let port = Port::take();
                let talk = trickle(first, more);
                let _discord = port.listen(move |_, mut stream| talk(&mut stream));
                let start_of_it = Instant::now();
                let server = start(&port, &[]);
                let client = server.ask(0);
                server.wait_for_state(r#""blocked_by":"session_starts_unknown""#);
                let last_error = server.last_error();
                let took = start_of_it.elapsed();
                let wanted = "no answer from Discord in time";
                assert!(last_error.contains(wanted), "{last_error}");
                assert!(took < Duration::from_secs(12), "{first}{more}: {took:?}");
                assert!(is_silent(&client), "{first}{more}");
            });
        }
    });
}
