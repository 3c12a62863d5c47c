//! What keeps a pod from running, in the words of the kubelet and the scheduler,
//! and what to do about it.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use kube::ResourceExt as _;

use super::sentence;

/// The longest last words of a crashed pod that are told, in characters.
const LAST_WORDS: usize = 300;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PodFailure {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The failure of the newest pod that has one: an older one may tell of a spec
/// that is no more. Pods that have failed for good come last: they stay until
/// somebody deletes them, and others took their places long ago. A pod that is on
/// its way out has no failure that matters.
pub(super) fn pod_failure(pods: &[Arc<Pod>]) -> Option<PodFailure> {
    let mut staying: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    staying.sort_by_key(|pod| {
        let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (has_failed(pod), Reverse(made), pod.name_any())
    });
    staying.into_iter().find_map(|pod| trouble_of(pod))
}

fn has_failed(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Failed")
}

fn trouble_of(pod: &Pod) -> Option<PodFailure> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    if has_failed(pod) {
        let why = status.message.as_deref().or(status.reason.as_deref());
        return Some(PodFailure {
            reason: "PodFailed",
            message: format!(
                "Pod {name} has failed: {}",
                why.unwrap_or("no reason is given")
            ),
        });
    }
    unschedulable(&name, status).or_else(|| {
        let containers = status.init_container_statuses.iter().flatten();
        let mut containers = containers.chain(status.container_statuses.iter().flatten());
        containers.find_map(|container| container_trouble(&name, container))
    })
}

fn unschedulable(name: &str, status: &PodStatus) -> Option<PodFailure> {
    let mut conditions = status.conditions.iter().flatten();
    let reported = conditions.find(|c| {
        c.type_ == "PodScheduled"
            && c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
    })?;
    let why = reported.message.as_deref().unwrap_or("no reason is given");
    Some(PodFailure {
        reason: "PodUnschedulable",
        message: format!(
            "No node takes pod {name}: {why}. Look at spec.pod: resources, nodeSelector, \
             tolerations, affinity"
        ),
    })
}

fn container_trouble(pod: &str, container: &ContainerStatus) -> Option<PodFailure> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref();
    let why = waiting
        .and_then(|waiting| waiting.message.as_deref())
        .unwrap_or("no reason is given");
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
            Some(PodFailure {
                reason: "ImagePullFailed",
                message: format!(
                    "The image {} of pod {pod} cannot be pulled: {why}. Look at spec.image, \
                     spec.imagePullPolicy and spec.imagePullSecrets, or at the operator's default \
                     image",
                    container.image
                ),
            })
        }
        Some("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            Some(PodFailure {
                reason: "PodFailed",
                message: sentence(&format!("pod {pod} cannot be started: {why}")),
            })
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

fn crashed(pod: &str, container: &ContainerStatus, last: &ContainerStateTerminated) -> PodFailure {
    let name = &container.name;
    let how = match last.reason.as_deref() {
        // The kernel's own word for it says more than its number.
        Some("OOMKilled") => "used more memory than pod.resources.limits allows".to_owned(),
        _ => format!("ended with exit code {}", last.exit_code),
    };
    let words = last_line(last.message.as_deref().unwrap_or_default());
    let words = match words.is_empty() {
        true => "it left no message".to_owned(),
        false => format!("its last words: {words}"),
    };
    PodFailure {
        reason: "PodCrashing",
        message: format!("Pod {pod} crashes: its container {name} {how}; {words}"),
    }
}

/// The last line that says something, cut to a readable length.
fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or_default().chars().take(LAST_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, status: Value) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": name}, "status": status});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"containerStatuses": [{
            "name": "queue", "image": "q:1", "imageID": "", "ready": false, "restartCount": 3,
            "state": state, "lastState": last,
        }]})
    }

    fn reported(status: Value) -> (&'static str, String) {
        let failure = pod_failure(&[pod("my-bot-1", status)]).unwrap();
        (failure.reason, failure.message)
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_named() {
        for reason in ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"] {
            let waiting = json!({"waiting": {"reason": reason, "message": "no such host"}});
            let (reason, message) = reported(container(waiting, json!({})));
            assert_eq!(reason, "ImagePullFailed");
            assert!(message.starts_with(
                "The image q:1 of pod my-bot-1 cannot be pulled: no such host. Look at spec.image,"
            ));
        }
    }

    #[test]
    fn a_pod_that_crashes_is_told_with_its_last_words() {
        let words = "starting\nPORT is \"x\": a port is accepted\n\n";
        let ended = json!({"terminated": {"exitCode": 2, "message": words}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let expected = (
            "PodCrashing",
            "Pod my-bot-1 crashes: its container queue ended with exit code 2; its last words: \
             PORT is \"x\": a port is accepted"
                .to_owned(),
        );
        assert_eq!(reported(container(waiting, ended.clone())), expected);
        // In the moment before it is started again.
        assert_eq!(reported(container(ended, json!({}))), expected);
    }

    #[test]
    fn too_little_memory_is_told_as_that() {
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let (_, message) = reported(container(killed, json!({})));
        assert!(message.contains("more memory than pod.resources.limits allows; it left no"));
    }

    #[test]
    fn a_pod_that_no_node_takes_says_why() {
        let conditions = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu.",
        }]});
        let (reason, message) = reported(conditions);
        assert_eq!(reason, "PodUnschedulable");
        assert!(message.contains("No node takes pod my-bot-1: 0/3 nodes are available"));
    }

    #[test]
    fn a_pod_that_failed_or_cannot_be_started_says_why() {
        let failed =
            json!({"phase": "Failed", "reason": "SysctlForbidden", "message": "forbidden"});
        let told_so = ("PodFailed", "Pod my-bot-1 has failed: forbidden".to_owned());
        assert_eq!(reported(failed), told_so);
        let waiting =
            json!({"waiting": {"reason": "CreateContainerConfigError", "message": "non-root"}});
        let (reason, message) = reported(container(waiting, json!({})));
        assert_eq!(reason, "PodFailed");
        assert_eq!(message, "Pod my-bot-1 cannot be started: non-root");
    }

    #[test]
    fn the_newest_pod_is_told_of_first_and_one_that_failed_for_good_last() {
        let waiting = |reason: &str| {
            container(
                json!({"waiting": {"reason": reason, "message": "no such host"}}),
                json!({}),
            )
        };
        let made = |mut pod: Arc<Pod>, day: u8| {
            let time = json!(format!("2026-11-{day:02}T12:00:00Z"));
            let metadata = &mut Arc::get_mut(&mut pod).unwrap().metadata;
            metadata.creation_timestamp = serde_json::from_value(time).unwrap();
            pod
        };
        let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
        let evicted = made(pod("my-bot-1", evicted), 23);
        let older = made(pod("my-bot-2", waiting("CreateContainerConfigError")), 16);
        let newest = made(pod("my-bot-3", waiting("ImagePullBackOff")), 22);
        let reason = |pods: &[Arc<Pod>]| pod_failure(pods).unwrap().message;
        let all = [evicted.clone(), older.clone(), newest];
        assert!(reason(&all).contains("pod my-bot-3"), "{}", reason(&all));
        let two = [evicted.clone(), older];
        assert!(reason(&two).contains("Pod my-bot-2"), "{}", reason(&two));
        assert!(reason(&[evicted]).contains("Pod my-bot-1 has failed"));
    }

    #[test]
    fn pods_that_start_run_or_end_are_no_trouble() {
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        let done = json!({"terminated": {"exitCode": 0}});
        for state in [creating, done, json!({"running": {}})] {
            assert_eq!(pod_failure(&[pod("p", container(state, json!({})))]), None);
        }
        let crashed = container(json!({"terminated": {"exitCode": 1}}), json!({}));
        let mut leaving = pod("p", crashed);
        let gone = serde_json::from_value(json!("2026-11-23T12:00:00Z")).unwrap();
        Arc::get_mut(&mut leaving)
            .unwrap()
            .metadata
            .deletion_timestamp = Some(gone);
        assert_eq!(pod_failure(&[leaving]), None);
        assert_eq!(pod_failure(&[]), None);
    }
}
