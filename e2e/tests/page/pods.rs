//! Pods of a queue in this process, whose leadership state the test sets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue::admin::routes::{self, Admin};
use gateway_queue::clock::stall_detector::StallDetector;
use gateway_queue::discord::api::Discord;
use gateway_queue::discord::token_source::Current;
use gateway_queue::forwarding::router::Router;
use gateway_queue::metrics::Metrics;
use gateway_queue::queue::task::QueueTask;
use gateway_queue::serving::http::{self, Listener};
use gateway_queue_core::leadership::state::{Leader, LeadershipState};
use gateway_queue_core::leadership::term::ReceivedHandover;
use gateway_queue_core::lease_state::last_known::PublishedState;
use gateway_queue_core::pacing::budget::Rules;
use gateway_queue_core::pacing::scheduler::Config;
use gateway_queue_core::pacing::shard_history::ShardLimit;
use gateway_queue_core::queue::snapshot::{self, About};
use gateway_queue_core::time::Moment;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) struct Pod {
    name: &'static str,
    pub(crate) clients: SocketAddr,
    peers: SocketAddr,
    pub(crate) admin: SocketAddr,
    state: Arc<watch::Sender<LeadershipState>>,
}

impl Pod {
    /// Starts a pod with two buckets, without a token and a leader.
    pub(crate) async fn start(name: &'static str) -> Self {
        let spacing = Duration::from_secs(60);
        let config = Config {
            spacing,
            start_guard: false,
            reservation_ttl: Duration::from_secs(60),
            shard_limit: ShardLimit::NONE,
            max_concurrency: 2,
            rules: Rules {
                interval: spacing,
                reserve: 0,
                refresh: Duration::from_secs(300),
            },
        };
        let (state, watched) = watch::channel(LeadershipState::UNKNOWN);
        let state = Arc::new(state);
        let (_, tokens) = watch::channel(Current::None);
        let (lease_state, _) = watch::channel(PublishedState::new(name));
        let discord = Discord::new("http://127.0.0.1:1", None).unwrap();
        let metrics = Arc::new(Metrics::new(0));
        let counted = Arc::clone(&metrics);
        let (queue_task, handle) =
            QueueTask::new(config, 100, watched, tokens, discord, lease_state, counted).unwrap();
        tokio::spawn(queue_task.run());
        let about = About {
            pod: Some(snapshot::Pod {
                namespace: "bots".to_owned(),
                name: name.to_owned(),
            }),
            admin_port: 9090,
            spacing,
            reserve: 0,
            upstream: None,
        };
        let route = Router {
            handle,
            leadership: Arc::clone(&state),
            upstream: None,
            about: Arc::new(about),
            stall_detector: Arc::new(StallDetector::new(Duration::from_millis(250))),
            reach: Arc::default(),
            metrics,
        };
        let end = CancellationToken::new();
        let (clients, for_clients) = listen().await;
        let (peers, for_peers) = listen().await;
        let (admin, for_admin) = listen().await;
        let lease_read = CancellationToken::new();
        lease_read.cancel();
        let admin_port = Admin {
            route: route.clone(),
            lease_read,
        };
        tokio::spawn(routes::serve(for_admin, admin_port, end.clone()));
        for (listener, from) in [
            (for_clients, Listener::Clients),
            (for_peers, Listener::Peers),
        ] {
            let (leaving, end) = (CancellationToken::new(), end.clone());
            let serving = http::serve(listener, 100, from, route.clone(), leaving, end);
            tokio::spawn(serving);
        }
        Self {
            name,
            clients,
            peers,
            admin,
            state,
        }
    }

    /// Makes the pod the leader.
    pub(crate) fn lead(&self) {
        let mut state = LeadershipState::alone(ReceivedHandover::NONE);
        if let Some(term) = &mut state.term {
            term.holder = self.holder();
        }
        self.state.send_replace(state);
    }

    /// Lets the term expire.
    pub(crate) fn expire(&self) {
        self.state.send_modify(|state| {
            if let Some(term) = &mut state.term {
                term.until = Moment::ZERO;
            }
        });
    }

    pub(crate) fn follow(&self, leader: &Self) {
        self.state.send_replace(LeadershipState {
            leader: Some(Leader {
                holder: leader.holder(),
                address: leader.peers,
            }),
            ..LeadershipState::UNKNOWN
        });
    }

    /// Removes the leader.
    pub(crate) fn seek(&self) {
        self.state.send_replace(LeadershipState::UNKNOWN);
    }

    fn holder(&self) -> String {
        format!("{}_0123456789abcdef-1", self.name)
    }
}

async fn listen() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}
