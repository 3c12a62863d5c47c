//! The task that takes part in the election. It executes the actions of the [`Candidate`],
//! and publishes its leadership state.

use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::candidate::{Action, Candidate, Event};
use gateway_queue_core::leadership::leader_health::Renewal;
use gateway_queue_core::leadership::lease_object::{Failure, LeaseObject};
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::lease_state::last_known::PublishedState;
use gateway_queue_core::time::Moment;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::changes::send_if_new;
use crate::clock::boot_time::{self, Alarm};
use crate::leadership::lease_client::{Lease, Watch};
use crate::leadership::log;
use crate::metrics::Metrics;
use crate::queue::handle::Handle;

/// How long the queue task may take to finish its grants.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections of the task.
#[derive(Debug)]
pub struct Connections {
    /// The client of the Lease.
    pub lease: Lease,
    /// The queue task.
    pub queue_task: Handle,
    /// What a leader publishes on the Lease.
    pub published: watch::Receiver<PublishedState>,
    /// The leadership state of this pod.
    pub leadership: Arc<watch::Sender<LeadershipState>>,
    /// The last renewal by another pod.
    pub renewals: watch::Sender<Option<Renewal>>,
    /// Cancelled once the Lease has been read.
    pub lease_read: CancellationToken,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The candidate resigns when this is cancelled.
    pub resign: CancellationToken,
    /// Cancelled when the candidate has nothing left to release.
    pub released: CancellationToken,
    /// Cancelled when this pod shuts down and its queue was deleted: see
    /// [`Candidate::is_gone`].
    pub deleted: CancellationToken,
}

/// A candidate and its connections.
#[derive(Debug)]
pub struct CandidateTask {
    candidate: Candidate,
    connections: Connections,
    watch: Option<Watch>,
    alarm: Alarm,
}

impl CandidateTask {
    /// Returns the task, not yet running.
    pub fn new(candidate: Candidate, connections: Connections) -> std::io::Result<Self> {
        Ok(Self {
            candidate,
            connections,
            watch: None,
            alarm: Alarm::new()?,
        })
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) -> std::io::Result<()> {
        loop {
            self.candidate
                .publish(&self.connections.published.borrow_and_update());
            let action = self.candidate.step(boot_time::now(), boot_time::wall());
            self.publish();
            match action {
                Action::Read => {
                    let lease = self.connections.lease.clone();
                    self.request(lease.read()).await;
                }
                Action::Patch(patch) => {
                    let lease = self.connections.lease.clone();
                    self.request(lease.patch(&patch)).await;
                }
                Action::Settle { lease, term } => {
                    let left = timeout(
                        SETTLE_TIMEOUT,
                        self.connections.queue_task.handover(&lease, term),
                    )
                    .await;
                    self.candidate
                        .settled(left.ok().flatten(), boot_time::now());
                }
                Action::Watch(version) => self.watch = Some(self.connections.lease.watch(&version)),
                Action::Unwatch => self.watch = None,
                Action::Wait(until) => self.wait(until).await?,
            }
        }
    }

    /// Awaits a request, and resigns meanwhile if necessary.
    async fn request(&mut self, request: impl Future<Output = Result<LeaseObject, Failure>>) {
        tokio::pin!(request);
        let answer = tokio::select! {
            answer = &mut request => answer,
            () = self.connections.resign.cancelled(), if !self.candidate.has_resigned() => {
                self.candidate.resign(boot_time::now());
                self.publish();
                request.await
            }
        };
        self.candidate.answered(answer, boot_time::now());
    }

    async fn wait(&mut self, until: Option<Moment>) -> std::io::Result<()> {
        self.alarm.set(until)?;
        let changed = async {
            match &mut self.watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        let leads = self.candidate.state().leads();
        tokio::select! {
            rang = self.alarm.ring() => rang?,
            change = changed => match change {
                Some(record) => self.candidate.noticed(record, boot_time::now()),
                None => {
                    self.watch = None;
                    self.candidate.watch_ended(boot_time::now());
                }
            },
            Ok(()) = self.connections.published.changed(), if leads => {}
            () = self.connections.resign.cancelled(), if !self.candidate.has_resigned() => {
                self.candidate.resign(boot_time::now());
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        for event in self.candidate.events() {
            self.handle(event);
        }
        let (candidate, connections) = (&self.candidate, &self.connections);
        send_if_new(&connections.leadership, candidate.state().clone());
        send_if_new(&connections.renewals, candidate.renewal().cloned());
        if self.candidate.has_left() {
            self.connections.released.cancel();
        }
        if self.candidate.is_gone() {
            self.connections.deleted.cancel();
        }
    }

    fn handle(&self, event: Event) {
        match &event {
            Event::Asked { request, succeeded } => {
                let operation = request.as_str();
                self.connections
                    .metrics
                    .lease_request(operation, *succeeded);
            }
            Event::Ready => self.connections.lease_read.cancel(),
            _ => {}
        }
        log::write(event);
    }
}
