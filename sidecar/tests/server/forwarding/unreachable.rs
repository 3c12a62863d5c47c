//! A leader that renews its Lease and is unreachable for this pod: the pod is unready, and its
//! clients go to other pods, until the leader answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_queue::admin::routes::{self, Admin};
use gateway_queue::clock::boot_time;
use gateway_queue::forwarding::leader_monitor;
use gateway_queue_core::leadership::leader_health::{Config, Health, Renewal};
use gateway_queue_core::leadership::lease_object::Failure;
use gateway_queue_core::lease_state::Unreachable;
use gateway_queue_testkit::manual_server::ManualServer;
use jiff::Timestamp;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::pod::{DRAIN_AFTER, LONG, Pod, answer, ask_again, get, refused, until, waits};

const HOLDER: &str = "my-bot-1_0badcafe-1";

/// The settings of production, a hundred times as fast.
const CONFIG: Config = Config {
    probe_every: Duration::from_millis(100),
    retry_every: Duration::from_millis(50),
    patience: Duration::from_millis(200),
    unreachable_after: Duration::from_millis(300),
    renewed_within: Duration::from_millis(400),
};

/// A pod that watches its leader, and whose admin port is open.
struct Watched {
    pod: Pod,
    admin: SocketAddr,
    lease_read: CancellationToken,
    renewals: watch::Sender<Option<Renewal>>,
}

impl Watched {
    async fn start() -> Self {
        let watched = Self::starting().await;
        watched.lease_read.cancel();
        watched
    }

    /// Returns a pod that has not read its Lease yet.
    async fn starting() -> Self {
        let pod = Pod::start().await;
        let (renewals, seen) = watch::channel(None);
        let leadership = pod.route.leadership.subscribe();
        let reach = Arc::clone(&pod.route.reach);
        tokio::spawn(leader_monitor::run(CONFIG, leadership, seen, reach));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lease_read = CancellationToken::new();
        let admin = Admin {
            route: pod.route.clone(),
            lease_read: lease_read.clone(),
        };
        tokio::spawn(routes::serve(listener, admin, CancellationToken::new()));
        Self {
            pod,
            admin: address,
            lease_read,
            renewals,
        }
    }

    fn follow(&self, address: SocketAddr) {
        self.pod.follow_at(HOLDER, address);
    }

    /// Renews the Lease as the leader until the returned guard is dropped.
    fn renewing(&self) -> AbortOnDropHandle<()> {
        let renewals = self.renewals.clone();
        let leader = self.pod.route.leadership.borrow().leader.clone();
        let holder = leader.unwrap().holder;
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                renewals.send_replace(Some(renewal(&holder, None)));
                sleep(CONFIG.renewed_within / 8).await;
            }
        }))
    }

    async fn page(&self, path: &str) -> String {
        answer(&mut get(self.admin, path).await).await
    }

    /// Checks that an admin page contains this text.
    async fn shows(&self, path: &str, text: &str) {
        let page = self.page(path).await;
        assert!(page.contains(text), "no {text} in {page}");
    }

    /// Waits until the admin port reports that the pod is ready, or is not.
    async fn is_ready(&self, ready: bool) {
        let expected = if ready { " 200 " } else { " 503 " };
        until(&format!("ready: {ready}"), async || {
            self.page("/readyz").await.contains(expected)
        })
        .await;
    }

    /// Checks this for twice as long as it takes to find an unreachable leader.
    async fn stays_ready(&self) {
        let start = Instant::now();
        while start.elapsed() < CONFIG.unreachable_after * 2 + CONFIG.patience * 4 {
            self.shows("/readyz", " 200 ").await;
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn reaches_the_leader(&self) {
        let mut health = self.pod.route.reach.subscribe();
        let reachable = health.wait_for(|health| *health == Health::Reachable);
        timeout(LONG, reachable).await.unwrap().unwrap();
    }
}

/// Returns a renewal by this holder, with the report of the pod.
fn renewal(holder: &str, report: Option<String>) -> Renewal {
    Renewal {
        uid: "u".to_owned(),
        version: "7".to_owned(),
        holder: holder.to_owned(),
        at: boot_time::now(),
        duration: None,
        report,
    }
}

/// A leader that answers probes while this is true, and nothing else.
#[derive(Clone, Default)]
struct Answers(Arc<AtomicBool>);

impl Answers {
    async fn start(&self) -> SocketAddr {
        let server = ManualServer::start().await;
        let address = server.address();
        let answers = Arc::clone(&self.0);
        tokio::spawn(async move {
            // Open until the test ends.
            let mut connections = Vec::new();
            loop {
                let mut request = server.next().await;
                if answers.load(Ordering::Relaxed) && request.head.starts_with("GET /probe?") {
                    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                    let _ = request.stream.write_all(answer).await;
                }
                connections.push(request);
            }
        });
        address
    }

    fn set(&self, answers: bool) {
        self.0.store(answers, Ordering::Relaxed);
    }
}

/// An address where connections are neither made nor refused, as if packets were dropped.
struct BlackHole {
    _listener: Socket,
    _waiting: Vec<Socket>,
    address: SocketAddr,
}

impl BlackHole {
    fn start() -> Self {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = new();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        // They fill the backlog, from which none is accepted.
        let waiting = std::iter::repeat_with(|| {
            let socket = new();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        });
        Self {
            _waiting: waiting.take(4).collect(),
            _listener: listener,
            address: address.as_socket().unwrap(),
        }
    }
}

/// The kubelet probes a new pod once, and perhaps not again for two seconds.
#[tokio::test]
async fn the_probe_of_a_new_pod_is_answered_when_the_pod_has_read_its_lease() {
    let watched = Watched::starting().await;
    let mut probe = get(watched.admin, "/readyz").await;
    let early = timeout(Duration::from_millis(50), answer(&mut probe)).await;
    assert!(early.is_err(), "{early:?}");
    watched.lease_read.cancel();
    assert!(answer(&mut probe).await.contains(" 200 "));

    let never_ready = Watched::starting().await;
    never_ready.shows("/readyz", " 503 ").await;
}

#[tokio::test]
async fn a_pod_that_cannot_reach_a_live_leader_is_unready_until_it_can() {
    let follower = Watched::start().await;
    let leader = Answers::default();
    follower.follow(leader.start().await);
    let renewing = follower.renewing();
    follower.is_ready(false).await;
    for (path, text) in [
        ("/readyz", "the leader my-bot-1 renews its Lease"),
        ("/metrics", "gateway_queue_leader_reachable 0\n"),
        (
            "/state",
            r#""last_error":"this pod cannot reach the leader, although"#,
        ),
        (
            "/state",
            r#""message":"This pod cannot reach the leader my-bot-1 at "#,
        ),
    ] {
        follower.shows(path, text).await;
    }

    // While the Lease is not renewed, no pod is better than another.
    drop(renewing);
    follower.is_ready(true).await;
    follower.stays_ready().await;
    let _renewing = follower.renewing();
    follower.is_ready(false).await;

    leader.set(true);
    follower.is_ready(true).await;
    follower.stays_ready().await;
    follower
        .shows("/metrics", "gateway_queue_leader_reachable 1\n")
        .await;
    follower.shows("/state", r#""last_error":null"#).await;
}

#[tokio::test]
async fn a_leader_is_unreachable_however_the_network_fails() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = closed.local_addr().unwrap();
    drop(closed);
    // A proxy that accepts and reaches nothing.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resets = proxy.local_addr().unwrap();
    tokio::spawn(async move { while proxy.accept().await.is_ok() {} });
    let black_hole = BlackHole::start();
    // Another pod has the address now, or this leader has another name.
    let other = Pod::start().await;
    other.lead(1);
    for address in [refuses, resets, black_hole.address, other.peers] {
        let follower = Watched::start().await;
        follower.follow(address);
        let _renewing = follower.renewing();
        follower.is_ready(false).await;
        // This pod leads.
        follower.pod.lead(7);
        follower.is_ready(true).await;
        let metrics = follower.page("/metrics").await;
        assert!(!metrics.contains("leader_reachable "), "{metrics}");
    }
}

/// The test has the Lease, which the follower sees with each renewal.
#[tokio::test]
async fn a_pod_repeats_a_report_that_failed_and_withdraws_it_when_the_leader_responds() {
    let follower = Watched::start().await;
    let leader = Answers::default();
    follower.follow(leader.start().await);
    let (patches, mut written) = unbounded_channel();
    let reach = Arc::clone(&follower.pod.route.reach);
    let metrics = Arc::clone(&follower.pod.route.metrics);
    let seen = follower.renewals.subscribe();
    let refuses = AtomicBool::new(true);
    tokio::spawn(leader_monitor::report(
        "my-bot-2".to_owned(),
        seen,
        reach,
        metrics,
        move |patch| {
            patches.send(patch).unwrap();
            // The first write fails.
            let refused = refuses.swap(false, Ordering::Relaxed);
            let answer = (!refused).then_some(());
            std::future::ready(answer.ok_or(Failure::Other("it was busy".to_owned())))
        },
    ));
    let key = Unreachable::key("my-bot-2");
    let renewing = follower.renewing();
    for _ in 0..2 {
        let patch = timeout(LONG, written.recv()).await.unwrap().unwrap();
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let text = patch["metadata"]["annotations"][&key].as_str().unwrap();
        assert_eq!(Unreachable::read(text).unwrap().leader, HOLDER);
    }
    assert!(!follower.pod.route.reach.health().is_ready());

    drop(renewing);
    leader.set(true);
    follower.reaches_the_leader().await;
    let report = Unreachable {
        leader: HOLDER.to_owned(),
        address: ([10, 0, 0, 1], 9091).into(),
        since: Timestamp::now(),
    };
    let renewal = renewal(HOLDER, Some(report.write()));
    follower.renewals.send_replace(Some(renewal));
    let patch = timeout(LONG, written.recv()).await.unwrap().unwrap();
    assert!(patch["metadata"]["annotations"][&key].is_null(), "{patch}");
}

#[tokio::test]
async fn clients_of_a_pod_that_cannot_reach_the_leader_are_disconnected() {
    let follower = Watched::start().await;
    let leader = Answers::default();
    follower.follow(leader.start().await);
    let mut patient = follower.pod.ask("shard=1").await;
    // This client would reuse its connection.
    let mut limited = TcpStream::connect(follower.pod.clients).await.unwrap();
    ask_again(&mut limited, "shard=2&wait=3600").await;
    // While the Lease is not renewed, clients wait.
    waits(&mut patient, DRAIN_AFTER * 3).await;

    let _renewing = follower.renewing();
    // Closed without an answer, which an old client could take for a grant.
    assert_eq!(answer(&mut patient).await, "");
    let text = refused(&mut limited, r#""no_leader","position":null"#).await;
    assert!(text.contains("retry-after: 1\r\n"), "{text}");
}

#[tokio::test]
async fn clients_of_a_pod_that_reaches_the_leader_stay() {
    let leader = Pod::busy_leader().await;
    let follower = Watched::start().await;
    follower.pod.follow(&leader);
    let _renewing = follower.renewing();
    let mut client = follower.pod.ask("shard=1").await;
    leader.wait_for(&[1]).await;
    follower.stays_ready().await;
    waits(&mut client, Duration::from_millis(5)).await;
}

#[tokio::test]
async fn only_the_named_leader_answers_a_probe() {
    let pod = Pod::start().await;
    let probe = async |query: &str, to: SocketAddr| {
        answer(&mut get(to, &format!("/probe?{query}")).await).await
    };
    let named = format!("leader={}", pod.holder());
    assert_eq!(probe(&named, pod.peers).await, "");
    pod.lead(1);
    let text = probe(&named, pod.peers).await;
    assert!(text.starts_with("HTTP/1.1 204 No Content\r\n"), "{text}");
    for query in ["", "leader=", "leader=other"] {
        assert_eq!(probe(query, pod.peers).await, "", "{query}");
    }
    // Clients are granted, whatever they ask for.
    let text = probe(&named, pod.clients).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}
