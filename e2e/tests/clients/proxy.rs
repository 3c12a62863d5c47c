//! A real proxy, nginx, between clients and queue: as a proxy for TCP it changes nothing, and as one
//! for HTTP it answers in place of the queue.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::process::{PATIENCE, Prints, Process};
use crate::queue::Queue;

/// Discord's interval, which the queue extends by its margin.
const INTERVAL: Duration = Duration::from_secs(5);

/// The default of nginx is 60 s; a bot of many shards waits for many minutes.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
enum Mode {
    Tcp,
    Http,
}

/// The proxy, and the socket on which it listens.
struct Proxy {
    socket: PathBuf,
    process: Process,
    _folder: TempDir,
}

impl Proxy {
    async fn start(mode: Mode, queue: &Queue) -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("no {name}"));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let config = folder.path().join("nginx.conf");
        let stream = variable("NGINX_STREAM");
        fs::write(&config, configuration(mode, queue, &socket, &stream)).unwrap();
        let mut nginx = Command::new(variable("NGINX_PROGRAM"));
        nginx.env_clear();
        nginx.args(["-e", "stderr", "-p"]).arg(folder.path());
        nginx.arg("-c").arg(&config);
        let process = Process::spawn("nginx", &mut nginx, Prints::ToStdout);
        let mut proxy = Self {
            socket: socket.clone(),
            process,
            _folder: folder,
        };
        let accepts = async {
            while UnixStream::connect(&socket).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timed(proxy.process.during(accepts)).await;
        proxy
    }

    /// Sends the request of a shard, and returns the whole answer and how long it took.
    async fn ask(&self, shard: u32) -> (String, Duration) {
        let started = Instant::now();
        let mut connection = UnixStream::connect(&self.socket).await.unwrap();
        let request = format!("GET /?shard={shard} HTTP/1.0\r\nhost: my-bot\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A queue that stops may reset the connection.
        let _ = timed(connection.read_to_string(&mut answer)).await;
        (answer, started.elapsed())
    }
}

fn configuration(mode: Mode, queue: &Queue, socket: &Path, stream: &str) -> String {
    let (queue, socket) = (queue.clients, socket.display());
    let server = match mode {
        Mode::Tcp => format!(
            "load_module {stream};
             stream {{ server {{ listen unix:{socket}; proxy_pass {queue}; proxy_timeout 1h; }} }}"
        ),
        Mode::Http => format!(
            "http {{
               access_log off;
               client_body_temp_path body;
               proxy_temp_path proxy;
               fastcgi_temp_path fastcgi;
               uwsgi_temp_path uwsgi;
               scgi_temp_path scgi;
               server {{
                 listen unix:{socket};
                 location / {{ proxy_pass http://{queue}; proxy_read_timeout {}s; }}
               }}
             }}",
            READ_TIMEOUT.as_secs()
        ),
    };
    let global = "daemon off; master_process off; pid nginx.pid;";
    format!("{global} {server} events {{}}")
}

/// The status of a response; none if the connection was closed without one.
fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

/// What clients of one bucket see.
struct Seen {
    /// What the second one receives, and when.
    second: (Option<u16>, Duration),
    /// What one receives that waits while the queue stops.
    stopped: Option<u16>,
}

async fn observe(mode: Mode) -> Seen {
    let queue = Queue::start(&[("START_GUARD", "false")]).await;
    let proxy = Proxy::start(mode, &queue).await;
    let (first, _) = proxy.ask(0).await;
    assert_eq!(status(&first), Some(200), "{mode:?}: {first}");
    let (second, waited) = proxy.ask(1).await;
    let stop = async {
        while waiting(&queue).await == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        queue.end().await;
    };
    let ((third, _), ()) = tokio::join!(proxy.ask(2), timed(stop));
    proxy.process.terminate(PATIENCE).await;
    let seen = Seen {
        second: (status(&second), waited),
        stopped: status(&third),
    };
    println!(
        "{mode:?}: the second shard of a bucket receives {:?} after {:.2} s; one that waits while \
         the queue stops: {:?}",
        seen.second.0,
        waited.as_secs_f64(),
        seen.stopped
    );
    seen
}

async fn timed<T>(wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait).await.expect("in time")
}

/// The number of requests that wait at the queue.
async fn waiting(queue: &Queue) -> u64 {
    let mut connection = TcpStream::connect(queue.admin).await.unwrap();
    let request = b"GET /state HTTP/1.0\r\n\r\n";
    connection.write_all(request).await.unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).await.unwrap();
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    let state: Value = serde_json::from_str(body).unwrap();
    state["held_requests"].as_u64().unwrap()
}

#[tokio::test]
async fn a_proxy_for_tcp_changes_nothing() {
    let Seen { second, stopped } = observe(Mode::Tcp).await;
    assert_eq!(second.0, Some(200));
    assert!(second.1 >= INTERVAL, "{second:?}");
    assert_eq!(stopped, None);
}

/// Clients take any response for a grant, so two of the three identify too early.
#[tokio::test]
async fn a_proxy_for_http_answers_in_place_of_the_queue() {
    let Seen { second, stopped } = observe(Mode::Http).await;
    assert_eq!(second.0, Some(504));
    assert!(second.1 < INTERVAL, "{second:?}");
    assert_eq!(stopped, Some(502));
}
