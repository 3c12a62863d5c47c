//! The table of the fields: what each is set to, and where that is seen.

use serde_json::{Value, json};

/// Stands for a Secret of the GatewayQueue's own: no two may use one token.
pub(super) const OWN: &str = "own";

/// One field: its values, one after the other, and what they look like in the
/// children, at one or more places.
pub(super) struct Row {
    pub(super) field: &'static str,
    pub(super) values: [Value; 2],
    pub(super) seen: Vec<(&'static str, [Value; 2])>,
    /// What else the spec has all the time.
    pub(super) beside: Value,
}

/// A field that is seen as it is said.
fn same(field: &'static str, place: &'static str, first: Value, second: Value) -> Row {
    told(
        field,
        [first.clone(), second.clone()],
        &[(place, first, second)],
    )
}

fn told(field: &'static str, values: [Value; 2], seen: &[(&'static str, Value, Value)]) -> Row {
    let seen = seen.iter().cloned();
    Row {
        field,
        values,
        seen: seen.map(|(place, a, b)| (place, [a, b])).collect(),
        beside: json!({"replicas": 0}),
    }
}

pub(super) fn rows() -> Vec<Row> {
    let text = |value: &str| json!(value);
    let mut rows = vec![
        same("host", "env HOST", text("0.0.0.0"), text("10.1.2.3")),
        told(
            "port",
            [json!(6000), json!(80)],
            &[
                ("env PORT", text("6000"), text("80")),
                ("container /ports/0/containerPort", json!(6000), json!(80)),
                (
                    "pod /spec/securityContext/sysctls",
                    Value::Null,
                    json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]),
                ),
            ],
        ),
        told(
            "tokenSecretRef.name",
            [text("one"), text("two")],
            &[
                (
                    "pod /spec/volumes/1/secret/secretName",
                    text("one"),
                    text("two"),
                ),
                (
                    "env DISCORD_TOKEN_FILE",
                    text("/var/run/secrets/gatewayqueue.dev/token"),
                    text("/var/run/secrets/gatewayqueue.dev/token"),
                ),
            ],
        ),
        same(
            "tokenSecretRef.key",
            "pod /spec/volumes/1/secret/items/0/key",
            text("bot"),
            text("bot.token"),
        ),
        told(
            "replicas",
            [json!(2), json!(0)],
            &[
                ("Deployment /spec/replicas", json!(2), json!(0)),
                (
                    "PodDisruptionBudget /spec/maxUnavailable",
                    json!(1),
                    Value::Null,
                ),
            ],
        ),
        told(
            "maxConcurrency",
            [json!(7), json!(4096)],
            &[("env MAX_CONCURRENCY", text("7"), text("4096"))],
        ),
        told(
            "interval",
            [text("5500ms"), text("1m")],
            &[("env IDENTIFY_INTERVAL", text("5500ms"), text("60s"))],
        ),
        same("margin", "env IDENTIFY_MARGIN", text("1s"), text("0s")),
        told(
            "sessionReserve",
            [json!(50), json!(1_000_000)],
            &[("env SESSION_RESERVE", text("50"), text("1000000"))],
        ),
        same(
            "discordApi",
            "env DISCORD_API",
            text("http://proxy:8080/api/v10"),
            text("https://proxy.example/v10"),
        ),
        same(
            "service.type",
            "Service /spec/type",
            text("NodePort"),
            text("LoadBalancer"),
        ),
        same(
            "service.port",
            "Service /spec/ports/0/port",
            json!(8080),
            json!(65535),
        ),
        same(
            "service.annotations",
            "annotations Service",
            json!({"a": "1"}),
            json!({"b": "2", "c": "true"}),
        ),
        same(
            "service.labels",
            "labels Service",
            json!({"team": "bots"}),
            json!({"crew": "2"}),
        ),
        told(
            "networkPolicy.enabled",
            [json!(true), json!(false)],
            &[(
                "NetworkPolicy /spec/policyTypes",
                json!(["Ingress"]),
                Value::Null,
            )],
        ),
        same(
            "networkPolicy.from",
            "NetworkPolicy /spec/ingress/0/from",
            json!([{"podSelector": {"matchLabels": {"app": "bot"}}}]),
            json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"namespaceSelector": {}}]),
        ),
        same(
            "image",
            "container /image",
            text("a:1"),
            text("b.example/c@sha256:0d"),
        ),
        same(
            "imagePullPolicy",
            "container /imagePullPolicy",
            text("Never"),
            text("Always"),
        ),
        same(
            "imagePullSecrets",
            "pod /spec/imagePullSecrets",
            json!([{"name": "one"}]),
            json!([{"name": "two"}, {"name": "three"}]),
        ),
        same("logLevel", "env RUST_LOG", text("trace"), text("error")),
        same("logFormat", "env LOG_FORMAT", text("json"), text("text")),
    ];
    rows.extend(pod_rows());
    for row in &mut rows {
        match row.field {
            "tokenSecretRef.key" => row.beside["tokenSecretRef"] = json!({ "name": OWN }),
            "networkPolicy.from" => row.beside["networkPolicy"] = json!({"enabled": true}),
            // Pods that no node takes, so that nothing has to be started.
            "replicas" => row.beside = json!({"pod": {"nodeSelector": {"nowhere": "true"}}}),
            _ => {}
        }
    }
    rows
}

fn pod_rows() -> Vec<Row> {
    // Without a selector the operator would fill in its own.
    let spread = |how: &str| {
        json!([{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": how,
            "labelSelector": {"matchLabels": {"app": "theirs"}},
        }])
    };
    let near = |zone: &str| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [
                {"key": "zone", "operator": "In", "values": [zone]},
            ]}],
        }}})
    };
    let affinity = |zone: &str| near(zone)["nodeAffinity"].clone();
    vec![
        same(
            "pod.labels",
            "labels pod",
            json!({"team": "a"}),
            json!({"crew": "b"}),
        ),
        same(
            "pod.annotations",
            "annotations pod",
            json!({"a": "1"}),
            json!({"b": "2"}),
        ),
        told(
            "pod.resources.requests",
            [json!({"cpu": "1000m"}), json!({"memory": "8Mi"})],
            &[(
                "container /resources/requests",
                // As the API server writes it.
                json!({"cpu": "1"}),
                json!({"memory": "8Mi"}),
            )],
        ),
        same(
            "pod.resources.limits",
            "container /resources/limits",
            json!({"cpu": "2"}),
            json!({"memory": "64Mi"}),
        ),
        same(
            "pod.nodeSelector",
            "pod /spec/nodeSelector",
            json!({"disk": "ssd"}),
            json!({"zone": "b"}),
        ),
        same(
            "pod.tolerations",
            "pod /spec/tolerations",
            json!([{"key": "a", "operator": "Exists"}]),
            json!([{"key": "b", "operator": "Equal", "value": "c", "effect": "NoSchedule"}]),
        ),
        told(
            "pod.affinity",
            [near("a"), near("b")],
            &[(
                "pod /spec/affinity/nodeAffinity",
                affinity("a"),
                affinity("b"),
            )],
        ),
        same(
            "pod.topologySpreadConstraints",
            "pod /spec/topologySpreadConstraints",
            spread("ScheduleAnyway"),
            spread("DoNotSchedule"),
        ),
        same(
            "pod.priorityClassName",
            "pod /spec/priorityClassName",
            json!("high"),
            json!("low"),
        ),
        told(
            "pod.terminationGracePeriodSeconds",
            [json!(65), json!(0)],
            &[
                (
                    "pod /spec/terminationGracePeriodSeconds",
                    json!(65),
                    json!(0),
                ),
                ("env SHUTDOWN_GRACE", json!("60s"), json!("0s")),
            ],
        ),
    ]
}
