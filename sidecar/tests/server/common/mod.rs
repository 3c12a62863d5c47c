//! The real binary on loopback, and a Discord of a few lines.

pub(crate) mod fake;
pub(crate) mod machine;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_gateway-queue");

/// What the original answers.
pub(crate) const GRANT: &str = r#"{"message": "You're free to connect now! :)"}"#;

/// Longer than anything here takes; a test that gets here has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A running server, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) queue: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Receiver<String>,
}

impl Server {
    /// Starts the binary with these variables, on ports that the system chose,
    /// with half a second between grants and no start guard.
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(BINARY), environment)
    }

    /// The same by a command that becomes the binary, in another network, say.
    pub(crate) fn spawn(mut command: Command, environment: &[(&str, &str)]) -> Self {
        let mut child = command
            .env_clear()
            .envs([
                ("HOST", "127.0.0.1"),
                ("PORT", "0"),
                ("ADMIN_PORT", "0"),
                ("IDENTIFY_INTERVAL", "500ms"),
                ("IDENTIFY_MARGIN", "0s"),
                ("ALLOW_UNSAFE_INTERVAL", "true"),
                ("START_GUARD", "false"),
                ("LOG_FORMAT", "json"),
                ("RUST_LOG", "debug"),
            ])
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                println!("server: {line}");
                let _ = lines.send(line);
            }
        });
        let line = wait_for_line(&log, r#""message":"listening""#);
        let address = |key: &str| {
            let (_, rest) = line.split_once(&format!(r#""{key}":""#)).unwrap();
            let mut address: SocketAddr = rest.split_once('"').unwrap().0.parse().unwrap();
            address.set_ip([127, 0, 0, 1].into());
            address
        };
        Self {
            queue: address("queue_address"),
            admin: address("admin_address"),
            child,
            log,
        }
    }

    /// Waits until the log says this.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        wait_for_line(&self.log, text)
    }

    /// What was not read of the log yet, until the process has ended.
    pub(crate) fn log_to_the_end(&self) -> impl Iterator<Item = String> {
        self.log.iter()
    }

    /// A new connection to the queue with this sent on it.
    pub(crate) fn send(&self, bytes: &[u8]) -> TcpStream {
        self.send_to(self.queue.ip(), bytes)
    }

    /// The same by another address of this machine.
    pub(crate) fn send_to(&self, ip: IpAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect((ip, self.queue.port())).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    pub(crate) fn ask(&self, shard: u32) -> TcpStream {
        self.send(format!("GET /?shard={shard} HTTP/1.1\r\nhost: q\r\n\r\n").as_bytes())
    }

    /// The body of an admin page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        self.page_at(self.admin.ip(), path)
    }

    /// The same by another address of this machine.
    pub(crate) fn page_at(&self, ip: IpAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect((ip, self.admin.port())).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// Waits until /state holds this.
    pub(crate) fn wait_for_state(&self, text: &str) {
        self.wait_for_page("/state", text);
    }

    /// Waits until an admin page holds this.
    pub(crate) fn wait_for_page(&self, path: &str, text: &str) {
        let start = Instant::now();
        loop {
            let page = self.page(path).1;
            if page.contains(text) {
                return;
            }
            assert!(start.elapsed() < LONG, "no {text} in {page}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until /state reports an error of Discord's API, and returns it.
    pub(crate) fn last_error(&self) -> String {
        let start = Instant::now();
        loop {
            let state: Value = serde_json::from_str(&self.page("/state").1).unwrap();
            if let Some(last_error) = state["last_error"].as_str() {
                return last_error.to_owned();
            }
            assert!(start.elapsed() < LONG, "no last_error in {state}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status();
        assert!(kill.unwrap().success());
    }

    /// The memory that the process uses now, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let (_, rest) = status.split_once("VmRSS:").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LONG, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for_line(log: &Receiver<String>, text: &str) -> String {
    let start = Instant::now();
    loop {
        let left = LONG.saturating_sub(start.elapsed());
        let line = log
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("the log never said {text}"));
        if line.contains(text) {
            return line;
        }
    }
}

/// Reads one answer with a content-length: its head and its body.
pub(crate) fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let (_, rest) = head.split_once("content-length: ").unwrap();
    let mut body = vec![0; rest.split_once("\r\n").unwrap().0.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Reads the grant, and says when it came.
pub(crate) fn granted(stream: &mut TcpStream) -> Instant {
    let (head, body) = answer(stream);
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert_eq!(body, GRANT);
    Instant::now()
}

/// Whether the connection was closed with not a byte sent.
pub(crate) fn closed_silently(mut stream: TcpStream) -> bool {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A reset is a close, too; a time-out is none.
        Err(error) => bytes.is_empty() && error.kind() == std::io::ErrorKind::ConnectionReset,
        Ok(_) => bytes.is_empty(),
    }
}

/// Answers each request with what it is told to say at the time.
#[derive(Clone)]
pub(crate) struct Discord {
    pub(crate) url: String,
    says: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Discord {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let discord = Self {
            url: format!("http://{}/api/v10", listener.local_addr().unwrap()),
            says: Arc::default(),
            requests: Arc::default(),
        };
        let server = discord.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                server.answer(stream.unwrap());
            }
        });
        discord
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut request = String::new();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        while !request.ends_with("\r\n\r\n") {
            if lines.read_line(&mut request).unwrap_or(0) == 0 {
                return;
            }
        }
        self.requests.lock().unwrap().push(request);
        let _ = stream.write_all(self.says.lock().unwrap().as_bytes());
    }

    /// From now on it answers this.
    pub(crate) fn say(&self, status: &str, body: &str) {
        let length = body.len();
        *self.says.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
    }

    pub(crate) fn say_limits(&self, max_concurrency: u32, remaining: u64, reset_after_ms: u64) {
        let limit = format!(
            r#"{{"total":1000,"remaining":{remaining},"reset_after":{reset_after_ms},"max_concurrency":{max_concurrency}}}"#
        );
        let body = format!(r#"{{"url":"wss://x","shards":3,"session_start_limit":{limit}}}"#);
        self.say("200 OK", &body);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}
