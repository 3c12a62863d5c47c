//! A small HTTP server that answers what a test scripts, or is down.
//!
//! It runs on a thread of its own, because the tests of whole processes have no runtime.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// The longest time that a test waits for a request, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);

/// A loopback port that no other program gets, and that refuses connections until the test
/// listens there.
#[derive(Debug)]
pub struct ReservedPort {
    /// The address.
    pub address: SocketAddr,
    /// Bound, and never listening.
    _holder: Socket,
}

impl ReservedPort {
    /// Reserves a port that the system chooses.
    #[expect(clippy::new_without_default, reason = "each is another port")]
    pub fn new() -> Self {
        let holder = bound((Ipv4Addr::LOCALHOST, 0).into());
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        Self {
            address,
            _holder: holder,
        }
    }
}

type Script = dyn Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync;

/// A request that the server received.
#[derive(Clone, Debug)]
pub struct Received {
    /// When its head was complete.
    pub at: Instant,
    /// The head, with the empty line at its end.
    pub head: String,
}

/// The server. It serves one connection after the other, and one request on each.
///
/// When it is down or dropped, the connections to it are closed. Its port remains
/// reserved while it is down, so that connections are refused.
pub struct ScriptedServer {
    port: ReservedPort,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    received: Mutex<Vec<Received>>,
    open: Mutex<Option<TcpStream>>,
    stopping: AtomicBool,
}

impl ScriptedServer {
    /// Returns a server that is down and whose port is reserved.
    pub fn down() -> Self {
        let shared = Shared {
            script: Mutex::new(script_of("")),
            received: Mutex::default(),
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
        };
        Self {
            port: ReservedPort::new(),
            shared: Arc::new(shared),
            accepting: None,
        }
    }

    /// Starts a server that answers each request with these bytes.
    pub fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let mut server = Self::down();
        server.say(answer);
        server.come_up();
        server
    }

    /// Starts a server that gives each request's head and connection to this function.
    pub fn scripted(
        script: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let mut server = Self::down();
        *server.shared.script.lock().unwrap() = Arc::new(script);
        server.come_up();
        server
    }

    /// Answers requests with these bytes from now on.
    pub fn say(&self, answer: impl Into<Vec<u8>>) {
        *self.shared.script.lock().unwrap() = script_of(answer);
    }

    /// Accepts connections from now on.
    pub fn come_up(&mut self) {
        let socket = bound(self.address());
        socket.listen(128).unwrap();
        let shared = Arc::clone(&self.shared);
        shared.stopping.store(false, Ordering::SeqCst);
        self.accepting = Some(thread::spawn(move || shared.accept(&socket.into())));
    }

    /// Refuses connections from now on, and closes those that are open.
    pub fn go_down(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        let wake = TcpStream::connect(self.address());
        if let Ok(open) = self.shared.open.lock()
            && let Some(open) = &*open
        {
            let _ = open.shutdown(Shutdown::Both);
        }
        let _ = accepting.join();
        drop(wake);
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Returns all requests so far, the oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }
}

impl Shared {
    fn accept(&self, listener: &TcpListener) {
        while let Ok((mut stream, _)) = listener.accept() {
            *self.open.lock().unwrap() = stream.try_clone().ok();
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if let Some(head) = read_head(&stream) {
                let received = Received {
                    at: Instant::now(),
                    head: head.clone(),
                };
                self.received.lock().unwrap().push(received);
                let script = Arc::clone(&self.script.lock().unwrap());
                // A client that disconnects is a part of the test.
                let _ = script(&head, &mut stream);
            }
            // A copy would keep the connection open.
            *self.open.lock().unwrap() = None;
        }
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.go_down();
    }
}

/// Returns a whole response; `status` may be followed by more lines of the head.
pub fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn script_of(answer: impl Into<Vec<u8>>) -> Arc<Script> {
    let answer = answer.into();
    Arc::new(move |_, stream| stream.write_all(&answer))
}

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn read_head(stream: &TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut head = String::new();
    let mut lines = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(head)
}
