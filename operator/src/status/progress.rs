//! How far the pods are: those of the newest spec, ready, or what keeps them
//! from it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::pod_failure::pod_failure;
use super::{State, Verdict, look, sentence};
use crate::desired::{APPLIED, Owner};

/// See the module.
pub(super) struct Progress {
    /// Whether all pods there are of the newest spec, and one of them is ready.
    /// One is enough to grant; the others come when they can.
    pub(super) can_grant: bool,
    /// Whether something is still under way.
    pub(super) verdict: Verdict,
}

impl Progress {
    fn under_way(can_grant: bool, message: impl Into<String>) -> Self {
        Self {
            can_grant,
            verdict: Verdict::holds("RolloutInProgress", message),
        }
    }

    fn stuck(can_grant: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            can_grant,
            verdict: Verdict::not(reason, message),
        }
    }
}

/// `mark` is what the Deployment carries when it was applied from the present
/// spec. A cache that lags behind still has the one before, all ready.
pub(super) fn progress(
    owner: &Owner,
    deployment: Option<&Deployment>,
    pods: &[Arc<Pod>],
    mark: Option<&str>,
) -> Progress {
    let Some(deployment) = deployment else {
        return Progress::under_way(false, "The Deployment is being made");
    };
    let blank = DeploymentStatus::default();
    let status = deployment.status.as_ref().unwrap_or(&blank);
    let carried = deployment.annotations().get(APPLIED);
    if mark.is_some() && mark != carried.map(String::as_str) {
        return Progress::under_way(false, "The new Deployment has not been seen yet");
    }
    if status.observed_generation < deployment.metadata.generation {
        return Progress::under_way(false, "The new Deployment has not been taken up yet");
    }
    let spec = deployment.spec.as_ref();
    let count = Count {
        wanted: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        updated: status.updated_replicas.unwrap_or(0),
        all: status.replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
    };
    let can_grant = count.can_grant();
    if count.is_complete() {
        return Progress {
            can_grant,
            verdict: Verdict::of(State::False, "Complete", count.complete()),
        };
    }
    let reported = |type_: &str, state: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions
            .find(|c| c.type_ == type_ && c.status == state)
            .and_then(|c| c.message.as_deref())
    };
    // Such as a quota, or a policy that does not admit the pod.
    if let Some(message) = reported("ReplicaFailure", "True") {
        let message = sentence(message) + count.quota(message);
        return Progress::stuck(can_grant, "PodRefused", message);
    }
    if let Some(failure) = pod_failure(pods) {
        return Progress::stuck(can_grant, failure.reason, failure.message);
    }
    let look = look("describe pod", owner);
    if let Some(message) = reported("Progressing", "False") {
        let message = format!("The pods do not become ready: {message}. See `{look}`");
        return Progress::stuck(can_grant, "NotReady", message);
    }
    let message = format!("{}. If it stays so, see `{look}`", count.incomplete());
    Progress::under_way(can_grant, message)
}

/// How many pods there are.
struct Count {
    wanted: i32,
    /// Of the newest spec.
    updated: i32,
    all: i32,
    available: i32,
}

impl Count {
    fn can_grant(&self) -> bool {
        self.all == self.updated && self.available > 0
    }

    fn is_complete(&self) -> bool {
        self.can_grant() && self.updated == self.wanted && self.available == self.wanted
    }

    /// What a quota has to allow that refuses a pod of the new spec beside old ones.
    fn quota(&self, refusal: &str) -> &'static str {
        if self.all > self.updated && refusal.contains("exceeded quota") {
            ". A rollout starts a new pod before it stops an old one, so that shards are granted \
             throughout: let the quota allow one pod more than spec.replicas, or delete a pod of \
             the old spec"
        } else {
            ""
        }
    }

    fn complete(&self) -> String {
        match self.wanted {
            1 => "The pod is of the newest spec, and ready".to_owned(),
            all => format!("All {all} pods are of the newest spec, and ready"),
        }
    }

    fn incomplete(&self) -> String {
        let Self {
            wanted,
            updated,
            all,
            available,
        } = self;
        let older = all.saturating_sub(*updated);
        match available {
            0 if *all == 0 => "The pods are being made".to_owned(),
            0 => "No pod is ready yet".to_owned(),
            _ if self.can_grant() => format!("{available} of {wanted} pods are ready"),
            _ => format!(
                "{updated} of {wanted} pods are of the newest spec, and {older} older. Shards are \
                 granted their turns meanwhile, if a pod leads (see status.leader)"
            ),
        }
    }
}
