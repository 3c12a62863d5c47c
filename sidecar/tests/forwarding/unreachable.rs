//! A leader that renews its Lease and does not answer this pod: clients are sent to other
//! pods, and when it answers again nothing is left of that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_queue::admin::routes::{self, Admin};
use gateway_queue::clock::boot_time;
use gateway_queue::forwarding::leader_monitor;
use gateway_queue_core::leadership::leader_health::{Config, Health, Renewal};
use gateway_queue_core::leadership::lease_object::Failure;
use gateway_queue_core::leadership::state::Leader;
use gateway_queue_core::lease_state::Unreachable;
use gateway_queue_core::queue::snapshot::{About, Pod as Name};
use jiff::Timestamp;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::pod::{DRAIN_AFTER, LONG, NEVER, Pod, answer, granted};

const HOLDER: &str = "my-bot-1_0badcafe-1";

/// As in production, and a hundred times as fast.
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
    renewals: watch::Sender<Option<Renewal>>,
}

impl Watched {
    async fn start() -> Self {
        let pod = Pod::start().await;
        let (renewals, seen) = watch::channel(None);
        let standing = pod.route.standing.subscribe();
        let reach = Arc::clone(&pod.route.reach);
        tokio::spawn(leader_monitor::run(CONFIG, standing, seen, reach));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Admin {
            about: Arc::new(About {
                pod: Some(Name {
                    namespace: "bots".to_owned(),
                    name: "my-bot-2".to_owned(),
                }),
                admin_port: address.port(),
                spacing: Duration::from_secs(5),
                reserve: 0,
            }),
            handle: pod.route.handle.clone(),
            reach: Arc::clone(&pod.route.reach),
            metrics: Arc::clone(&pod.route.metrics),
            ready: Arc::new(AtomicBool::new(true)),
        };
        tokio::spawn(routes::serve(listener, admin, CancellationToken::new()));
        Self {
            pod,
            admin: address,
            renewals,
        }
    }

    fn follow(&self, address: SocketAddr) {
        let holder = HOLDER.to_owned();
        self.pod.stand(None, Some(Leader { holder, address }));
    }

    /// The leader renews the Lease, again and again, until the guard is dropped.
    fn renewing(&self) -> Renewing {
        let renewals = self.renewals.clone();
        let leader = self.pod.route.standing.borrow().leader.clone();
        let holder = leader.unwrap().holder;
        Renewing(tokio::spawn(async move {
            loop {
                renewals.send_replace(Some(Renewal {
                    uid: "u".to_owned(),
                    version: "7".to_owned(),
                    holder: holder.clone(),
                    at: boot_time::now(),
                    duration: None,
                    report: None,
                }));
                sleep(CONFIG.renewed_within / 8).await;
            }
        }))
    }

    async fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(&mut stream).await
    }

    /// Waits until the admin port says so.
    async fn is_ready(&self, ready: bool) {
        let expected = if ready { " 200 " } else { " 503 " };
        let start = Instant::now();
        loop {
            let page = self.page("/readyz").await;
            if page.contains(expected) {
                return;
            }
            assert!(start.elapsed() < LONG, "{page}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// For as long as it takes to find a leader that does not answer, twice.
    async fn stays_ready(&self) {
        let start = Instant::now();
        while start.elapsed() < CONFIG.unreachable_after * 2 + CONFIG.patience * 4 {
            let page = self.page("/readyz").await;
            assert!(page.contains(" 200 "), "{page}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Watched {
    async fn reaches_the_leader(&self) {
        let mut health = self.pod.route.reach.subscribe();
        let reachable = health.wait_for(|health| *health == Health::Reachable);
        timeout(LONG, reachable).await.unwrap().unwrap();
    }

    /// For as long as many renewals take.
    async fn quiet(&self, written: &mut UnboundedReceiver<Value>) {
        let patch = timeout(CONFIG.unreachable_after * 2, written.recv()).await;
        assert!(patch.is_err(), "{patch:?}");
    }
}

struct Renewing(JoinHandle<()>);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A leader that answers probes while it is told to, and holds all else.
#[derive(Clone, Default)]
struct Answers(Arc<AtomicBool>);

impl Answers {
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::answer(stream, Arc::clone(&answers)));
            }
        });
        address
    }

    async fn answer(mut stream: TcpStream, answers: Arc<AtomicBool>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        if answers.load(Ordering::Relaxed) && head.starts_with(b"GET /probe?") {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
        // Until the pod hangs up.
        let _ = stream.read_buf(&mut head).await;
    }
}

/// Where no connection comes about, and none is refused: as where packets are dropped.
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
        // They fill the queue of those that nobody accepts.
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

#[tokio::test]
async fn a_pod_that_does_not_reach_a_living_leader_is_unready_until_it_does() {
    let follower = Watched::start().await;
    let leader = Answers::default();
    follower.follow(leader.start().await);
    let renewing = follower.renewing();
    follower.is_ready(false).await;
    let page = follower.page("/readyz").await;
    assert!(
        page.contains("the leader my-bot-1 renews its Lease"),
        "{page}"
    );
    let metrics = follower.page("/metrics").await;
    assert!(
        metrics.contains("gateway_queue_leader_reachable 0\n"),
        "{metrics}"
    );
    let state = follower.page("/state").await;
    assert!(
        state.contains(r#""last_error":"the leader renews its Lease"#),
        "{state}"
    );
    assert!(
        state.contains(r#""message":"The leader, my-bot-1, renews"#),
        "{state}"
    );

    // While nobody renews the Lease no pod is better than another.
    drop(renewing);
    follower.is_ready(true).await;
    follower.stays_ready().await;
    let _renewing = follower.renewing();
    follower.is_ready(false).await;

    leader.0.store(true, Ordering::Relaxed);
    follower.is_ready(true).await;
    follower.stays_ready().await;
    let metrics = follower.page("/metrics").await;
    assert!(
        metrics.contains("gateway_queue_leader_reachable 1\n"),
        "{metrics}"
    );
    let state = follower.page("/state").await;
    assert!(state.contains(r#""last_error":null"#), "{state}");
}

#[tokio::test]
async fn it_does_not_matter_how_the_network_keeps_the_leader_away() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = closed.local_addr().unwrap();
    drop(closed);
    // A proxy that accepts, and comes no further.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resets = proxy.local_addr().unwrap();
    tokio::spawn(async move { while proxy.accept().await.is_ok() {} });
    let black_hole = BlackHole::start();
    // Another pod has the address by now, or this leader has another name.
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

/// The follower reports on a Lease that the test has, and sees it with each renewal.
#[tokio::test]
async fn a_pod_reports_the_leader_once_and_withdraws_the_report_once() {
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
            // The first is not taken.
            let answer = match refuses.swap(false, Ordering::Relaxed) {
                true => Err(Failure::Other("it was busy".to_owned())),
                false => Ok(()),
            };
            std::future::ready(answer)
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
    follower.quiet(&mut written).await;

    // With nobody who renews the Lease nothing is written.
    drop(renewing);
    follower.is_ready(true).await;
    leader.0.store(true, Ordering::Relaxed);
    follower.reaches_the_leader().await;
    let report = Unreachable {
        leader: HOLDER.to_owned(),
        address: ([10, 0, 0, 1], 9091).into(),
        since: Timestamp::now(),
    };
    let renewal = |at| Renewal {
        uid: "u".to_owned(),
        version: "7".to_owned(),
        holder: HOLDER.to_owned(),
        at,
        duration: None,
        report: Some(report.write()),
    };
    let old = boot_time::now() - Duration::from_secs(2);
    follower.renewals.send_replace(Some(renewal(old)));
    follower.quiet(&mut written).await;
    follower
        .renewals
        .send_replace(Some(renewal(boot_time::now())));
    let patch = timeout(LONG, written.recv()).await.unwrap().unwrap();
    assert!(patch["metadata"]["annotations"][&key].is_null(), "{patch}");
    let _renewing = follower.renewing();
    follower.quiet(&mut written).await;
}

#[tokio::test]
async fn clients_of_a_pod_that_does_not_reach_the_leader_are_sent_away() {
    let follower = Watched::start().await;
    let leader = Answers::default();
    follower.follow(leader.start().await);
    let mut patient = follower.pod.ask("shard=1").await;
    // This client keeps its connection if the pod does.
    let mut limited = TcpStream::connect(follower.pod.clients).await.unwrap();
    let kept = b"GET /?shard=2&wait=3600 HTTP/1.1\r\nhost: q\r\n\r\n";
    limited.write_all(kept).await.unwrap();
    let quiet = timeout(DRAIN_AFTER * 3, patient.read(&mut [0])).await;
    assert!(quiet.is_err(), "nobody renews the Lease: it waits");

    let _renewing = follower.renewing();
    // Closed without an answer, which could be taken for a grant.
    assert_eq!(answer(&mut patient).await, "");
    let text = answer(&mut limited).await;
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(
        text.contains(r#"{"reason":"no_leader","position":null,"#),
        "{text}"
    );
    assert!(text.contains("retry-after: 1\r\n"), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
}

#[tokio::test]
async fn a_leader_that_answers_keeps_the_clients_of_other_pods() {
    let leader = Pod::spaced(NEVER).await;
    leader.lead(1);
    granted(&mut leader.ask("shard=0").await).await;
    let follower = Watched::start().await;
    follower.pod.follow(&leader);
    let _renewing = follower.renewing();
    let mut client = follower.pod.ask("shard=1").await;
    leader.wait_for(&[1]).await;
    follower.stays_ready().await;
    let quiet = timeout(Duration::from_millis(5), client.read(&mut [0])).await;
    assert!(quiet.is_err(), "it waits at the leader");
}

#[tokio::test]
async fn only_the_leader_that_is_named_answers_a_probe() {
    let pod = Pod::start().await;
    let probe = async |query: &str, to: SocketAddr| {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request =
            format!("GET /probe?{query} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(&mut stream).await
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
