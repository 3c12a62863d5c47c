//! A pod: the real candidate, its task, its Lease client and the queue task.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gateway_queue::clock::boot_time;
use gateway_queue::config::LeaseRef;
use gateway_queue::forwarding::leader_monitor;
use gateway_queue::forwarding::reach::Reach;
use gateway_queue::leadership::candidate_task::{CandidateTask, Connections};
use gateway_queue::leadership::lease_client::{ApiServer, Lease};
use gateway_queue::metrics::Metrics;
use gateway_queue_core::leadership::candidate::Candidate;
use gateway_queue_core::leadership::election;
use gateway_queue_core::leadership::leader_health::{Health, Renewal};
use gateway_queue_core::leadership::lease_object::Failure;
use gateway_queue_core::leadership::state::{Leader, LeadershipState};
use gateway_queue_core::lease_state::last_known::PublishedState;
use gateway_queue_core::lease_state::{HANDOVER, HandoverRecord};
use gateway_queue_testkit::api_server::FakeApiServer;
use gateway_queue_testkit::certificates::Authority;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::queue::Queue;

/// The shortest Lease duration that the settings allow.
pub(crate) const DURATION: Duration = Duration::from_secs(3);
const SPACING: Duration = Duration::from_millis(100);

/// A test that waits longer has failed, on a machine under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the Lease that the operator creates for a new GatewayQueue.
pub(crate) fn new_lease() -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "metadata": {
            "name": "my-bot",
            "annotations": {HANDOVER: HandoverRecord::NeverLed.write()},
        },
        "spec": {},
    })
}

/// The files that the kubelet mounts into a pod.
pub(crate) struct Mount {
    folder: TempDir,
    token: String,
}

impl Mount {
    pub(crate) fn new(token: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Self {
            folder,
            token: token.to_owned(),
        };
        mount.write("token", token);
        mount.write("ca.crt", Authority::new("unused").pem());
        mount
    }

    /// Replaces a file atomically, as the kubelet does.
    fn write(&self, name: &str, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.folder.path().join(name)).unwrap();
    }

    pub(crate) fn api_server(&self, server: &FakeApiServer) -> ApiServer {
        ApiServer {
            url: server.url(),
            ca: self.folder.path().join("ca.crt"),
            token: self.folder.path().join("token"),
        }
    }
}

pub(crate) struct Pod {
    name: &'static str,
    mount: Mount,
    state: watch::Receiver<LeadershipState>,
    resign: CancellationToken,
    left: CancellationToken,
    renewals: watch::Receiver<Option<Renewal>>,
    lease: Lease,
    task: Option<CandidateTask>,
    running: Vec<AbortOnDropHandle<()>>,
}

impl Pod {
    pub(crate) async fn start(server: &FakeApiServer, name: &'static str) -> Self {
        let mut pod = Self::prepare(server, name);
        pod.run();
        pod
    }

    /// Returns a pod that does not run yet. Its token is its name.
    pub(crate) fn prepare(server: &FakeApiServer, name: &'static str) -> Self {
        let mount = Mount::new(name);
        let lease = LeaseRef {
            namespace: "bots".to_owned(),
            name: "my-bot".to_owned(),
            pod: name.to_owned(),
            ip: [127, 0, 0, 1].into(),
            duration: DURATION,
            peer_port: 0,
            grace: PATIENCE,
        };
        let queue = Queue::start(name, SPACING, true);
        let state = queue.leadership.subscribe();
        let (resign, left) = (CancellationToken::new(), CancellationToken::new());
        let (renewals, seen) = watch::channel(None);
        let lease = Lease::new(&lease, mount.api_server(server)).unwrap();
        let connections = Connections {
            lease: lease.clone(),
            renewals,
            queue_task: queue.handle,
            published: queue.published,
            leadership: queue.leadership,
            lease_read: CancellationToken::new(),
            metrics: queue.metrics,
            resign: resign.clone(),
            released: left.clone(),
            deleted: CancellationToken::new(),
        };
        let config =
            election::Config::new(format!("{name}_{:x}", fastrand::u64(..)), DURATION, SPACING);
        // Each has its own address, by which the other knows it.
        let port = if name == "one" { 1 } else { 2 };
        let candidate = Candidate::new(
            config,
            ([127, 0, 0, 1], port).into(),
            PublishedState::new(name),
        );
        Self {
            name,
            mount,
            state,
            resign,
            left,
            renewals: seen,
            lease,
            task: Some(CandidateTask::new(candidate, connections).unwrap()),
            running: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self) {
        let task = self.task.take().expect("it runs once");
        let running = tokio::spawn(async move { drop(task.run().await) });
        self.running.push(AbortOnDropHandle::new(running));
    }

    pub(crate) fn token(&self) -> &str {
        &self.mount.token
    }

    pub(crate) fn renew_token(&mut self, token: &str) {
        self.mount.write("token", token);
        self.mount.token = token.to_owned();
    }

    pub(crate) fn trust(&self, pem: &str) {
        self.mount.write("ca.crt", pem);
    }

    pub(crate) fn resign(&self) {
        self.resign.cancel();
    }

    /// Reports from now on that this leader is unreachable, and counts the conflicts.
    pub(crate) fn report_unreachable(&mut self, leader: Leader, conflicts: Arc<AtomicU32>) {
        let reach = Arc::new(Reach::default());
        reach.publish(Health::Unreachable {
            leader,
            since: boot_time::now(),
            lives: true,
        });
        let (lease, renewals) = (self.lease.clone(), self.renewals.clone());
        let metrics = Arc::new(Metrics::new(0));
        let pod = self.name.to_owned();
        let patch = move |patch: Value| {
            let (lease, conflicts) = (lease.clone(), Arc::clone(&conflicts));
            async move {
                let written = lease.patch(&patch).await.map(drop);
                if written == Err(Failure::Conflict) {
                    conflicts.fetch_add(1, Ordering::Relaxed);
                }
                written
            }
        };
        let reporting = leader_monitor::report(pod, renewals, reach, metrics, patch);
        self.running
            .push(AbortOnDropHandle::new(tokio::spawn(reporting)));
    }

    /// Whether it may grant now.
    pub(crate) fn may_grant(&self) -> bool {
        may_grant(&self.state.borrow())
    }

    pub(crate) async fn until_it_leads(&self) {
        self.until("leads", may_grant).await;
    }

    pub(crate) async fn until_it_may_not_grant(&self) {
        self.until("may not grant", |state| !may_grant(state)).await;
    }

    pub(crate) async fn until_it_follows(&self, other: &Self) {
        let pod = other.name;
        self.until("follows", |state| follows(state, pod)).await;
    }

    pub(crate) async fn until_it_follows_holder(&self, holder: &str) {
        self.until("follows", |state| {
            let leader = state.leader.as_ref();
            leader.is_some_and(|leader| leader.holder == holder)
        })
        .await;
    }

    pub(crate) async fn until_it_has_left(&self) {
        timeout(PATIENCE, self.left.cancelled())
            .await
            .expect("it has left");
    }

    /// Waits until the condition holds. It polls, because a right to grant expires silently.
    async fn until(&self, what: &str, condition: impl Fn(&LeadershipState) -> bool) {
        let state = || format!("{} {what}: not {:?}", self.name, *self.state.borrow());
        until(|| condition(&self.state.borrow()), state).await;
    }
}

async fn until(condition: impl Fn() -> bool, instead: impl Fn() -> String) {
    let satisfied = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, satisfied).await.is_err() {
        panic!("{}", instead());
    }
}

fn follows(state: &LeadershipState, pod: &str) -> bool {
    let leader = state.leader.as_ref();
    !state.leads() && leader.is_some_and(|leader| leader.pod() == Some(pod))
}

pub(crate) async fn until_one_leads_and_the_other_follows([one, two]: [&Pod; 2]) {
    let led_by = |leader: &Pod, other: &Pod| {
        leader.may_grant() && follows(&other.state.borrow(), leader.name)
    };
    let states = || {
        let states = [one, two].map(|pod| pod.state.borrow().clone());
        format!("one leads and the other follows: not {states:?}")
    };
    until(|| led_by(one, two) || led_by(two, one), states).await;
}

fn may_grant(state: &LeadershipState) -> bool {
    let until = state.term.as_ref().map(|term| term.until);
    until.is_some_and(|until| boot_time::now() < until)
}

/// Checks continuously that no two pods may grant.
pub(crate) struct Judge(AbortOnDropHandle<()>);

impl Judge {
    pub(crate) fn of(pods: [&Pod; 2]) -> Self {
        let pods = pods.map(|pod| pod.state.clone());
        Self(AbortOnDropHandle::new(tokio::spawn(async move {
            while pods.iter().filter(|pod| may_grant(&pod.borrow())).count() < 2 {
                sleep(Duration::from_millis(2)).await;
            }
        })))
    }

    pub(crate) fn found_one_leader(self) {
        assert!(!self.0.is_finished(), "two may grant");
    }
}
