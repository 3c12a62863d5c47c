//! Monitors the leader that this pod follows, and publishes whether it is reachable.
//!
//! Responses to forwarded requests show that it is. Without any, the leader is probed, so
//! that this pod is not ready before clients connect to it.

use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use gateway_queue_core::leadership::leader_health::{
    Config, Health, LeaderHealth, Renewal, Reports,
};
use gateway_queue_core::leadership::lease_object::{self, Failure};
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_telemetry::RateLimit;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::clock::boot_time;
use crate::forwarding::leader_client;
use crate::forwarding::reach::Reach;
use crate::metrics::Metrics;

/// Monitors the leader until this process ends.
pub async fn run(
    config: Config,
    mut leadership: watch::Receiver<LeadershipState>,
    mut renewals: watch::Receiver<Option<Renewal>>,
    reach: Arc<Reach>,
) {
    let mut health = LeaderHealth::new(config);
    let mut probing = None;
    loop {
        let now = boot_time::now();
        if health.follow(leadership.borrow_and_update().leader.as_ref(), now) {
            probing = None;
        }
        if let Some(renewal) = &*renewals.borrow_and_update() {
            health.renewed(renewal);
        }
        health.answered(reach.answered_at());
        publish(&reach, health.health(now));

        let probe = health.probe().filter(|_| probing.is_none());
        if let Some((leader, _)) = probe.filter(|(_, at)| *at <= now) {
            let leader = leader.clone();
            probing = Some(Box::pin(async move {
                (now, leader_client::probe(&leader, config.patience).await)
            }));
        }
        let due = probe.map(|(_, at)| at).filter(|at| *at > now);
        let wake_at = due.into_iter().chain(health.expires_at(now)).min();
        let woken = async {
            match wake_at {
                Some(at) => sleep(at.since(now)).await,
                None => pending().await,
            }
        };
        let probed = async {
            match &mut probing {
                Some(probe) => probe.await,
                None => pending().await,
            }
        };
        tokio::select! {
            (sent, answers) = probed => {
                probing = None;
                if answers {
                    health.answered(boot_time::now());
                } else {
                    health.failed(sent, boot_time::now());
                }
            }
            () = woken => {}
            () = reach.heard() => {}
            Ok(()) = renewals.changed() => {}
            changed = leadership.changed() => {
                if changed.is_err() {
                    // The process ends; a task must not exit before that.
                    return pending().await;
                }
            }
        }
    }
}

/// Keeps the report of `pod` on the Lease up to date until this process ends. `patch`
/// sends a merge patch to the Lease.
pub async fn report<F>(
    pod: String,
    mut renewals: watch::Receiver<Option<Renewal>>,
    reach: Arc<Reach>,
    metrics: Arc<Metrics>,
    patch: impl Fn(Value) -> F,
) where
    F: Future<Output = Result<(), Failure>>,
{
    let mut reports = Reports::default();
    let failures = RateLimit::per_minute();
    while renewals.changed().await.is_ok() {
        let Some(renewal) = renewals.borrow_and_update().clone() else {
            continue;
        };
        let health = reach.health();
        let Some(report) = reports.due(&renewal, &health, boot_time::now(), boot_time::wall())
        else {
            continue;
        };
        let written = patch(lease_object::report(
            &renewal.uid,
            &renewal.version,
            &pod,
            report.as_ref(),
        ))
        .await;
        metrics.lease_request("report", written.is_ok());
        match written {
            Ok(()) => reports.written(&renewal.holder, report.is_some()),
            // The Lease has changed. The report is due again when this pod has seen the
            // change: immediately if it was the report of another pod.
            Err(Failure::Conflict) => {}
            Err(error) => {
                if let Some(suppressed) = failures.allow(Instant::now()) {
                    warn!(
                        error = error.to_string(),
                        suppressed, "report on the leader failed"
                    );
                }
            }
        }
    }
    // The sender was dropped: the process ends.
    pending().await
}

fn publish(reach: &Reach, health: Health) {
    let before = reach.health();
    match (&before, &health) {
        (Health::Unreachable { .. }, Health::Unreachable { .. }) => {}
        (_, Health::Unreachable { leader, .. }) => warn!(
            holder = leader.holder,
            leader = %leader.address,
            detail = "this pod is not ready while the leader renews the Lease",
            "leader unreachable"
        ),
        (Health::Unreachable { leader, .. }, _) => info!(
            holder = leader.holder,
            leader = %leader.address,
            "leader reachable again or replaced"
        ),
        _ => {}
    }
    reach.publish(health);
}
