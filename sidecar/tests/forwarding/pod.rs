//! A queue of which the test says whether it leads, and its clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue::clock::boot_time;
use gateway_queue::clock::stall_detector::StallDetector;
use gateway_queue::discord::api::Discord;
use gateway_queue::discord::token_source::Current;
use gateway_queue::forwarding::reach::Reach;
use gateway_queue::forwarding::router::Route;
use gateway_queue::metrics::Metrics;
use gateway_queue::queue::handle::Turn;
use gateway_queue::queue::task::QueueTask;
use gateway_queue::serving::http::{self, Listener};
use gateway_queue_core::leadership::state::{Leader, LeadershipState};
use gateway_queue_core::leadership::term::{Inheritance, Term};
use gateway_queue_core::lease_state::last_known::Page;
use gateway_queue_core::pacing::budget::Rules;
use gateway_queue_core::pacing::scheduler::Config;
use gateway_queue_core::protocol::GRANT;
use gateway_queue_core::queue::snapshot::Detail;
use gateway_queue_core::time::Moment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub(crate) const SPACING: Duration = Duration::from_millis(300);

/// So long nothing is granted but the first.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// A margin for which short stalls of a busy machine are no gap. Gaps that a test makes
/// are longer.
const TOLERANT: Duration = Duration::from_secs(1);

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// So long a pod is unready before its clients are sent away.
pub(crate) const DRAIN_AFTER: Duration = Duration::from_millis(200);

pub(crate) struct Pod {
    pub(crate) clients: SocketAddr,
    pub(crate) peers: SocketAddr,
    pub(crate) route: Route,
    /// Told to end.
    pub(crate) leaving: CancellationToken,
    /// Ends.
    pub(crate) end: CancellationToken,
}

impl Pod {
    pub(crate) async fn start() -> Self {
        Self::spaced(SPACING).await
    }

    /// A queue with one bucket and no token that does not lead.
    pub(crate) async fn spaced(spacing: Duration) -> Self {
        let config = Config {
            spacing,
            start_guard: false,
            place_kept: Duration::from_secs(60),
            max_concurrency: 1,
            rules: Rules {
                interval: spacing,
                reserve: 0,
                refresh: LONG,
            },
        };
        let (standing, stands) = watch::channel(LeadershipState::SEEKS);
        let (_, tokens) = watch::channel(Current::None);
        let (lease_state, _) = watch::channel(Page::new("test"));
        let discord = Discord::new("http://127.0.0.1:1").unwrap();
        let metrics = Arc::new(Metrics::new(0));
        let counted = Arc::clone(&metrics);
        let (queue_task, handle) =
            QueueTask::new(config, 100, stands, tokens, discord, lease_state, counted).unwrap();
        tokio::spawn(queue_task.run());
        let route = Route {
            handle,
            standing: Arc::new(standing),
            beat: Arc::new(StallDetector::new(TOLERANT)),
            reach: Arc::new(Reach::new(DRAIN_AFTER)),
            metrics,
        };
        let (leaving, end) = (CancellationToken::new(), CancellationToken::new());
        let mut pod = Self {
            clients: ([0, 0, 0, 0], 0).into(),
            peers: ([0, 0, 0, 0], 0).into(),
            route,
            leaving,
            end,
        };
        pod.clients = pod.serve(Listener::Clients, 100).await;
        pod.peers = pod.serve(Listener::Peers, 100).await;
        pod
    }

    /// One more port, for at most `most` requests.
    pub(crate) async fn serve(&self, from: Listener, most: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leaving, end) = (self.leaving.clone(), self.end.clone());
        let serving = http::serve(listener, most, from, self.route.clone(), leaving, end);
        tokio::spawn(serving);
        address
    }

    pub(crate) fn stand(&self, term: Option<Term>, leader: Option<Leader>) {
        self.route.standing.send_replace(LeadershipState {
            term,
            known: None,
            leader,
        });
    }

    pub(crate) fn lead(&self, number: u64) {
        let mut standing = LeadershipState::alone(Inheritance::NOTHING);
        if let Some(term) = &mut standing.term {
            term.number = number;
            term.holder = self.holder();
        }
        self.route.standing.send_replace(standing);
    }

    pub(crate) fn follow(&self, other: &Self) {
        let leader = Leader {
            holder: other.holder(),
            address: other.peers,
        };
        self.stand(None, Some(leader));
    }

    /// Its name whenever it leads.
    pub(crate) fn holder(&self) -> String {
        format!("pod_{}", self.peers.port())
    }

    /// How many waiters went away before their turn.
    pub(crate) async fn gone(&self) -> u64 {
        self.counted("gateway_queue_cancelled_requests_total").await
    }

    /// The value of a series at /metrics, 0 if it is absent.
    pub(crate) async fn counted(&self, series: &str) -> u64 {
        let snapshot = self.route.handle.look(Detail::Shards).await.unwrap();
        let page = self.route.metrics.page(&snapshot).unwrap();
        let line = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
        page.lines().find_map(line).unwrap_or_default()
    }

    /// How many clients it holds.
    pub(crate) async fn held(&self) -> u64 {
        let snapshot = self.route.handle.look(Detail::Brief).await.unwrap();
        snapshot.held_requests
    }

    /// A hop that asks this one.
    pub(crate) async fn hop(&self) -> TcpStream {
        let query = format!("leader={}&shard=1&age=5", self.holder());
        send(self.peers, &query).await
    }

    pub(crate) async fn ask(&self, query: &str) -> TcpStream {
        send(self.clients, query).await
    }

    /// Waits here for a grant as a client that came `age` ago, and reports its write.
    pub(crate) fn waits_since(&self, age: Duration, shard: u32) -> JoinHandle<()> {
        let route = self.route.clone();
        tokio::spawn(async move {
            match route.turn(shard, boot_time::now() - age, None).await {
                Some(Turn::Granted(permit)) => permit.written(boot_time::now()),
                other => panic!("{other:?}"),
            }
        })
    }

    /// The shards that were granted here in this term.
    pub(crate) async fn granted(&self) -> Vec<u32> {
        let snapshot = self.route.handle.look(Detail::Brief).await.unwrap();
        let granted = snapshot.leader_view.unwrap().granted;
        granted.into_iter().map(|grant| grant.shard).collect()
    }

    /// The shards that wait here.
    pub(crate) async fn waiting(&self) -> Vec<u32> {
        let snapshot = self.route.handle.look(Detail::Shards).await.unwrap();
        snapshot.lanes.into_iter().flat_map(|l| l.shards).collect()
    }

    pub(crate) async fn wait_for(&self, shards: &[u32]) {
        let start = Instant::now();
        while self.waiting().await != shards {
            assert!(start.elapsed() < LONG, "{:?}", self.waiting().await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(crate) async fn send(to: SocketAddr, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("GET /?{query} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

pub(crate) async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let reading = timeout(LONG, stream.read_to_string(&mut text)).await;
    reading.expect("no answer, and not closed").unwrap();
    text
}

/// Reads the grant, and says when it came.
pub(crate) async fn granted(stream: &mut TcpStream) -> Moment {
    let text = answer(stream).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.as_bytes().ends_with(GRANT), "{text}");
    boot_time::now()
}
