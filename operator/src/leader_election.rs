//! Which of several operators is the leader of a scope. The others keep their caches
//! full and are on standby. All operators of one scope use one Lease, whichever release
//! they are of.
//!
//! A holder is judged by the operator's own clock: it has lost the Lease when that was
//! not seen to change for as long as it is held. Two that lead at once, as after a long
//! stall, do no harm: both apply what the GatewayQueues say.

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
use crate::readiness::ScopeHealth;

use seen::{Seen, Step};

mod seen;

/// The name of the Lease of operators that serve all namespaces. No GatewayQueue has a
/// name with a dot, so that it is never the Lease of a queue.
pub const LEASE: &str = "operator.gatewayqueue.dev";

/// The name of the Lease of operators that are limited to namespaces, in each of these.
/// Another one, because the Lease of all namespaces may be in such a namespace.
pub const NAMESPACE_LEASE: &str = "namespace.operator.gatewayqueue.dev";

/// Seconds for which the Lease is held when it is not renewed.
const HELD_SECONDS: i32 = 15;

/// Between two renewals, and two looks at the Lease of another.
const RENEW: Duration = Duration::from_secs(5);

/// A leader that has not renewed its Lease for so long stops, before another begins.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Between attempts when the API server does not answer: however long it was away,
/// operators are back within seconds of its return. Also after its first refusal.
const RETRY: Duration = Duration::from_secs(2);

/// After another operator was faster, for the first time.
const CONTENDED: Duration = Duration::from_millis(500);

/// No pause is longer, however often the API server has refused: each attempt costs it
/// something.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How long an attempt may take: two that hang end before another operator may take
/// the Lease.
const CALL: Duration = Duration::from_secs(3);

/// Where operators agree on the leader, and as whom this one takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidacy {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub lease: &'static str,
    /// Who this operator is: its namespace and its pod.
    pub identity: String,
}

/// Where a candidate publishes its state.
pub struct Publish {
    /// Whether this operator is the leader.
    pub leads: watch::Sender<bool>,
    /// Whether this operator or another one is the leader, as far as it knows.
    pub has_leader: Gauge,
    /// Whether the calls of the election succeed.
    pub health: Arc<ScopeHealth>,
}

/// Takes part in the election until `stop`. Releases the Lease in the end, if it holds it.
pub async fn run(client: Client, candidacy: Candidacy, publish: Publish, stop: CancellationToken) {
    let mut campaign = Campaign {
        leases: Api::namespaced(client, &candidacy.namespace),
        candidacy,
        publish,
        seen: Seen::default(),
        is_outdated: false,
        renewed: None,
        refusals: 0,
        reported: None,
    };
    loop {
        // Never cut short: the API server may do what was asked after the Lease is released.
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
    /// Another has written the Lease since it was seen.
    is_outdated: bool,
    /// When this operator last renewed the Lease: the start of the call.
    renewed: Option<Instant>,
    /// The 4xx answers in a row.
    refusals: u32,
    /// What was logged last.
    reported: Option<Report>,
}

/// Why an attempt failed.
struct Failure {
    message: String,
    /// By an answer that stays the same until somebody changes something.
    is_refusal: bool,
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self {
            message: chain(&error),
            is_refusal: match &error {
                // A timeout, and an API server that is busy.
                kube::Error::Api(status) if [408, 429].contains(&status.code) => false,
                kube::Error::Api(status) => (400..500).contains(&status.code),
                _ => false,
            },
        }
    }
}

/// What there is to log, when it is not what was logged last.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    Leader,
    Standby { holder: String },
    Failing,
}

impl Campaign {
    /// Looks at the Lease, or renews it. Returns the pause until the next attempt.
    async fn attempt(&mut self) -> Duration {
        match in_time(self.call()).await {
            Ok(pause) => pause,
            Err(failure) => {
                self.failed(&failure.message);
                if failure.is_refusal {
                    self.refused(RETRY)
                } else {
                    self.refusals = 0;
                    RETRY
                }
            }
        }
    }

    /// Counts a refusal. Returns the pause, which is `first` and doubles with each.
    fn refused(&mut self, first: Duration) -> Duration {
        let doublings = self.refusals.min(16);
        self.refusals = self.refusals.saturating_add(1);
        let pause = first.saturating_mul(1 << doublings);
        // A leader has only until its deadline.
        let max = self.renewed.map_or(MAX_PAUSE, |_| RETRY);
        pause.min(max)
    }

    async fn call(&mut self) -> Result<Duration, Failure> {
        let start = now();
        let identity = self.candidacy.identity.clone();
        // What this operator wrote itself is known, unless another has written since.
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
                self.stands_by(holder);
                let pause = until.saturating_duration_since(now());
                return Ok(pause.clamp(CONTENDED, RENEW));
            }
            Step::Create => {
                let lease = self.new_lease();
                self.leases.create(&PostParams::default(), &lease).await
            }
            Step::Take => self.write(true).await,
            Step::Renew => self.write(false).await,
        };
        match written {
            Ok(lease) => {
                self.seen.note(Some(lease), start);
                self.renewed = Some(start);
                self.is_leader();
                Ok(RENEW)
            }
            // Another wrote or deleted it since it was seen.
            Err(kube::Error::Api(status))
                if status.code == 409 || (status.code == 404 && !creates) =>
            {
                self.is_outdated = true;
                self.not_renewed();
                Ok(self.refused(CONTENDED))
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
                lease_duration_seconds: Some(HELD_SECONDS),
                acquire_time: now.clone(),
                renew_time: now,
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Writes the Lease as it was seen, so that nobody else's write is lost.
    async fn write(&self, take: bool) -> kube::Result<Lease> {
        let seen = self.seen.lease.as_ref();
        let version = seen.and_then(|lease| lease.metadata.resource_version.as_ref());
        let now = MicroTime(Timestamp::now());
        let mut spec = json!({
            "holderIdentity": self.candidacy.identity,
            "leaseDurationSeconds": HELD_SECONDS,
            "renewTime": now,
        });
        if take {
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

    /// Gives the Lease up, so that the next holder need not wait.
    async fn release(&self) {
        let Candidacy {
            namespace, lease, ..
        } = &self.candidacy;
        match in_time(self.give_up()).await {
            Ok(true) => tracing::info!(namespace, lease, "lease released"),
            Ok(false) => {}
            Err(Failure { message: error, .. }) => {
                tracing::warn!(namespace, lease, error, "cannot release the lease");
            }
        }
    }

    /// Returns whether this operator held the Lease. It is read first: a write that was
    /// interrupted may have been done.
    async fn give_up(&self) -> Result<bool, Failure> {
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
        self.refusals = 0;
        self.publish.health.election_works();
    }

    fn is_leader(&mut self) {
        self.succeeded();
        self.publish
            .leads
            .send_if_modified(|leads| !std::mem::replace(leads, true));
        self.publish.has_leader.set(1);
        let Candidacy {
            namespace, lease, ..
        } = self.candidacy.clone();
        self.report(Report::Leader, || {
            tracing::info!(namespace, lease, "became the leader");
        });
    }

    fn stands_by(&mut self, holder: String) {
        self.succeeded();
        self.leads_no_more();
        self.publish.has_leader.set(1);
        let leader = holder.clone();
        let Candidacy {
            namespace, lease, ..
        } = self.candidacy.clone();
        self.report(Report::Standby { holder }, || {
            tracing::info!(namespace, lease, leader, "on standby");
        });
    }

    fn leads_no_more(&mut self) {
        if self.renewed.take().is_some() {
            self.refusals = 0;
        }
        self.publish
            .leads
            .send_if_modified(|leads| std::mem::replace(leads, false));
    }

    /// A leader that may not renew the Lease in time any more stops.
    fn stop_if_late(&mut self) {
        let age = self.renewed.map(|at| now().saturating_duration_since(at));
        if age.is_none_or(|age| age + RETRY > RENEW_DEADLINE) {
            self.leads_no_more();
        }
    }

    /// Of another leader nothing is known either.
    fn not_renewed(&mut self) {
        self.publish.health.election_failed(now());
        self.stop_if_late();
        let leads = *self.publish.leads.borrow();
        self.publish.has_leader.set(leads.into());
    }

    fn failed(&mut self, error: &str) {
        self.not_renewed();
        let Candidacy {
            namespace, lease, ..
        } = self.candidacy.clone();
        self.report(Report::Failing, || {
            tracing::warn!(
                namespace,
                lease,
                error,
                "cannot renew or read the lease; retrying"
            );
        });
    }

    fn report(&mut self, report: Report, log: impl FnOnce()) {
        if self.reported.as_ref() != Some(&report) {
            log();
            self.reported = Some(report);
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL, answer).await {
        Ok(result) => result,
        Err(_) => Err(Failure {
            message: format!("no answer within {} s", CALL.as_secs()),
            is_refusal: false,
        }),
    }
}

/// The time, which tests may make go faster.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
