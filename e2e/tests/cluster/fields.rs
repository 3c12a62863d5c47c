//! Every field of the spec: set, changed and removed, and what becomes of it in
//! the children. No pods are needed for that.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;
use crate::children::{Children, differences, settle};
use crate::kubectl::Namespace;

/// Some forty GatewayQueues are applied at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stands for a Secret of the GatewayQueue's own: no two may use one token.
const OWN: &str = "own";

/// One field: its values, one after the other, and what they look like in the
/// children, at one or more places.
struct Row {
    field: &'static str,
    values: [Value; 2],
    seen: Vec<(&'static str, [Value; 2])>,
    /// What else the spec has all the time.
    beside: Value,
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

fn rows() -> Vec<Row> {
    let text = |value: &str| json!(value);
    let mut rows = vec![
        same("host", "env HOST", text("::"), text("10.1.2.3")),
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
    let spread =
        |how: &str| json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": how}]);
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

impl Row {
    /// The name of its GatewayQueue.
    fn name(&self) -> String {
        format!("f-{}", self.field.replace('.', "-").to_lowercase())
    }

    /// The name of the one that never had the field.
    fn bare(&self) -> String {
        format!("bare-{}", self.field.replace('.', "-").to_lowercase())
    }

    /// The spec with the value of a step; without the field at the last.
    fn spec(&self, step: usize) -> Value {
        let mut spec = self.beside.clone();
        if let Some(value) = self.values.get(step) {
            let pointer = format!("/{}", self.field.replace('.', "/"));
            put(&mut spec, &pointer, value.clone());
        }
        spec
    }

    /// What is not seen yet.
    fn missing(&self, step: usize, children: &Children) -> Vec<String> {
        let complaint = |(place, shown): &(&'static str, [Value; 2])| {
            let found = see(children, &self.name(), place);
            let wanted = &shown[step];
            (found != *wanted).then(|| {
                let said = &self.values[step];
                format!(
                    "{} is {said}: {place} is {found}, and shall be {wanted}",
                    self.field
                )
            })
        };
        self.seen.iter().filter_map(complaint).collect()
    }
}

#[test]
fn every_field_of_the_spec_is_set_changed_and_removed() {
    let namespace = Namespace::new("fields");
    let api = Api::new(&namespace);
    let rows = rows();
    assert_eq!(
        rows.iter()
            .map(|row| row.field.to_owned())
            .collect::<BTreeSet<_>>(),
        fields_of_the_crd(&api),
        "the table shall have every field of the spec"
    );
    let apply = |name: &str, spec: &Value| {
        let mut spec = spec.clone();
        if spec["tokenSecretRef"]["name"] == OWN {
            spec["tokenSecretRef"]["name"] = name.into();
        }
        api.apply_queue(namespace.name(), name, &spec)
            .unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"))
    };
    for row in &rows {
        apply(&row.bare(), &row.beside);
    }
    for step in 0..2 {
        for row in &rows {
            apply(&row.name(), &row.spec(step));
        }
        settle(PATIENCE, || {
            let children = Children::of(&api, namespace.name());
            rows.iter()
                .flat_map(|row| row.missing(step, &children))
                .collect()
        });
    }
    for row in &rows {
        apply(&row.name(), &row.spec(2));
    }
    settle(PATIENCE, || {
        let children = Children::of(&api, namespace.name());
        let left = |row: &Row| {
            let (found, wanted) = (children.owned(&row.name()), children.owned(&row.bare()));
            // Without them a comparison would say nothing.
            if wanted.len() < 6 {
                return vec![format!("{} has only {:?}", row.bare(), wanted.keys())];
            }
            differences(row.field, &found, &wanted)
        };
        rows.iter().flat_map(left).collect()
    });
    // A value that looks like none would show nothing.
    let children = Children::of(&api, namespace.name());
    for row in &rows {
        let (place, shown) = &row.seen[0];
        let default = see(&children, &row.name(), place);
        assert_ne!(shown[0], default, "{} is its default", row.field);
    }
}

/// The fields of the spec, as the API server has them: those of its parts, where
/// a part has fields of our own.
fn fields_of_the_crd(api: &Api) -> BTreeSet<String> {
    let crd =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gatewayqueues.gatewayqueue.dev";
    let crd = api.read(crd).unwrap();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let mut fields = BTreeSet::new();
    walk("", crd.pointer(spec).unwrap(), &mut fields);
    assert!(fields.len() > 20, "{fields:?}");
    fields
}

fn walk(above: &str, schema: &Value, fields: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().unwrap() {
        let field = format!("{above}{name}");
        // What is inside of an affinity is Kubernetes' own.
        if below["properties"].is_object() && field != "pod.affinity" {
            walk(&format!("{field}."), below, fields);
        } else {
            fields.insert(field);
        }
    }
}

/// What is at a place: a part of a child, and where in it.
fn see(children: &Children, name: &str, place: &str) -> Value {
    let (part, within) = place.split_once(' ').unwrap();
    let template = "/spec/template";
    let container = "/spec/template/spec/containers/0";
    let at = |word, pointer: &str| {
        let child = children.get(word, name);
        let found = child.and_then(|child| child.pointer(pointer));
        found.cloned().unwrap_or(Value::Null)
    };
    match (part, within) {
        ("env", variable) => {
            let env = at("Deployment", &format!("{container}/env"));
            let mut env = env.as_array().into_iter().flatten();
            let found = env.find(|entry| entry["name"] == variable);
            found.map_or(Value::Null, |entry| entry["value"].clone())
        }
        ("pod", pointer) => at("Deployment", &format!("{template}{pointer}")),
        ("container", pointer) => at("Deployment", &format!("{container}{pointer}")),
        ("labels", "pod") => theirs(&at("Deployment", &format!("{template}/metadata/labels"))),
        ("annotations", "pod") => theirs(&at(
            "Deployment",
            &format!("{template}/metadata/annotations"),
        )),
        ("labels", "Service") => theirs(&at("Service", "/metadata/labels")),
        ("annotations", "Service") => theirs(&at("Service", "/metadata/annotations")),
        ("Service", pointer) => at("Service", pointer),
        ("Deployment", pointer) => at("Deployment", pointer),
        ("PodDisruptionBudget", pointer) => at("PodDisruptionBudget", pointer),
        ("NetworkPolicy", pointer) => at("NetworkPolicy", pointer),
        _ => panic!("where is {place}?"),
    }
}

/// Labels or annotations less the operator's own.
fn theirs(all: &Value) -> Value {
    let own =
        |key: &str| key.starts_with("app.kubernetes.io/") || key.starts_with("gatewayqueue.dev/");
    let all = all.as_object().into_iter().flatten();
    all.filter(|(key, _)| !own(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Writes a value where there may be nothing yet.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for step in pointer.trim_start_matches('/').split('/') {
        place = &mut place[step];
    }
    *place = value;
}
