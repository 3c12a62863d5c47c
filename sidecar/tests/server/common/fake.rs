//! A Discord that may say anything, be silent, or be away.

use std::io::{BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::{LONG, Server};

/// A port that stays ours while nobody listens on it: a socket that is bound
/// and does not listen keeps it, and connections to it are refused.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    _holder: Socket,
}

impl Port {
    pub(crate) fn take() -> Self {
        let holder = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        Self {
            address,
            _holder: holder,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v10", self.address)
    }

    /// Listens from now on. Each request of a client is noted, and then `talk`
    /// has its connection, one after the other.
    pub(crate) fn listen(&self, talk: impl Fn(&str, TcpStream) + Send + 'static) -> Fake {
        let socket = bound(self.address);
        socket.listen(128).unwrap();
        let listener = TcpListener::from(socket);
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                *shared.open.lock().unwrap() = stream.try_clone().ok();
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let at = Instant::now();
                if let Some(head) = request(&stream) {
                    shared.calls.lock().unwrap().push((at, head.clone()));
                    talk(&head, stream);
                }
                // A copy would keep the connection open.
                *shared.open.lock().unwrap() = None;
            }
        });
        Fake {
            address: self.address,
            state,
            thread: Some(thread),
        }
    }
}

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn request(stream: &TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    let mut head = String::new();
    let mut lines = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(head)
}

#[derive(Default)]
struct State {
    calls: Mutex<Vec<(Instant, String)>>,
    open: Mutex<Option<TcpStream>>,
    ended: AtomicBool,
}

/// Somebody who listens. Dropped, it is gone, and its connections are, too.
pub(crate) struct Fake {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// When each request came.
    pub(crate) fn calls(&self) -> Vec<Instant> {
        let calls = self.state.calls.lock().unwrap();
        calls.iter().map(|(at, _)| *at).collect()
    }

    /// The head of the latest request.
    pub(crate) fn last_call(&self) -> String {
        let calls = self.state.calls.lock().unwrap();
        calls.last().map(|(_, head)| head.clone()).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let wake = TcpStream::connect(self.address);
        // Whom it talks to at this moment holds it up.
        if let Ok(open) = self.state.open.lock()
            && let Some(open) = &*open
        {
            let _ = open.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        drop(wake);
    }
}

/// An answer as it goes over the wire.
pub(crate) fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// The body of a good answer.
pub(crate) fn limits(max_concurrency: u32, remaining: u64, reset_after_ms: u64) -> String {
    format!(
        r#"{{"url":"wss://x","shards":3,"session_start_limit":{{"total":1000,"remaining":{remaining},"reset_after":{reset_after_ms},"max_concurrency":{max_concurrency}}}}}"#
    )
}

impl Server {
    /// The most memory that it ever had, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap();
        let (_, rest) = status.split_once("VmHWM:").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }
}
