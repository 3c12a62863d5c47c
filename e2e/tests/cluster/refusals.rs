//! What the API server says to a wrong spec: which field, and what is accepted.

use serde_json::{Map, Value, json};

use crate::api::{Api, QUEUE, queue};
use crate::kubectl::Namespace;

/// A wrong spec, and words of which each must be in the refusal.
type Row = (Value, &'static [&'static str]);

#[test]
fn a_wrong_spec_is_refused_with_what_is_accepted() {
    let namespace = Namespace::new("refusals");
    let api = Api::new(&namespace);
    let mut wrong = Vec::new();
    let rows = [numbers(), texts(), durations(), parts(), pods()].concat();
    for (spec, words) in &rows {
        let refused = api.create(QUEUE, namespace.name(), &queue("wrong", spec));
        let Err(refusal) = refused else {
            wrong.push(format!("{spec} is taken"));
            api.delete(QUEUE, namespace.name(), "wrong").unwrap();
            continue;
        };
        let message = &refusal.message;
        let missing: Vec<_> = words.iter().filter(|w| !message.contains(**w)).collect();
        if refusal.code != 422 || !missing.is_empty() {
            wrong.push(format!("{spec}: {missing:?} is not in {refusal:?}"));
        }
    }
    assert!(rows.len() > 60 && wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(api.list(QUEUE, namespace.name()), [] as [Value; 0]);
}

#[test]
fn a_wrong_name_is_refused_with_what_is_accepted() {
    let namespace = Namespace::new("names");
    let api = Api::new(&namespace);
    for name in ["1bot", "my.bot", &"n".repeat(64)] {
        let refused = api.create(QUEUE, namespace.name(), &queue(name, &json!({})));
        let refusal = refused.unwrap_err();
        let words = "at most 63 characters of a-z, 0-9 and '-', a letter first and no '-' last";
        assert!(refusal.message.contains(words), "{name}: {refusal:?}");
    }
}

/// kubectl says so before the API server drops it.
#[test]
fn a_field_that_does_not_exist_is_named() {
    let namespace = Namespace::new("unknown-fields");
    for (spec, field) in [
        (json!({"ports": 80}), "spec.ports"),
        (json!({"pod": {"env": []}}), "spec.pod.env"),
    ] {
        let refusal = namespace.apply_queue("wrong", &spec).unwrap_err();
        let words = format!(r#"unknown field "{field}""#);
        assert!(refusal.contains(&words), "{refusal}");
    }
}

fn numbers() -> Vec<Row> {
    vec![
        (
            json!({"port": 0}),
            &["spec.port", "greater than or equal to 1"],
        ),
        (json!({"port": -1}), &["spec.port", "from 1 to 65535"]),
        (
            json!({"port": 65536}),
            &["spec.port", "less than or equal to 65535"],
        ),
        (json!({"port": 9090}), &["spec.port", "not 9090 or 9091"]),
        (json!({"port": 9091}), &["spec.port", "not 9090 or 9091"]),
        (json!({"port": "80"}), &["spec.port", "integer"]),
        (json!({"port": 80.5}), &["spec.port", "integer"]),
        (json!({"replicas": -1}), &["spec.replicas", "from 0 to 10"]),
        (json!({"replicas": 11}), &["spec.replicas", "from 0 to 10"]),
        (
            json!({"maxConcurrency": 0}),
            &["spec.maxConcurrency", "greater than or equal to 1"],
        ),
        (
            json!({"maxConcurrency": 4097}),
            &["spec.maxConcurrency", "less than or equal to 4096"],
        ),
        (
            json!({"sessionReserve": -1}),
            &["spec.sessionReserve", "greater than or equal to 0"],
        ),
        (
            json!({"sessionReserve": 1_000_001}),
            &["spec.sessionReserve", "less than or equal to 1000000"],
        ),
        (
            json!({"replicas": 4_294_967_296_u64}),
            &["spec.replicas", "from 0 to 10"],
        ),
    ]
}

fn texts() -> Vec<Row> {
    const HOST: &[&str] = &[
        "spec.host",
        "an IP address that other pods can reach, such as 0.0.0.0",
    ];
    const API: &[&str] = &["spec.discordApi", "such as https://discord.com/api/v10"];
    vec![
        (json!({"host": "nowhere"}), HOST),
        (json!({"host": ""}), HOST),
        (json!({"host": "localhost"}), HOST),
        (json!({"host": "127.0.0.1"}), HOST),
        (json!({"host": "::1"}), HOST),
        (json!({"host": "0.0.0.0:80"}), HOST),
        (json!({"host": "256.0.0.1"}), HOST),
        (
            json!({"host": "x".repeat(46)}),
            &["spec.host", "may not be more than 45"],
        ),
        (json!({"discordApi": "discord.com/api/v10"}), API),
        (json!({"discordApi": "ftp://discord.com"}), API),
        (
            json!({"discordApi": "https://user:pass@discord.com/api"}),
            API,
        ),
        (json!({"discordApi": "https://discord.com/api?v=10"}), API),
        (json!({"discordApi": "https://discord.com/api#v10"}), API),
        (json!({"discordApi": "https://"}), API),
        (json!({"discordApi": ""}), API),
        (json!({"discordApi": "https://discord.com:0/api"}), API),
        (json!({"discordApi": "http://proxy:65536"}), API),
        (json!({"discordApi": "http://proxy:999999/"}), API),
        (json!({"image": ""}), &["spec.image", "at least 1 chars"]),
        (
            json!({"image": "a b"}),
            &["spec.image", "should match '^\\S+$'"],
        ),
        (
            json!({"image": "x".repeat(513)}),
            &["spec.image", "may not be more than 512"],
        ),
        (
            json!({"imagePullPolicy": "Sometimes"}),
            &[
                "spec.imagePullPolicy",
                r#""Always", "IfNotPresent", "Never""#,
            ],
        ),
        (
            json!({"logLevel": "loud"}),
            &[
                "spec.logLevel",
                r#""error", "warn", "info", "debug", "trace""#,
            ],
        ),
        (
            json!({"logFormat": "xml"}),
            &["spec.logFormat", r#""text", "json""#],
        ),
    ]
}

fn durations() -> Vec<Row> {
    const INTERVAL: &[&str] = &[
        "spec.interval",
        "from 5s (Discord's own interval) to 1h, such as 5s",
    ];
    const MARGIN: &[&str] = &["spec.margin", "from 0s to 60s, such as 250ms or 1s"];
    vec![
        (json!({"interval": "1s"}), INTERVAL),
        (json!({"interval": "4999ms"}), INTERVAL),
        (json!({"interval": "61m"}), INTERVAL),
        (json!({"interval": "1h1ms"}), INTERVAL),
        (json!({"interval": "soon"}), INTERVAL),
        (json!({"interval": "5"}), INTERVAL),
        (json!({"interval": ""}), INTERVAL),
        (json!({"interval": "-5s"}), INTERVAL),
        (json!({"interval": "1d"}), INTERVAL),
        (json!({"interval": 5}), &["spec.interval", "string"]),
        (json!({"margin": "61s"}), MARGIN),
        (json!({"margin": "1h"}), MARGIN),
        (json!({"margin": "-1ms"}), MARGIN),
        (json!({"margin": "0"}), MARGIN),
        (json!({"margin": "x"}), MARGIN),
    ]
}

fn parts() -> Vec<Row> {
    let long: Vec<_> = (0..17).map(|n| json!({"name": format!("s-{n}")})).collect();
    let many: Map<_, _> = (0..33).map(|n| (format!("a-{n}"), json!("x"))).collect();
    vec![
        (
            json!({"tokenSecretRef": {"name": "my-bot"}, "maxConcurrency": 2}),
            &["tokenSecretRef and maxConcurrency exclude each other"],
        ),
        (
            json!({"tokenSecretRef": {}}),
            &["spec.tokenSecretRef.name", "Required"],
        ),
        (
            json!({"tokenSecretRef": "my-bot"}),
            &["spec.tokenSecretRef", "object"],
        ),
        (
            json!({"tokenSecretRef": {"name": ""}}),
            &["spec.tokenSecretRef.name", "at least 1"],
        ),
        (
            json!({"tokenSecretRef": {"name": "My_Bot"}}),
            &["spec.tokenSecretRef.name", "a-z0-9"],
        ),
        (
            json!({"tokenSecretRef": {"name": "a..b"}}),
            &["spec.tokenSecretRef.name", "should match"],
        ),
        (
            json!({"tokenSecretRef": {"name": "a", "key": "a/b"}}),
            &["spec.tokenSecretRef.key", "a-zA-Z0-9"],
        ),
        (
            json!({"tokenSecretRef": {"name": "a", "key": ""}}),
            &["spec.tokenSecretRef.key", "at least 1"],
        ),
        (
            json!({"service": {"type": "ExternalName"}}),
            &[
                "spec.service.type",
                r#""ClusterIP", "NodePort", "LoadBalancer""#,
            ],
        ),
        (
            json!({"service": {"port": 0}}),
            &["spec.service.port", "greater than or equal to 1"],
        ),
        (
            json!({"service": {"port": 65536}}),
            &["spec.service.port", "65535"],
        ),
        (
            json!({"service": {"labels": {"gatewayqueue.dev/token-ref-hash": "a"}}}),
            &["spec.service.labels", "belong to the operator: remove them"],
        ),
        (
            json!({"service": {"annotations": {"a.gatewayqueue.dev/b": "c"}}}),
            &["spec.service.annotations", "belong to the operator"],
        ),
        (
            json!({"service": {"labels": {"app.kubernetes.io/instance": "a"}}}),
            &["spec.service.labels", "set by the operator itself"],
        ),
        (
            json!({"service": {"labels": {"a b": "c"}}}),
            &[
                "spec.service.labels",
                "a name such as team or example.com/team",
            ],
        ),
        (
            json!({"service": {"labels": {"a": 1}}}),
            &["spec.service.labels.a", "string"],
        ),
        (
            json!({"service": {"labels": {"a": "x".repeat(64)}}}),
            &["spec.service.labels.a", "may not be more than 63"],
        ),
        (
            json!({"service": {"labels": {"a": "-x"}}}),
            &["spec.service.labels.a", "should match"],
        ),
        (
            json!({"service": {"annotations": {"a": "x".repeat(4097)}}}),
            &["spec.service.annotations.a", "may not be more than 4096"],
        ),
        (
            json!({"service": {"annotations": many}}),
            &["spec.service.annotations", "at most 32 items"],
        ),
        (
            json!({"networkPolicy": {"from": []}}),
            &["networkPolicy.from has no effect while networkPolicy.enabled is false"],
        ),
        (
            json!({"imagePullSecrets": [{}]}),
            &["spec.imagePullSecrets[0].name", "Required"],
        ),
        (
            json!({"imagePullSecrets": [{"name": "A"}]}),
            &["spec.imagePullSecrets[0].name", "a-z0-9"],
        ),
        (
            json!({"imagePullSecrets": [{"name": "a.-b"}]}),
            &["spec.imagePullSecrets[0].name", "should match"],
        ),
        (
            json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}),
            &["spec.imagePullSecrets[1]", "Duplicate"],
        ),
        (
            json!({ "imagePullSecrets": long }),
            &["spec.imagePullSecrets", "at most 16 items"],
        ),
    ]
}

fn pods() -> Vec<Row> {
    let spread = |skew| json!({"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
    vec![
        (
            json!({"pod": {"topologySpreadConstraints": [spread(1), spread(2)]}}),
            &["spec.pod.topologySpreadConstraints[1]", "Duplicate"],
        ),
        (
            json!({"pod": {"labels": {"gatewayqueue.dev/token-ref-hash": "a"}}}),
            &["spec.pod.labels", "belong to the operator: remove them"],
        ),
        (
            json!({"pod": {"annotations": {"gatewayqueue.dev/": "a"}}}),
            &[
                "spec.pod.annotations",
                "belong to the operator: remove them",
            ],
        ),
        (
            json!({"pod": {"nodeSelector": {"a/b/c": "d"}}}),
            &[
                "spec.pod.nodeSelector",
                "a name such as team or example.com/team",
            ],
        ),
        (
            json!({"pod": {"labels": {"a": "b/c"}}}),
            &["spec.pod.labels.a", "should match"],
        ),
        (
            json!({"pod": {"nodeSelector": {"a": "b-"}}}),
            &["spec.pod.nodeSelector.a", "should match"],
        ),
        (
            json!({"pod": {"priorityClassName": "a..b"}}),
            &["spec.pod.priorityClassName", "should match"],
        ),
        (
            json!({"pod": {"terminationGracePeriodSeconds": -1}}),
            &[
                "spec.pod.terminationGracePeriodSeconds",
                "greater than or equal to 0",
            ],
        ),
        (
            json!({"pod": {"terminationGracePeriodSeconds": 86401}}),
            &[
                "spec.pod.terminationGracePeriodSeconds",
                "less than or equal to 86400",
            ],
        ),
        (
            json!({"pod": {"resources": {"requests": {"cpu": "much"}}}}),
            &["spec.pod.resources.requests.cpu", "should match"],
        ),
        (
            json!({"pod": {"nodeSelector": {"a": true}}}),
            &["spec.pod.nodeSelector.a", "string"],
        ),
        (
            json!({"pod": {"priorityClassName": "High"}}),
            &["spec.pod.priorityClassName", "a-z0-9"],
        ),
        (
            json!({"pod": {"tolerations": {}}}),
            &["spec.pod.tolerations", "array"],
        ),
        (
            json!({"pod": {"topologySpreadConstraints": [{"maxSkew": 1}]}}),
            &[
                "spec.pod.topologySpreadConstraints[0].topologyKey",
                "Required",
            ],
        ),
        (
            json!({"pod": {"affinity": []}}),
            &["spec.pod.affinity", "object"],
        ),
        (json!({"pod": "small"}), &["spec.pod", "object"]),
    ]
}
