use serde_json::{Value, json};

use super::*;
use crate::testing::{defaults, owner, queue};

fn deployment_of(spec: Value) -> Deployment {
    deployment(&owner(), &queue(spec).spec, &defaults()).unwrap()
}

fn pod_of(spec: Value) -> PodSpec {
    deployment_of(spec).spec.unwrap().template.spec.unwrap()
}

fn env_of(spec: Value) -> BTreeMap<String, Option<String>> {
    let env = pod_of(spec).containers.remove(0).env.unwrap();
    env.into_iter().map(|e| (e.name, e.value)).collect()
}

#[test]
fn a_new_pod_is_ready_before_an_old_one_stops() {
    let spec = serde_json::to_value(deployment_of(json!({})).spec).unwrap();
    assert_eq!(spec["replicas"], 1);
    let rolling = json!({"maxSurge": 1, "maxUnavailable": 0});
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": rolling})
    );
}

#[test]
fn the_pods_prefer_separate_nodes_unless_the_spec_has_an_anti_affinity() {
    let deployment = deployment_of(json!({"replicas": 3}));
    assert_eq!(deployment.spec.as_ref().unwrap().replicas, Some(3));
    let affinity = |spec| serde_json::to_value(pod_of(spec).affinity).unwrap();
    let apart = json!({"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": owner().selector()},
        },
    }]});
    assert_eq!(affinity(json!({})), json!({"podAntiAffinity": apart}));
    let near = json!({"pod": {"affinity": {"nodeAffinity": {}}}});
    let both = json!({"nodeAffinity": {}, "podAntiAffinity": apart});
    assert_eq!(affinity(near), both);
    let asked = json!({"podAntiAffinity": {}});
    assert_eq!(affinity(json!({"pod": {"affinity": asked}})), asked);
}

#[test]
fn the_shutdown_grace_is_part_of_the_termination_grace_period() {
    for (pod, period, grace) in [
        (json!({}), 600, "595s"),
        (json!({"terminationGracePeriodSeconds": 30}), 30, "25s"),
        (json!({"terminationGracePeriodSeconds": 0}), 0, "0s"),
    ] {
        let spec = json!({ "pod": pod });
        let env = env_of(spec.clone());
        assert_eq!(env["SHUTDOWN_GRACE"].as_deref(), Some(grace));
        let reported = pod_of(spec).termination_grace_period_seconds;
        assert_eq!(reported, Some(period));
    }
}

#[test]
fn the_readiness_probe_uses_the_admin_port() {
    let container = pod_of(json!({})).containers.remove(0);
    let readiness = serde_json::to_value(container.readiness_probe).unwrap();
    assert_eq!(
        readiness["httpGet"],
        json!({"path": "/readyz", "port": "admin"})
    );
    let ports = serde_json::to_value(container.ports).unwrap();
    assert_eq!(
        ports[2],
        json!({"name": "peer", "containerPort": 9091, "protocol": "TCP"})
    );
}

#[test]
fn a_queue_listens_on_both_families_unless_its_spec_names_an_address() {
    assert!(!env_of(json!({})).contains_key("HOST"));
    let env = env_of(json!({"host": "0.0.0.0"}));
    assert_eq!(env["HOST"].as_deref(), Some("0.0.0.0"));
}

#[test]
fn the_spec_is_passed_as_environment_variables() {
    let env = env_of(json!({
        "host": "::", "port": 80, "interval": "5.5s", "margin": "1m", "sessionReserve": 10,
        "discordApi": "http://proxy/api/v10", "maxConcurrency": 4,
        "logLevel": "debug", "logFormat": "json",
    }));
    let expected = [
        ("HOST", "::"),
        ("PORT", "80"),
        ("ADMIN_PORT", "9090"),
        ("PEER_PORT", "9091"),
        ("IDENTIFY_INTERVAL", "5500ms"),
        ("IDENTIFY_MARGIN", "60s"),
        ("SESSION_RESERVE", "10"),
        ("DISCORD_API", "http://proxy/api/v10"),
        ("MAX_CONCURRENCY", "4"),
        ("LEASE_NAME", "my-bot"),
        ("LEASE_NAMESPACE", "shop"),
        ("RUST_LOG", "debug"),
        ("LOG_FORMAT", "json"),
    ];
    for (name, value) in expected {
        assert_eq!(env[name].as_deref(), Some(value), "{name}");
    }
    assert_eq!(env["POD_NAME"], None);
    assert_eq!(env["POD_IP"], None);
    let pod = pod_of(json!({}));
    let from = |name: &str| {
        let mut env = pod.containers[0].env.iter().flatten();
        let source = env.find(|e| e.name == name).unwrap().value_from.clone();
        source.unwrap().field_ref.unwrap().field_path
    };
    assert_eq!(from("POD_NAME"), "metadata.name");
    assert_eq!(from("POD_IP"), "status.podIP");
}

#[test]
fn absent_fields_set_no_variables() {
    let env = env_of(json!({}));
    for name in ["DISCORD_API", "MAX_CONCURRENCY", "DISCORD_TOKEN_FILE"] {
        assert!(!env.contains_key(name), "{name}");
    }
    assert_eq!(env["PORT"].as_deref(), Some("5000"));
    assert_eq!(env["IDENTIFY_INTERVAL"].as_deref(), Some("5s"));
    assert_eq!(env["IDENTIFY_MARGIN"].as_deref(), Some("250ms"));
}

#[test]
fn a_duration_is_rounded_up() {
    assert_eq!(span("interval", "5000.5ms").unwrap(), "5001ms");
    assert_eq!(span("margin", "0s").unwrap(), "0s");
    let error = span("margin", "soon").unwrap_err().to_string();
    assert!(error.contains("spec.margin is \"soon\""), "{error}");
}

#[test]
fn the_token_is_only_a_file() {
    let spec = json!({"tokenSecretRef": {"name": "discord", "key": "bot"}});
    let env = env_of(spec);
    assert_eq!(
        env["DISCORD_TOKEN_FILE"].as_deref(),
        Some("/var/run/secrets/gatewayqueue.dev/token")
    );
    assert!(!env.contains_key("DISCORD_TOKEN"));
}

#[test]
fn the_pod_passes_the_restricted_pod_security_standard() {
    let pod = pod_of(json!({}));
    assert_eq!(pod.automount_service_account_token, Some(false));
    let security = pod.security_context.unwrap();
    assert_eq!(security.run_as_non_root, Some(true));
    assert_eq!(security.run_as_user, None);
    assert_eq!(security.fs_group, None);
    assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let security = pod.containers[0].security_context.clone().unwrap();
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(
        security.capabilities.unwrap().drop,
        Some(vec!["ALL".to_owned()])
    );
}

#[test]
fn a_low_port_needs_no_privilege() {
    let sysctls = |port| {
        pod_of(json!({"port": port}))
            .security_context
            .unwrap()
            .sysctls
    };
    let low = sysctls(80).unwrap();
    assert_eq!(low[0].name, "net.ipv4.ip_unprivileged_port_start");
    assert_eq!(low[0].value, "0");
    assert_eq!(sysctls(5000), None);
}

#[test]
fn the_image_is_the_default_unless_the_spec_sets_one() {
    let mut installed = defaults();
    installed.image_pull_policy = Some(ImagePullPolicy::Never);
    let of = |spec| {
        let mut pod = deployment(&owner(), &queue(spec).spec, &installed).unwrap();
        let container = pod.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        let container = container.containers.remove(0);
        (container.image.unwrap(), container.image_pull_policy)
    };
    let never = Some("Never".to_owned());
    assert_eq!(of(json!({})), ("gateway-queue:1".to_owned(), never));
    // The default policy belongs to the default image.
    assert_eq!(of(json!({"image": "mine:2"})), ("mine:2".to_owned(), None));
    let spec = json!({"imagePullPolicy": "Always"});
    assert_eq!(of(spec).1.as_deref(), Some("Always"));
}

#[test]
fn the_default_pull_secrets_belong_to_the_default_image() {
    let mut installed = defaults();
    installed.image_pull_secrets = vec!["ours".to_owned()];
    let of = |spec| {
        let pod = deployment(&owner(), &queue(spec).spec, &installed).unwrap();
        let secrets = pod.spec.unwrap().template.spec.unwrap().image_pull_secrets;
        secrets.map(|secrets| secrets.into_iter().map(|s| s.name).collect::<Vec<_>>())
    };
    let one = |name: &str| Some(vec![name.to_owned()]);
    assert_eq!(of(json!({})), one("ours"));
    assert_eq!(of(json!({"image": "mine:2"})), None);
    let spec = json!({"imagePullSecrets": [{"name": "mine"}]});
    assert_eq!(of(spec), one("mine"));
}

#[test]
fn the_pod_settings_of_the_spec_are_applied() {
    let spec = json!({"imagePullSecrets": [{"name": "registry"}], "pod": {
        "labels": {"team": "bots", "app.kubernetes.io/instance": "other"},
        "annotations": {"note": "hello"},
        "resources": {"limits": {"cpu": 1}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "bots", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "high",
        "terminationGracePeriodSeconds": 5,
    }});
    let template = deployment_of(spec.clone()).spec.unwrap().template;
    let metadata = template.metadata.unwrap();
    let labels = metadata.labels.unwrap();
    assert_eq!(labels["team"], "bots");
    assert_eq!(labels["app.kubernetes.io/instance"], "my-bot");
    assert_eq!(metadata.annotations.unwrap()["note"], "hello");

    let pod = serde_json::to_value(pod_of(spec)).unwrap();
    assert_eq!(
        pod["containers"][0]["resources"],
        json!({"limits": {"cpu": "1"}})
    );
    assert_eq!(pod["nodeSelector"], json!({"disk": "ssd"}));
    assert_eq!(pod["tolerations"][0]["key"], "bots");
    assert_eq!(pod["affinity"]["nodeAffinity"], json!({}));
    assert_eq!(pod["topologySpreadConstraints"][0]["topologyKey"], "zone");
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(pod["terminationGracePeriodSeconds"], 5);
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
}

#[test]
fn empty_resources_are_the_default() {
    let of = |pod: serde_json::Value| {
        let spec = queue(json!({ "pod": pod })).spec;
        resources(&spec.pod.unwrap_or_default())
    };
    let default = of(json!({}));
    assert!(default.limits.is_some());
    for empty in [
        json!({}),
        json!({"limits": {}}),
        json!({"requests": {}, "limits": null}),
    ] {
        assert_eq!(of(json!({"resources": empty})), default);
    }
    let asked = of(json!({"resources": {"requests": {"cpu": "1"}}}));
    assert_eq!(asked.limits, None);
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
