//! The condition `Progressing`: how many pods run the current spec and are ready, or what
//! prevents it.

use super::Inputs;
use super::condition_value::ConditionValue;
use super::pod_failure::pod_failure;
use super::text::{kubectl, period, sentence};
use crate::api::Reason;

/// The progress of a rollout.
pub(super) struct Progress {
    /// Whether all existing pods run the current spec, and one of them is ready: one is
    /// enough to grant.
    pub(super) can_grant: bool,
    /// The value of the condition.
    pub(super) value: ConditionValue,
}

/// Returns the progress of the rollout.
pub(super) fn progress(inputs: Inputs<'_>) -> Progress {
    let waiting = |message: &str| Progress {
        can_grant: false,
        value: ConditionValue::yes(Reason::RolloutInProgress, message),
    };
    let Some(deployment) = &inputs.observed.deployment else {
        return waiting("The Deployment is being created.");
    };
    let status = &deployment.status;
    let hash = deployment.applied_hash();
    // The cache may still have the Deployment of the previous spec, with all pods ready.
    if inputs.deployment_hash.is_some() && inputs.deployment_hash != hash.as_deref() {
        return waiting("Waiting for the watch of the new Deployment.");
    }
    if status.observed_generation < deployment.metadata.identity.generation {
        return waiting("Waiting for Kubernetes to process the new Deployment.");
    }
    let count = Count {
        desired: deployment.replicas,
        updated: status.updated_replicas.unwrap_or(0),
        all: status.replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
    };
    let reported = |type_: &str, state: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions
            .find(|c| c.type_ == type_ && c.status == state)
            .and_then(|c| c.message.as_deref())
    };
    let describe = kubectl("describe pod", inputs.owner);
    let value = if count.is_complete() {
        ConditionValue::no(Reason::Complete, count.complete())
    } else if let Some(message) = reported("ReplicaFailure", "True") {
        // Such as a quota, or a policy that does not admit the pod.
        let message = sentence(message) + count.quota(message);
        ConditionValue::no(Reason::PodRefused, message)
    } else if let Some((reason, message)) = pod_failure(&inputs.observed.pods) {
        ConditionValue::no(reason, message)
    } else if let Some(message) = reported("Progressing", "False") {
        let message = format!(
            "The pods do not become ready: {} Check {describe}.",
            period(message)
        );
        ConditionValue::no(Reason::NotReady, message)
    } else {
        let message = format!(
            "{} If this does not change, check {describe}.",
            count.incomplete()
        );
        ConditionValue::yes(Reason::RolloutInProgress, message)
    };
    Progress {
        can_grant: count.can_grant(),
        value,
    }
}

/// The numbers of pods.
struct Count {
    desired: i32,
    /// Of the current spec.
    updated: i32,
    all: i32,
    available: i32,
}

impl Count {
    fn can_grant(&self) -> bool {
        self.all == self.updated && self.available > 0
    }

    fn is_complete(&self) -> bool {
        self.can_grant() && self.updated == self.desired && self.available == self.desired
    }

    /// What to do if a quota rejects a pod of the new spec next to old ones.
    fn quota(&self, refusal: &str) -> &'static str {
        if self.all > self.updated && refusal.contains("exceeded quota") {
            " A rollout starts a new pod before it stops an old one: let the quota allow one pod \
             more than spec.replicas, or delete a pod of the old spec."
        } else {
            ""
        }
    }

    fn complete(&self) -> String {
        match self.desired {
            1 => "The pod runs the current spec and is ready.".to_owned(),
            all => format!("All {all} pods run the current spec and are ready."),
        }
    }

    fn incomplete(&self) -> String {
        let Self {
            desired,
            updated,
            all,
            available,
        } = self;
        let older = all.saturating_sub(*updated);
        match available {
            0 if *all == 0 => "The pods are being created.".to_owned(),
            0 => "No pod is ready yet.".to_owned(),
            _ if self.can_grant() => format!("{available} of {desired} pods are ready."),
            _ => format!(
                "{updated} of {desired} pods run the current spec, and {older} an older one. \
                 The queue grants in the meantime if it has a leader (see status.leader)."
            ),
        }
    }
}
