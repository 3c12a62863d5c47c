//! The server's binary on loopback, and its clients.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use gateway_queue_testkit::scripted_server::ScriptedServer;
use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_gateway-queue");

/// The body of a grant, as the original server sends it.
pub(crate) const GRANT: &str = r#"{"message": "You're free to connect now! :)"}"#;

/// The token of the tests. Nothing that the server prints may contain its first part.
pub(crate) const TOKEN: &str = "t0ken.of-the.bot";

/// A test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A process, killed when dropped.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub(crate) struct Server {
    child: Killed,
    pub(crate) queue: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Receiver<String>,
}

impl Server {
    /// Starts the binary with these variables, on ports that the system chooses, with
    /// half a second between grants and no start guard.
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(BINARY), environment)
    }

    /// The same, with a token and this fake of Discord.
    pub(crate) fn with_discord(discord: &ScriptedServer, more: &[(&str, &str)]) -> Self {
        let api = discord.api();
        let environment = [("DISCORD_API", api.as_str()), ("DISCORD_TOKEN", TOKEN)];
        Self::start(&[&environment, more].concat())
    }

    /// The same, with a command that becomes the binary, for example in another network.
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
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = |key: &str| {
            let mut address: SocketAddr = line[key].as_str().unwrap().parse().unwrap();
            address.set_ip([127, 0, 0, 1].into());
            address
        };
        Self {
            queue: address("queue_address"),
            admin: address("admin_address"),
            child: Killed(child),
            log,
        }
    }

    /// Starts an agent of this queue.
    pub(crate) fn agent(upstream: &Self) -> Self {
        let url = format!("http://{}", upstream.queue);
        let admin_port = upstream.admin.port().to_string();
        Self::start(&[("UPSTREAM", &url), ("UPSTREAM_ADMIN_PORT", &admin_port)])
    }

    /// Waits until a line of the log contains this text, and returns the line.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        wait_for_line(&self.log, text)
    }

    /// Returns the lines of the log that were not read yet, until the process has ended.
    pub(crate) fn log_to_the_end(&self) -> impl Iterator<Item = String> {
        self.log.iter()
    }

    /// Sends these bytes on a new connection to the queue.
    pub(crate) fn send(&self, bytes: &[u8]) -> TcpStream {
        send(self.queue, bytes)
    }

    pub(crate) fn ask(&self, shard: u32) -> TcpStream {
        self.ask_with(&format!("shard={shard}"))
    }

    pub(crate) fn ask_with(&self, query: &str) -> TcpStream {
        self.send(format!("GET /?{query} HTTP/1.1\r\nhost: q\r\n\r\n").as_bytes())
    }

    /// Returns the status and the body of an admin page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
        let mut stream = send(self.admin, request.as_bytes());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    pub(crate) fn state(&self) -> String {
        self.page("/state").1
    }

    pub(crate) fn metrics(&self) -> String {
        self.page("/metrics").1
    }

    /// Checks that /metrics contains this text.
    pub(crate) fn has_metric(&self, text: &str) {
        let metrics = self.metrics();
        assert!(metrics.contains(text), "no {text} in {metrics}");
    }

    /// Waits until /state contains this text, and returns it.
    pub(crate) fn wait_for_state(&self, text: &str) -> String {
        self.wait_for_page("/state", text)
    }

    /// Waits until an admin page contains this text, and returns the page.
    pub(crate) fn wait_for_page(&self, path: &str, text: &str) -> String {
        let page = || Some(self.page(path).1).filter(|page| page.contains(text));
        wait_for(text, page, || self.page(path).1)
    }

    /// Waits until /state reports an error of Discord's API, and returns it.
    pub(crate) fn last_error(&self) -> String {
        let last_error = || {
            let state: Value = serde_json::from_str(&self.state()).unwrap();
            state["last_error"].as_str().map(str::to_owned)
        };
        wait_for("last_error", last_error, || self.state())
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status();
        assert!(kill.unwrap().success());
    }

    /// Returns the memory of the process in KiB: now (`VmRSS`), or at most (`VmHWM`).
    pub(crate) fn memory(&self, which: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let (_, rest) = status.split_once(&format!("{which}:")).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.0.id()
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let ended = || self.child.0.try_wait().unwrap();
        wait_for("an end of the process", ended, String::new)
    }
}

fn wait_for<T>(
    what: &str,
    mut found: impl FnMut() -> Option<T>,
    instead: impl Fn() -> String,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "no {what} in {}", instead());
        thread::sleep(Duration::from_millis(5));
    }
}

fn wait_for_line(log: &Receiver<String>, text: &str) -> String {
    let start = Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        let line = log.recv_timeout(left);
        let line = line.unwrap_or_else(|_| panic!("no {text} in the log"));
        if line.contains(text) {
            return line;
        }
    }
}

/// Sends these bytes on a new connection.
pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // It may be closed while we still write.
    let _ = stream.write_all(bytes);
    stream
}

/// Reads the head of one response, in lower case.
pub(crate) fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// Reads one response with a Content-Length: its head in lower case, and its body.
pub(crate) fn answer(stream: &mut TcpStream) -> (String, String) {
    let head = head(stream);
    let (_, rest) = head.split_once("content-length: ").unwrap();
    let mut body = vec![0; rest.split_once("\r\n").unwrap().0.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Reads a grant, and returns when it arrived.
pub(crate) fn granted(stream: &mut TcpStream) -> Instant {
    let (head, body) = answer(stream);
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert_eq!(body, GRANT);
    Instant::now()
}

/// Whether the connection is closed before anything was sent on it.
pub(crate) fn closed_silently(mut stream: TcpStream) -> bool {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A reset is a close, too; a timeout is none.
        Err(error) => bytes.is_empty() && error.kind() == ErrorKind::ConnectionReset,
        Ok(_) => bytes.is_empty(),
    }
}

/// Whether the client is connected and has received nothing.
pub(crate) fn waits(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let peeked = client.peek(&mut [0]);
    client.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
