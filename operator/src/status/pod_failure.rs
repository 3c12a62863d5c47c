//! What prevents a pod from running, as the kubelet and the scheduler report it, and what to
//! do about it.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodStatus};
use kube::ResourceExt as _;

use super::text::period;
use crate::api::Reason;
use crate::observe::pod::ObservedPod;

/// The length of the quoted last line of a crashed container.
const MAX_LINE_CHARS: usize = 300;

const NO_REASON: &str = "no reason given";

/// Returns reason and message for the newest pod that has failed: an older one may be of a
/// previous spec. Pods in phase Failed come last: they stay until they are deleted, long after
/// others have replaced them. Terminating pods do not count.
pub(super) fn pod_failure(pods: &[Arc<ObservedPod>]) -> Option<(Reason, String)> {
    let mut staying: Vec<&Arc<ObservedPod>> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    staying.sort_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (has_failed(pod), Reverse(created), pod.name_any())
    });
    staying.into_iter().find_map(|pod| failure_of(pod))
}

fn has_failed(pod: &ObservedPod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Failed")
}

fn failure_of(pod: &ObservedPod) -> Option<(Reason, String)> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    if has_failed(pod) {
        let cause = status.message.as_deref().or(status.reason.as_deref());
        let cause = period(cause.unwrap_or(NO_REASON));
        return Some((Reason::PodFailed, format!("Pod {name} failed: {cause}")));
    }
    unschedulable(&name, status).or_else(|| {
        let containers = status.init_container_statuses.iter().flatten();
        let mut containers = containers.chain(status.container_statuses.iter().flatten());
        containers.find_map(|container| container_failure(&name, container))
    })
}

fn unschedulable(name: &str, status: &PodStatus) -> Option<(Reason, String)> {
    let mut conditions = status.conditions.iter().flatten();
    let reported = conditions.find(|c| {
        c.type_ == "PodScheduled"
            && c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = format!(
        "No node accepts pod {name}: {} Check resources, nodeSelector, tolerations and affinity in \
         spec.pod.",
        period(reported.message.as_deref().unwrap_or(NO_REASON))
    );
    Some((Reason::PodUnschedulable, message))
}

fn container_failure(pod: &str, container: &ContainerStatus) -> Option<(Reason, String)> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref();
    let cause = waiting.and_then(|waiting| waiting.message.as_deref());
    let cause = period(cause.unwrap_or(NO_REASON));
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
            let message = format!(
                "The image {} of pod {pod} cannot be pulled: {cause} Check spec.image, \
                 spec.imagePullPolicy and spec.imagePullSecrets, or the operator's default image.",
                container.image
            );
            Some((Reason::ImagePullFailed, message))
        }
        Some("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            let message = format!("Pod {pod} cannot be started: {cause}");
            Some((Reason::PodFailed, message))
        }
        Some("CrashLoopBackOff") => {
            let last = container.last_state.as_ref()?.terminated.as_ref()?;
            Some(crashed(pod, container, last))
        }
        _ => {
            let ended = state.terminated.as_ref().filter(|t| t.exit_code != 0)?;
            Some(crashed(pod, container, ended))
        }
    }
}

fn crashed(
    pod: &str,
    container: &ContainerStatus,
    last: &ContainerStateTerminated,
) -> (Reason, String) {
    let cause = match last.reason.as_deref() {
        // It says more than the exit code.
        Some("OOMKilled") => "used more memory than pod.resources.limits allows".to_owned(),
        _ => format!("failed with exit code {}", last.exit_code),
    };
    let line = last_line(last.message.as_deref().unwrap_or_default());
    let output = match line.is_empty() {
        true => "It has no output.".to_owned(),
        false => format!("Its last line of output: {}", period(&line)),
    };
    let name = &container.name;
    let message = format!("Pod {pod} crashes: container {name} {cause}. {output}");
    (Reason::PodCrashing, message)
}

/// The last line that is not empty, cut to [`MAX_LINE_CHARS`].
fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or_default()
        .chars()
        .take(MAX_LINE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, status: Value) -> Arc<ObservedPod> {
        let pod = json!({"metadata": {"name": name}, "status": status});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"containerStatuses": [{
            "name": "queue", "image": "q:1", "imageID": "", "ready": false, "restartCount": 3,
            "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn each_failure_is_reported_with_its_cause() {
        let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        let failing = |state| container(state, json!({}));
        let pull =
            "The image q:1 of pod my-bot-1 cannot be pulled: no such host. Check spec.image,";
        let output = "starting\nPORT is \"x\": a port is accepted\n\n";
        let ended = json!({"terminated": {"exitCode": 2, "message": output}});
        let crash = "Pod my-bot-1 crashes: container queue failed with exit code 2. Its last line \
                     of output: PORT is \"x\": a port is accepted.";
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let memory = "Pod my-bot-1 crashes: container queue used more memory than \
                      pod.resources.limits allows. It has no output.";
        let unschedulable = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu.",
        }]});
        let nodes = "No node accepts pod my-bot-1: 0/3 nodes are available";
        let failed =
            json!({"phase": "Failed", "reason": "SysctlForbidden", "message": "forbidden"});
        for (status, expected, text) in [
            (
                failing(waiting("ErrImagePull", "no such host")),
                "ImagePullFailed",
                pull,
            ),
            (
                failing(waiting("ImagePullBackOff", "no such host")),
                "ImagePullFailed",
                pull,
            ),
            (
                failing(waiting("InvalidImageName", "no such host")),
                "ImagePullFailed",
                pull,
            ),
            (
                container(waiting("CrashLoopBackOff", "back-off"), ended.clone()),
                "PodCrashing",
                crash,
            ),
            // Before it is restarted.
            (failing(ended), "PodCrashing", crash),
            (failing(killed), "PodCrashing", memory),
            (unschedulable, "PodUnschedulable", nodes),
            (failed, "PodFailed", "Pod my-bot-1 failed: forbidden."),
            (
                failing(waiting("CreateContainerConfigError", "non-root")),
                "PodFailed",
                "Pod my-bot-1 cannot be started: non-root.",
            ),
        ] {
            let (reason, message) = pod_failure(&[pod("my-bot-1", status)]).unwrap();
            assert_eq!(reason.as_str(), expected);
            assert!(message.starts_with(text), "{message}");
        }
    }

    #[test]
    fn the_newest_failing_pod_is_reported_and_one_in_phase_failed_last() {
        let waiting = |reason: &str| {
            container(
                json!({"waiting": {"reason": reason, "message": "no such host"}}),
                json!({}),
            )
        };
        let created = |mut pod: Arc<ObservedPod>, day: u8| {
            let time = json!(format!("2026-11-{day:02}T12:00:00Z"));
            let metadata = &mut Arc::get_mut(&mut pod).unwrap().metadata;
            metadata.creation_timestamp = serde_json::from_value(time).unwrap();
            pod
        };
        let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
        let evicted = created(pod("my-bot-1", evicted), 23);
        let older = created(pod("my-bot-2", waiting("CreateContainerConfigError")), 16);
        let newest = created(pod("my-bot-3", waiting("ImagePullBackOff")), 22);
        let message = |pods: &[Arc<ObservedPod>]| pod_failure(pods).unwrap().1;
        let all = [evicted.clone(), older.clone(), newest];
        assert!(message(&all).contains("pod my-bot-3"), "{}", message(&all));
        let two = [evicted.clone(), older];
        assert!(message(&two).contains("Pod my-bot-2"), "{}", message(&two));
        assert!(message(&[evicted]).contains("Pod my-bot-1 failed"));
    }

    #[test]
    fn pods_that_start_run_or_terminate_are_not_reported() {
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        let done = json!({"terminated": {"exitCode": 0}});
        for state in [creating, done, json!({"running": {}})] {
            assert_eq!(pod_failure(&[pod("p", container(state, json!({})))]), None);
        }
        let crashed = container(json!({"terminated": {"exitCode": 1}}), json!({}));
        let mut leaving = pod("p", crashed);
        let now = serde_json::from_value(json!("2026-11-23T12:00:00Z")).unwrap();
        Arc::get_mut(&mut leaving)
            .unwrap()
            .metadata
            .deletion_timestamp = Some(now);
        assert_eq!(pod_failure(&[leaving]), None);
        assert_eq!(pod_failure(&[]), None);
    }
}
