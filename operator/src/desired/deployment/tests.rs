use k8s_openapi::api::core::v1::PodSpec;

use super::*;
use crate::testing::{defaults, owner, queue};

/// The pods with these defaults, if the spec does not state others.
fn pod_with(defaults: &QueueDefaults, spec: Value) -> PodSpec {
    let deployment = deployment(&owner(), &queue(spec).spec, defaults).unwrap();
    let pod = deployment["spec"]["template"]["spec"].clone();
    serde_json::from_value(pod).unwrap()
}

fn pod_of(spec: Value) -> PodSpec {
    pod_with(&defaults(), spec)
}

/// The value of an environment variable of the queue.
fn variable(name: &str, spec: Value) -> Option<String> {
    let env = pod_of(spec).containers.remove(0).env.unwrap();
    let variable = env.into_iter().find(|variable| variable.name == name);
    variable?.value
}

#[test]
fn an_anti_affinity_of_the_spec_replaces_the_default() {
    let affinity = json!({"podAntiAffinity": {}});
    let pod = pod_of(json!({"pod": {"affinity": affinity}}));
    assert_eq!(serde_json::to_value(pod.affinity).unwrap(), affinity);
}

#[test]
fn a_short_termination_grace_period_leaves_no_shutdown_grace() {
    let spec = json!({"pod": {"terminationGracePeriodSeconds": 3}});
    assert_eq!(variable("SHUTDOWN_GRACE", spec).as_deref(), Some("0s"));
}

#[test]
fn a_fixed_max_concurrency_is_passed() {
    let spec = json!({"maxConcurrency": 4});
    assert_eq!(variable("MAX_CONCURRENCY", spec).as_deref(), Some("4"));
}

/// The image, its pull policy and the names of its pull Secrets.
fn image(defaults: &QueueDefaults, spec: Value) -> (String, Option<String>, Vec<String>) {
    let mut pod = pod_with(defaults, spec);
    let container = pod.containers.remove(0);
    let secrets = pod.image_pull_secrets.into_iter().flatten();
    let secrets = secrets.map(|secret| secret.name).collect();
    (
        container.image.unwrap(),
        container.image_pull_policy,
        secrets,
    )
}

#[test]
fn the_default_policy_and_pull_secrets_belong_to_the_default_image() {
    let mut installed = defaults();
    installed.image_pull_policy = Some(ImagePullPolicy::Never);
    installed.image_pull_secrets = vec!["ours".to_owned()];
    let secrets = json!([{"name": "mine"}]);
    for (spec, name, policy, secret) in [
        (json!({}), "gateway-queue:1", Some("Never"), Some("ours")),
        (json!({"image": "mine:2"}), "mine:2", None, None),
        (
            json!({"imagePullPolicy": "Always"}),
            "gateway-queue:1",
            Some("Always"),
            Some("ours"),
        ),
        (
            json!({"imagePullSecrets": secrets}),
            "gateway-queue:1",
            Some("Never"),
            Some("mine"),
        ),
    ] {
        let secrets = secret.into_iter().map(str::to_owned).collect();
        let expected = (name.to_owned(), policy.map(str::to_owned), secrets);
        assert_eq!(image(&installed, spec.clone()), expected, "{spec}");
    }
}

#[test]
fn empty_resources_are_the_default() {
    let of = |pod: Value| {
        pod_of(json!({ "pod": pod }))
            .containers
            .remove(0)
            .resources
            .unwrap()
    };
    let default = of(json!({}));
    for empty in [
        json!({}),
        json!({"limits": {}}),
        json!({"requests": {}, "limits": null}),
    ] {
        assert_eq!(of(json!({"resources": empty})), default);
    }
    let asked = of(json!({"resources": {"requests": {"cpu": "1"}}}));
    assert_eq!(asked.limits, None);
    let number = of(json!({"resources": {"limits": {"cpu": 1}}}));
    assert_eq!(number.limits.unwrap()["cpu"].0, "1");
}

#[test]
fn a_duration_is_rounded_up() {
    assert_eq!(span("interval", "5000.5ms").unwrap(), "5001ms");
    assert_eq!(span("margin", "0s").unwrap(), "0s");
    assert_eq!(span("margin", "1m").unwrap(), "60s");
    let error = span("margin", "soon").unwrap_err().to_string();
    assert!(error.contains("spec.margin is \"soon\""), "{error}");
}

#[test]
fn a_term_without_a_selector_selects_the_pods_of_the_queue() {
    let term = json!({"topologyKey": "zone"});
    let weighted = json!({"weight": 1, "podAffinityTerm": term});
    let both = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
        "preferredDuringSchedulingIgnoredDuringExecution": [weighted],
    });
    let spread = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let other = json!({"matchLabels": {"app": "other"}});
    let mut of_others = spread.clone();
    of_others["whenUnsatisfiable"] = json!("ScheduleAnyway");
    of_others["labelSelector"] = other.clone();
    let pod = pod_of(json!({"pod": {
        "affinity": {"podAffinity": both, "podAntiAffinity": both},
        "topologySpreadConstraints": [spread, of_others],
    }}));
    let own = json!({"matchLabels": owner().selector()});
    let affinity = serde_json::to_value(pod.affinity).unwrap();
    for side in ["podAffinity", "podAntiAffinity"] {
        let required = &affinity[side]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        let preferred = &affinity[side]["preferredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(required["labelSelector"], own, "{side}");
        assert_eq!(preferred["podAffinityTerm"]["labelSelector"], own, "{side}");
    }
    let spread = serde_json::to_value(pod.topology_spread_constraints).unwrap();
    let selectors = [&spread[0]["labelSelector"], &spread[1]["labelSelector"]];
    assert_eq!(selectors, [&own, &other]);
}
