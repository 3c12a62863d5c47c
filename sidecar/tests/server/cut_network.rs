//! The binary behind a router that suddenly drops everything and informs neither side, as when
//! a node loses its power.
//!
//! There are three network namespaces: client, router, server. Each lives as long as a process
//! of this test, so nothing of them remains, however the test ends.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{BINARY, GRANT, Killed, PATIENCE, Server};

/// The address of the server for clients behind the router.
const SERVER: &str = "10.2.0.2";

const NEEDED: &str = "no network to cut: this test needs `unshare`, `nsenter` and `ip`, and to be \
    root (in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN) or where every user may create \
    user namespaces";

#[test]
fn a_client_that_vanished_is_noticed_within_30_s_and_the_next_is_granted() {
    let network = Network::new();
    // The next grant is due after the latest instant at which keepalive should notice.
    let server = network.start(&[("IDENTIFY_INTERVAL", "28s")]);
    network.near(&server, 0).granted(PATIENCE);
    let vanished = network.far(&server, 1);
    network.wait_for(&server, "/state", r#""shards":[1]"#);
    let next = network.near(&server, 2);
    network.wait_for(&server, "/state", r#""shards":[1,2]"#);
    network.cut();
    let cut = Instant::now();
    let most = Duration::from_secs(30);
    network.wait_at_most(most, &server, "/state", r#""shards":[2]"#);
    // 10 s of silence and three probes, 5 s apart: no good connection is closed earlier.
    assert!(cut.elapsed() > Duration::from_secs(20));
    next.granted(most);
    for line in [
        "gateway_queue_grants_total 2\n",
        "gateway_queue_cancelled_requests_total 1\n",
    ] {
        network.wait_for(&server, "/metrics", line);
    }
    assert_eq!(vanished.received(), "");
}

#[test]
fn grants_lost_in_a_cut_network_are_not_delivered_when_it_heals() {
    let (network, server, clients) = granted_into_a_cut_network();
    // Their second is over. The kernel would retransmit what it still has about 3 s after
    // the first write.
    thread::sleep(Duration::from_secs(2));
    network.heal();
    network.far(&server, 0).granted(PATIENCE);
    thread::sleep(Duration::from_secs(5));
    for client in clients {
        assert_eq!(client.received(), "");
    }
    // They were written, so their session starts count.
    network.wait_for(&server, "/metrics", "gateway_queue_grants_total 5\n");
}

#[test]
fn grants_delayed_by_a_short_cut_arrive() {
    let (network, server, clients) = granted_into_a_cut_network();
    // On a busy machine most of their second is over by now.
    thread::sleep(Duration::from_millis(50));
    for client in &clients {
        assert_eq!(client.received(), "", "the network was not cut");
    }
    network.heal();
    for client in clients {
        client.granted(Duration::from_secs(1));
    }
    network.wait_for(&server, "/metrics", "gateway_queue_grants_total 4\n");
}

/// Returns two clients whose grants were written a moment ago and have not arrived.
fn granted_into_a_cut_network() -> (Network, Server, [Client; 2]) {
    let network = Network::new();
    let environment = [("MAX_CONCURRENCY", "2"), ("IDENTIFY_INTERVAL", "2s")];
    let server = network.start(&environment);
    for shard in [0, 1] {
        network.far(&server, shard).granted(PATIENCE);
        server.wait_for_log(r#""message":"granted""#);
    }
    let clients = [2, 3].map(|shard| network.far(&server, shard));
    network.wait_for(&server, "/state", r#""waiting":2"#);
    network.cut();
    for client in &clients {
        assert_eq!(client.received(), "", "it took too long to cut the network");
        server.wait_for_log(r#""message":"granted""#);
    }
    (network, server, clients)
}

struct Network {
    client: Namespace,
    router: Namespace,
    server: Namespace,
}

impl Network {
    fn new() -> Self {
        // A user who is not root can be root in a user namespace.
        let root = rustix::process::geteuid().is_root();
        let mut unshare = Command::new("unshare");
        unshare.args((!root).then_some("-r")).arg("-n");
        let router = Namespace::hold(unshare, root);
        let [client, server] = [(); 2].map(|()| {
            let mut unshare = router.enter("unshare");
            unshare.arg("-n");
            Namespace::hold(unshare, root)
        });
        for (end, link, gateway, address) in [
            (&client, "left", "10.1.0.1", "10.1.0.2"),
            (&server, "right", "10.2.0.1", SERVER),
        ] {
            let pid = end.0.0.id();
            router.run(&format!(
                "ip link add name {link} type veth peer name cable netns {pid} &&
                 ip addr add {gateway}/24 dev {link} && ip link set {link} up"
            ));
            end.run(&format!(
                "ip addr add {address}/24 dev cable && ip link set cable up &&
                 ip link set lo up && ip route add default via {gateway}"
            ));
        }
        let network = Self {
            client,
            router,
            server,
        };
        network.heal();
        network
    }

    /// Drops everything from now on.
    fn cut(&self) {
        self.router.run("echo 0 > /proc/sys/net/ipv4/ip_forward");
    }

    fn heal(&self) {
        self.router.run("echo 1 > /proc/sys/net/ipv4/ip_forward");
    }

    fn start(&self, environment: &[(&str, &str)]) -> Server {
        let environment = [&[("HOST", "0.0.0.0")], environment].concat();
        Server::spawn(self.server.enter(BINARY), &environment)
    }

    /// Starts a client behind the router.
    fn far(&self, server: &Server, shard: u32) -> Client {
        let request = format!("/?shard={shard}");
        Client::start(&self.client, (SERVER, server.queue), &request)
    }

    /// Starts a client on the server's own machine, which is never cut off.
    fn near(&self, server: &Server, shard: u32) -> Client {
        let request = format!("/?shard={shard}");
        Client::start(&self.server, ("127.0.0.1", server.queue), &request)
    }

    /// Waits until an admin page contains this text.
    fn wait_for(&self, server: &Server, page: &str, text: &str) {
        self.wait_at_most(PATIENCE, server, page, text);
    }

    fn wait_at_most(&self, most: Duration, server: &Server, page: &str, text: &str) {
        let start = Instant::now();
        let mut last = String::new();
        while !last.contains(text) {
            assert!(start.elapsed() < most, "no {text} in {last}");
            let admin = ("127.0.0.1", server.admin);
            let request = ask(&self.server, admin, page).output().unwrap();
            last = String::from_utf8(request.stdout).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A network namespace, which ends with its process.
struct Namespace(Killed, bool);

impl Namespace {
    /// The process ends with this one at the latest, because it reads a pipe of it.
    fn hold(mut unshare: Command, root: bool) -> Self {
        let child = unshare
            .args(["sh", "-c", "echo made; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(child) = child else {
            panic!("{NEEDED}");
        };
        let mut namespace = Self(Killed(child), root);
        let mut made = [0; 5];
        let stdout = namespace.0.0.stdout.as_mut().unwrap();
        assert!(stdout.read_exact(&mut made).is_ok(), "{NEEDED}");
        namespace
    }

    /// Returns a command that becomes this program, in this network.
    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.0.id().to_string(), "-n"]);
        if !self.1 {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    fn run(&self, script: &str) {
        let status = self.enter("sh").args(["-c", script]).status();
        assert!(status.unwrap().success(), "{script}\n{NEEDED}");
    }
}

/// Returns a command that sends a request and copies the answer to its end.
fn ask(from: &Namespace, (host, port): (&str, SocketAddr), target: &str) -> Command {
    let script = r#"exec 3<>"/dev/tcp/$0/$1" &&
        printf 'GET %s HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n' "$2" >&3 &&
        exec cat <&3"#;
    let mut command = from.enter("bash");
    command.args(["-c", script, host, &port.port().to_string(), target]);
    command
}

struct Client {
    _process: Killed,
    received: Arc<Mutex<String>>,
}

impl Client {
    fn start(from: &Namespace, to: (&str, SocketAddr), target: &str) -> Self {
        let mut command = ask(from, to, target);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut answer = process.stdout.take().unwrap();
        let received = Arc::<Mutex<String>>::default();
        let all = Arc::clone(&received);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = answer.read(&mut chunk) {
                let chunk = String::from_utf8_lossy(&chunk[..n]);
                all.lock().unwrap().push_str(&chunk);
            }
        });
        Self {
            _process: Killed(process),
            received,
        }
    }

    /// Returns everything that has arrived.
    fn received(&self) -> String {
        self.received.lock().unwrap().clone()
    }

    fn granted(&self, most: Duration) {
        let start = Instant::now();
        while !self.received().ends_with(GRANT) {
            let received = self.received();
            assert!(start.elapsed() < most, "no grant, but {received:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
