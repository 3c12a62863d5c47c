//! Elects one of several operators as the leader of a scope. The others keep their caches filled
//! and are on standby. All operators of a scope use one Lease, whichever release they belong to.
//!
//! Each operator judges the holder by its own clock: the Lease has expired if it was not observed
//! to change for its duration. Two leaders at the same time, for example after a long stall, do
//! no harm: both apply the same GatewayQueues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_queue_telemetry::chain;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::MANAGER;
use crate::pause::doubled;
use crate::readiness::ScopeHealth;

use seen::{Seen, Step};

mod seen;

/// The Lease of operators that serve all namespaces. It is never that of a queue, because the name
/// of a GatewayQueue has no dot.
pub const LEASE: &str = "operator.gatewayqueue.dev";

/// The Lease of operators that serve single namespaces, in each of these. It has another name,
/// because the Lease for all namespaces may be in such a namespace.
pub const NAMESPACE_LEASE: &str = "namespace.operator.gatewayqueue.dev";

/// The duration of the Lease.
const LEASE_SECONDS: i32 = 15;

/// The time between two renewals, or two reads of another operator's Lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// A leader that has not renewed its Lease for this time stops, before another one starts.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// The pause while the API server is unreachable, however long that lasts, and after its first
/// rejection.
const RETRY: Duration = Duration::from_secs(2);

/// The first pause after another operator was faster.
const CONTENDED: Duration = Duration::from_millis(500);

/// The longest pause after rejections: each attempt is a load.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The time limit of an attempt. Two that hang end before another operator may acquire the Lease.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The Lease of an election, and the identity of this operator in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidacy {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub lease: &'static str,
    /// The identity of this operator: its namespace and pod.
    pub identity: String,
}

/// Where a candidate publishes its state.
pub struct Publish {
    /// Whether this operator is the leader.
    pub leads: watch::Sender<bool>,
    /// Whether this operator knows of a leader, itself or another.
    pub has_leader: Gauge,
    /// Whether the calls of the election succeed.
    pub health: Arc<ScopeHealth>,
}

/// Takes part in the election until `stop`, then releases the Lease if it holds it.
pub async fn run(client: Client, candidacy: Candidacy, publish: Publish, stop: CancellationToken) {
    let mut campaign = Campaign {
        leases: Api::namespaced(client, &candidacy.namespace),
        candidacy,
        publish,
        seen: Seen::default(),
        is_outdated: false,
        renewed: None,
        rejections: 0,
        reported: None,
    };
    loop {
        // Never aborted: the API server could execute the call after the release.
        let pause = campaign.attempt().await;
        let pause = pause.mul_f64(0.75 + 0.25 * fastrand::f64());
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            break;
        }
    }
    campaign.release().await;
}

struct Campaign {
    leases: Api<Lease>,
    candidacy: Candidacy,
    publish: Publish,
    seen: Seen,
    /// Whether another client has written the Lease since it was observed.
    is_outdated: bool,
    /// When the last successful renewal of this operator started.
    renewed: Option<Instant>,
    /// The consecutive 4xx responses.
    rejections: u32,
    /// The state that was logged last.
    reported: Option<Report>,
}

/// Why an attempt failed.
struct Failure {
    message: String,
    /// Whether the API server would reject the call again.
    is_rejection: bool,
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self {
            message: chain(&error),
            is_rejection: match &error {
                // A timeout, or an overloaded API server.
                kube::Error::Api(status) if [408, 429].contains(&status.code) => false,
                kube::Error::Api(status) => (400..500).contains(&status.code),
                _ => false,
            },
        }
    }
}

/// The state of a candidate, logged when it changes.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    Leader,
    Standby { holder: String },
    Failing,
}

impl Campaign {
    /// Reads or writes the Lease. Returns the pause until the next attempt.
    async fn attempt(&mut self) -> Duration {
        match with_timeout(self.call()).await {
            Ok(pause) => pause,
            Err(failure) => {
                self.failed(&failure.message);
                if failure.is_rejection {
                    self.rejected(RETRY)
                } else {
                    self.rejections = 0;
                    RETRY
                }
            }
        }
    }

    /// Counts a rejection. Returns the pause, which starts at `first` and doubles.
    fn rejected(&mut self, first: Duration) -> Duration {
        // A leader must renew before its deadline.
        let max = self.renewed.map_or(MAX_PAUSE, |_| RETRY);
        let pause = doubled(first, self.rejections, max);
        self.rejections = self.rejections.saturating_add(1);
        pause
    }

    async fn call(&mut self) -> Result<Duration, Failure> {
        let start = now();
        let identity = self.candidacy.identity.clone();
        // A leader knows the Lease that it wrote, unless another client has written since.
        let mut step = self.seen.step(&identity, start);
        if step != Step::Renew || self.is_outdated {
            let lease = self.leases.get_opt(self.candidacy.lease).await;
            self.seen.note(lease?, start);
            self.is_outdated = false;
            step = self.seen.step(&identity, start);
        }
        let creates = step == Step::Create;
        let written = match step {
            Step::Wait { holder, until } => {
                self.is_on_standby(holder);
                let pause = until.saturating_duration_since(now());
                return Ok(pause.clamp(CONTENDED, RENEW_INTERVAL));
            }
            Step::Create => {
                let lease = self.new_lease();
                self.leases.create(&PostParams::default(), &lease).await
            }
            Step::Acquire => self.write(true).await,
            Step::Renew => self.write(false).await,
        };
        match written {
            Ok(lease) => {
                self.seen.note(Some(lease), start);
                self.renewed = Some(start);
                self.is_leader();
                Ok(RENEW_INTERVAL)
            }
            // Another client wrote or deleted it since it was observed.
            Err(kube::Error::Api(status))
                if status.code == 409 || (status.code == 404 && !creates) =>
            {
                self.is_outdated = true;
                self.not_renewed();
                Ok(self.rejected(CONTENDED))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn new_lease(&self) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        Lease {
            metadata: ObjectMeta {
                name: Some(self.candidacy.lease.to_owned()),
                namespace: Some(self.candidacy.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.candidacy.identity.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                acquire_time: now.clone(),
                renew_time: now,
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Writes the Lease if it is still the observed version.
    async fn write(&self, acquire: bool) -> kube::Result<Lease> {
        let seen = self.seen.lease.as_ref();
        let version = seen.and_then(|lease| lease.metadata.resource_version.as_ref());
        let now = MicroTime(Timestamp::now());
        let mut spec = json!({
            "holderIdentity": self.candidacy.identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now,
        });
        if acquire {
            let spec_seen = seen.and_then(|lease| lease.spec.as_ref());
            let before = spec_seen.and_then(|spec| spec.lease_transitions);
            spec["acquireTime"] = json!(now);
            spec["leaseTransitions"] = json!(before.unwrap_or(0).max(0).saturating_add(1));
        }
        self.patch(&json!({"metadata": {"resourceVersion": version}, "spec": spec}))
            .await
    }

    async fn patch(&self, patch: &serde_json::Value) -> kube::Result<Lease> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.leases
            .patch(self.candidacy.lease, &params, &Patch::Merge(patch))
            .await
    }

    /// Releases the Lease, so that the next holder need not wait.
    async fn release(&self) {
        let Candidacy {
            namespace, lease, ..
        } = &self.candidacy;
        match with_timeout(self.try_release()).await {
            Ok(true) => tracing::info!(namespace, lease, "lease released"),
            Ok(false) => {}
            Err(Failure { message: error, .. }) => {
                tracing::warn!(namespace, lease, error, "cannot release the lease");
            }
        }
    }

    /// Returns whether this operator held the Lease. Reads it first, because a call that timed out
    /// may have been executed.
    async fn try_release(&self) -> Result<bool, Failure> {
        let Some(lease) = self.leases.get_opt(self.candidacy.lease).await? else {
            return Ok(false);
        };
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        if holder.as_ref() != Some(&self.candidacy.identity) {
            return Ok(false);
        }
        let patch = json!({
            "metadata": {"resourceVersion": lease.metadata.resource_version},
            "spec": {"holderIdentity": "", "renewTime": null, "acquireTime": null},
        });
        self.patch(&patch).await?;
        Ok(true)
    }

    fn succeeded(&mut self) {
        self.rejections = 0;
        self.publish.health.election_works();
    }

    fn is_leader(&mut self) {
        self.succeeded();
        self.publish
            .leads
            .send_if_modified(|leads| !std::mem::replace(leads, true));
        self.publish.has_leader.set(1);
        self.report(Report::Leader, None);
    }

    fn is_on_standby(&mut self, holder: String) {
        self.succeeded();
        self.is_not_leader();
        self.publish.has_leader.set(1);
        self.report(Report::Standby { holder }, None);
    }

    fn is_not_leader(&mut self) {
        if self.renewed.take().is_some() {
            self.rejections = 0;
        }
        self.publish
            .leads
            .send_if_modified(|leads| std::mem::replace(leads, false));
    }

    /// Stops a leader that cannot renew its Lease before the deadline.
    fn stop_if_late(&mut self) {
        let age = self.renewed.map(|at| now().saturating_duration_since(at));
        if age.is_none_or(|age| age + RETRY > RENEW_DEADLINE) {
            self.is_not_leader();
        }
    }

    /// Records a failed attempt. Whether another operator leads is unknown, too.
    fn not_renewed(&mut self) {
        self.publish.health.election_failed(now());
        self.stop_if_late();
        let leads = *self.publish.leads.borrow();
        self.publish.has_leader.set(leads.into());
    }

    fn failed(&mut self, error: &str) {
        self.not_renewed();
        self.report(Report::Failing, Some(error));
    }

    /// Logs the state if it is new.
    fn report(&mut self, report: Report, error: Option<&str>) {
        if self.reported.as_ref() == Some(&report) {
            return;
        }
        let Candidacy {
            namespace, lease, ..
        } = &self.candidacy;
        match &report {
            Report::Leader => tracing::info!(namespace, lease, "became the leader"),
            Report::Standby { holder } => {
                tracing::info!(namespace, lease, leader = holder, "on standby");
            }
            Report::Failing => {
                tracing::warn!(namespace, lease, error, "cannot read or renew the lease");
            }
        }
        self.reported = Some(report);
    }
}

async fn with_timeout<T>(response: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(TIMEOUT, response).await {
        Ok(result) => result,
        Err(_) => Err(Failure {
            message: format!("no answer within {} s", TIMEOUT.as_secs()),
            is_rejection: false,
        }),
    }
}

/// The time of tokio, which tests can advance.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
