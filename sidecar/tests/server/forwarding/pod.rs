//! A pod with its clients; the test decides whether the pod is the leader.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue::clock::boot_time;
use gateway_queue::clock::stall_detector::StallDetector;
use gateway_queue::discord::token_source::Current;
use gateway_queue::forwarding::destination::Upstream;
use gateway_queue::forwarding::reach::Reach;
use gateway_queue::forwarding::router::Router;
use gateway_queue::queue::handle::Decision;
use gateway_queue::serving::http::{self, Listener};
use gateway_queue_core::bot_token::BotToken;
use gateway_queue_core::leadership::state::{Leader, LeadershipState};
use gateway_queue_core::leadership::term::{ReceivedHandover, Term};
use gateway_queue_core::protocol::GRANT;
use gateway_queue_core::queue::snapshot::{Detail, Snapshot};
use gateway_queue_core::testing::about;
use gateway_queue_core::time::Moment;
use gateway_queue_testkit::manual_server::{ManualServer, Pending};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::common::TOKEN;
use crate::queue::Queue;

pub(crate) const SPACING: Duration = Duration::from_millis(300);

/// A spacing with which only the first client is granted.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// The margin of the stall detector: a short stall of a busy machine is not noticed. Stalls
/// that a test makes are longer.
const TOLERANT: Duration = Duration::from_secs(1);

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// How long a pod is unready before its clients are disconnected.
pub(crate) const DRAIN_AFTER: Duration = Duration::from_millis(200);

pub(crate) struct Pod {
    pub(crate) clients: SocketAddr,
    pub(crate) peers: SocketAddr,
    pub(crate) route: Router,
    /// Cancelled when the pod is about to end.
    pub(crate) leaving: CancellationToken,
    /// Cancelled when the pod ends.
    pub(crate) end: CancellationToken,
}

impl Pod {
    pub(crate) async fn start() -> Self {
        Self::spaced(SPACING).await
    }

    /// Starts a pod that does not lead.
    pub(crate) async fn spaced(spacing: Duration) -> Self {
        Self::with(Queue::start("test", spacing, false), None).await
    }

    /// Starts a pod that does not lead, with a token and this API of Discord.
    pub(crate) async fn with_discord(api: &str) -> Self {
        let token = Current::Token(BotToken::parse(TOKEN).unwrap());
        let queue = Queue::start_with("test", SPACING, false, token, api);
        Self::with(queue, None).await
    }

    /// Starts an agent of the queue at this `host:port`, which it asks for this long at a time.
    pub(crate) async fn agent(queue: impl ToString, max_wait: Duration) -> Self {
        let upstream = Upstream {
            queue: queue.to_string(),
            // Nothing is there.
            admin: "127.0.0.1:1".to_owned(),
            max_wait,
        };
        let queue = Queue::start("test", SPACING, false);
        Self::with(queue, Some(Arc::new(upstream))).await
    }

    async fn with(queue: Queue, upstream: Option<Arc<Upstream>>) -> Self {
        let route = Router {
            handle: queue.handle,
            leadership: queue.leadership,
            upstream,
            about: Arc::new(about()),
            stall_detector: Arc::new(StallDetector::new(TOLERANT)),
            reach: Arc::new(Reach::new(DRAIN_AFTER)),
            metrics: queue.metrics,
        };
        let mut pod = Self {
            clients: ([0, 0, 0, 0], 0).into(),
            peers: ([0, 0, 0, 0], 0).into(),
            route,
            leaving: CancellationToken::new(),
            end: CancellationToken::new(),
        };
        pod.clients = pod.serve(Listener::Clients, 100).await;
        pod.peers = pod.serve(Listener::Peers, 100).await;
        pod
    }

    /// Starts a leader that has granted its one bucket for an hour.
    pub(crate) async fn busy_leader() -> Self {
        let leader = Self::spaced(NEVER).await;
        leader.lead(1);
        granted(&mut leader.ask("shard=0").await).await;
        leader
    }

    /// Starts a busy leader and its follower.
    pub(crate) async fn busy_leader_and_follower() -> (Self, Self) {
        let (leader, follower) = (Self::busy_leader().await, Self::start().await);
        follower.follow(&leader);
        (leader, follower)
    }

    /// Opens one more port, for at most `max` requests.
    pub(crate) async fn serve(&self, from: Listener, max: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leaving, end) = (self.leaving.clone(), self.end.clone());
        let serving = http::serve(listener, max, from, self.route.clone(), leaving, end);
        tokio::spawn(serving);
        address
    }

    pub(crate) fn set_leadership(&self, term: Option<Term>, leader: Option<Leader>) {
        self.route.leadership.send_replace(LeadershipState {
            term,
            known: None,
            leader,
        });
    }

    pub(crate) fn lead(&self, number: u64) {
        let mut leadership = LeadershipState::alone(ReceivedHandover::NONE);
        if let Some(term) = &mut leadership.term {
            term.number = number;
            term.holder = self.holder();
        }
        self.route.leadership.send_replace(leadership);
    }

    pub(crate) fn follow(&self, other: &Self) {
        self.follow_at(&other.holder(), other.peers);
    }

    pub(crate) fn follow_at(&self, holder: &str, address: SocketAddr) {
        let holder = holder.to_owned();
        self.set_leadership(None, Some(Leader { holder, address }));
    }

    /// Starts a leader that the test plays, and follows it.
    pub(crate) async fn follow_fake(&self) -> ManualServer {
        let fake = ManualServer::start().await;
        self.follow_at("fake", fake.address());
        fake
    }

    /// Loses its right to grant, and remains the leader.
    pub(crate) fn expire(&self) {
        let mut state = LeadershipState::alone(ReceivedHandover::NONE);
        state.term.as_mut().unwrap().until = boot_time::now();
        self.route.leadership.send_replace(state);
    }

    /// Lets the stall detector see that the process did not run for a second.
    pub(crate) fn stall(&self) {
        let end = boot_time::now() + Duration::from_secs(1);
        self.route.stall_detector.check(end);
    }

    /// Returns its name as a leader.
    pub(crate) fn holder(&self) -> String {
        format!("pod_{}", self.peers.port())
    }

    /// Returns how many clients disconnected while they waited.
    pub(crate) async fn cancelled(&self) -> u64 {
        self.counted("gateway_queue_cancelled_requests_total").await
    }

    /// Returns the value of a series at /metrics, 0 if it is absent.
    pub(crate) async fn counted(&self, series: &str) -> u64 {
        let page = self.route.metrics.page(&self.snapshot().await).unwrap();
        let line = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
        page.lines().find_map(line).unwrap_or_default()
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.route.handle.look(Detail::Shards).await.unwrap()
    }

    /// Returns how many clients wait here or at the leader.
    pub(crate) async fn held(&self) -> u64 {
        self.snapshot().await.held_requests
    }

    /// Forwards a request to this pod.
    pub(crate) async fn forward(&self, shard: u32) -> TcpStream {
        send(self.peers, &self.forwarded(shard)).await
    }

    /// Returns the query of a forwarded request.
    pub(crate) fn forwarded(&self, shard: u32) -> String {
        format!("leader={}&shard={shard}&age=0", self.holder())
    }

    pub(crate) async fn ask(&self, query: &str) -> TcpStream {
        send(self.clients, query).await
    }

    /// Waits for a grant as a client that arrived `age` ago, and reports its write.
    pub(crate) fn waits_since(&self, age: Duration, shard: u32) -> JoinHandle<()> {
        let route = self.route.clone();
        tokio::spawn(async move {
            match route.wait(shard, boot_time::now() - age, None).await {
                Some(Decision::Granted(permit)) => permit.written(boot_time::now()),
                other => panic!("{other:?}"),
            }
        })
    }

    /// Returns the shards that were granted here in this term.
    pub(crate) async fn granted(&self) -> Vec<u32> {
        let granted = self.snapshot().await.leader_view.unwrap().granted;
        granted.into_iter().map(|grant| grant.shard).collect()
    }

    /// Returns the shards that wait here.
    pub(crate) async fn waiting(&self) -> Vec<u32> {
        let lanes = self.snapshot().await.lanes;
        lanes.into_iter().flat_map(|lane| lane.shards).collect()
    }

    /// Waits until exactly these shards wait here.
    pub(crate) async fn wait_for(&self, shards: &[u32]) {
        until(&format!("{shards:?} wait"), async || {
            self.waiting().await == shards
        })
        .await;
    }
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LONG, "not: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Writes a grant to a forwarded request without letting the follower run.
pub(crate) fn grant(forwarded: &Pending) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", GRANT.len());
    let grant = [head.as_bytes(), GRANT].concat();
    assert_eq!(forwarded.stream.try_write(&grant).unwrap(), grant.len());
}

/// Checks that the client receives nothing for this long.
pub(crate) async fn waits(client: &mut TcpStream, time: Duration) {
    let read = timeout(time, client.read(&mut [0])).await;
    assert!(read.is_err(), "answered or closed: {read:?}");
}

/// Sends a request after which the connection can be used again.
pub(crate) async fn ask_again(client: &mut TcpStream, query: &str) {
    let request = format!("GET /?{query} HTTP/1.1\r\nhost: q\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
}

/// Reads a grant after which the connection can be used again.
pub(crate) async fn granted_and_open(client: &mut TcpStream) {
    let mut answer = vec![0; 1024];
    let read = timeout(LONG, client.read(&mut answer)).await.unwrap();
    assert!(answer[..read.unwrap()].ends_with(GRANT));
}

/// Reads a refusal after which the connection is closed.
pub(crate) async fn refused(client: &mut TcpStream, reason: &str) -> String {
    let text = answer(client).await;
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    let reason = format!(r#"{{"reason":{reason},"#);
    assert!(text.contains(&reason), "no {reason} in {text}");
    text
}

pub(crate) async fn send(to: SocketAddr, query: &str) -> TcpStream {
    get(to, &format!("/?{query}")).await
}

/// Sends a request to this path, after which the connection is closed.
pub(crate) async fn get(to: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads to the end of the connection.
pub(crate) async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let reading = timeout(LONG, stream.read_to_string(&mut text)).await;
    reading.expect("no answer, and not closed").unwrap();
    text
}

/// Reads a grant, and returns when it arrived.
pub(crate) async fn granted(stream: &mut TcpStream) -> Moment {
    let text = answer(stream).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.as_bytes().ends_with(GRANT), "{text}");
    boot_time::now()
}
