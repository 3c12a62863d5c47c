use kube::core::cel::Validator;
use serde_json::{Value, json};

use super::*;

fn schema() -> Value {
    let crd = serde_json::to_value(crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// The errors of the schema's rules for a GatewayQueue of this name and spec.
fn rejections(name: &str, spec: Value) -> Vec<String> {
    let object = json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1",
        "kind": "GatewayQueue",
        "metadata": {"name": name},
        "spec": spec,
    });
    match Validator::new().validate(&schema(), &object, None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn expect_rejected(spec: &Value, message: &str) {
    let rejections = rejections("my-bot", spec.clone());
    assert!(
        rejections
            .iter()
            .any(|rejection| rejection.contains(message)),
        "{spec} should be rejected with {message:?}, not {rejections:?}"
    );
}

fn expect_accepted(spec: &Value) {
    assert_eq!(rejections("my-bot", spec.clone()), [""; 0], "{spec}");
}

/// `e2e/tests/cluster/tables/refusals.json` has more cases, also of rules without CEL.
#[test]
fn every_invalid_value_is_rejected_with_what_is_accepted() {
    let address = "an IP address that other pods can reach, such as 0.0.0.0 or ::, not a name or a \
                   loopback address";
    let url = "an http or https URL without credentials, query or fragment, such as \
               https://discord.com/api/v10; its port, if any, must be from 1 to 65535";
    let interval = "a duration from 5s (Discord's own interval) to 1h, such as 5s, 5500ms or 1m";
    let hosts = json!(["nowhere", "", "10.0.0.0/8", "127.0.0.1", "::1"]);
    let intervals = json!(["1s", "4999ms", "5", "-5s", "2h", "61m", "soon"]);
    let urls = json!([
        "discord.com",
        "ftp://discord.com",
        "https://me:pw@host/",
        "https://host/?a=b",
        "https://host:0/api",
        "http://host:65536",
        "http://host:99999999999999999999/",
    ]);
    for (field, accepted, values) in [
        ("host", address, hosts),
        ("port", "from 1 to 65535", json!([0, 65536, -1])),
        (
            "port",
            "from 1 to 65535, and not 9090 or 9091",
            json!([9090, 9091]),
        ),
        ("replicas", "from 0 to 10", json!([-1, 11])),
        ("interval", interval, intervals),
        (
            "margin",
            "a duration from 0s to 60s",
            json!(["61s", "-1s", ""]),
        ),
        ("discordApi", url, urls),
    ] {
        for value in values.as_array().unwrap() {
            let message = format!("{field} must be {accepted}");
            expect_rejected(&json!({ field: value }), &message);
        }
    }
}

#[test]
fn reserved_and_invalid_keys_are_rejected_in_all_labels_and_annotations() {
    let reserved = "under gatewayqueue.dev/ are reserved for the operator";
    let own = "set by the operator: remove them";
    let notation = "must be a name such as team or example.com/team";
    let (labels, both) = (&["labels"][..], &["labels", "annotations"][..]);
    let own_domain = [
        "gatewayqueue.dev/token-ref-hash",
        "gatewayqueue.dev/",
        "a.b.gatewayqueue.dev/c",
    ];
    let own_labels =
        ["name", "instance", "component", "managed-by"].map(|n| format!("app.kubernetes.io/{n}"));
    let rejected = |message| move |spec: &Value| expect_rejected(spec, message);
    for_each_key(both, &own_domain, rejected(reserved));
    for_each_key(labels, &own_labels, rejected(own));
    for_each_key(both, &["a b", "", "a/b/c", "-a"], rejected(notation));
    for_each_key(labels, &["Example.com/a"], rejected(notation));
    let longest = format!("{}/{}", "a".repeat(63), "b".repeat(63));
    let accepted = [
        "team",
        "my-gatewayqueue.dev/a",
        "gatewayqueue.dev",
        "gatewayqueue.dev.example.com/a",
        "app.kubernetes.io/part-of",
        "example.com/A.b_c-d",
        longest.as_str(),
    ];
    for_each_key(both, &accepted, expect_accepted);
}

/// Checks specs with each of the keys in each of the fields of a Service and of a pod.
fn for_each_key(fields: &[&str], keys: &[impl AsRef<str>], check: impl Fn(&Value)) {
    for part in ["service", "pod", "inheritedMetadata"] {
        for field in fields {
            for key in keys {
                check(&json!({ part: {*field: {key.as_ref(): "a"}} }));
            }
        }
    }
}

#[test]
fn a_name_that_no_service_can_have_is_rejected() {
    for name in ["a".repeat(58).as_str(), "1bot", "my.bot", "bot-"] {
        let rejections = rejections(name, json!({}));
        assert!(
            rejections
                .iter()
                .any(|r| r.contains("the name of a Service")),
            "{name} {rejections:?}"
        );
    }
    assert_eq!(rejections(&"a".repeat(57), json!({})), Vec::<String>::new());
}

#[test]
fn every_valid_spec_is_accepted() {
    for spec in [
        json!({}),
        json!({"host": "0.0.0.0"}),
        json!({"host": "::"}),
        json!({"port": 80, "interval": "5.5s", "margin": "0s"}),
        json!({"port": 65535, "interval": "60m", "margin": "60s"}),
        json!({"interval": "1m30s"}),
        json!({"replicas": 0}),
        json!({"replicas": 10}),
        json!({"maxConcurrency": 16}),
        json!({"tokenSecretRef": {"name": "my-bot"}}),
        json!({"discordApi": "http://fake-discord.default.svc:8080/api/v10"}),
        json!({"discordApi": "https://discord.com"}),
        json!({"discordApi": "http://[2001:db8::1]:65535/api"}),
        json!({"discordApi": "http://proxy:1"}),
        json!({"networkPolicy": {"enabled": true, "from": []}}),
        json!({"service": {"port": 9091}}),
        json!({"service": {"port": 9090, "type": "NodePort"}}),
        json!({"service": {"port": 9090, "type": "LoadBalancer"}}),
    ] {
        expect_accepted(&spec);
        serde_json::from_value::<GatewayQueueSpec>(spec).unwrap();
    }
}

#[test]
fn a_service_inside_the_cluster_cannot_have_two_ports_9090() {
    let message = "service.port must not be 9090 if service.type is ClusterIP";
    for service in [
        json!({"port": 9090}),
        json!({"port": 9090, "type": "ClusterIP"}),
    ] {
        expect_rejected(&json!({ "service": service }), message);
    }
}

#[test]
fn the_class_of_a_load_balancer_cannot_be_changed() {
    let object = |service: &Value| {
        json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1", "kind": "GatewayQueue",
            "metadata": {"name": "my-bot"}, "spec": {"service": service},
        })
    };
    let balancer = |class: Value| json!({"type": "LoadBalancer", "loadBalancerClass": class});
    let none = json!({"type": "LoadBalancer"});
    let inside = json!({"type": "ClusterIP"});
    let (a, b) = (balancer(json!("a")), balancer(json!("b")));
    for (from, to, is_accepted) in [
        (&a, &a, true),
        (&a, &b, false),
        (&a, &none, false),
        (&none, &a, false),
        (&none, &none, true),
        (&a, &inside, true),
        (&inside, &b, true),
    ] {
        let (old, new) = (object(from), object(to));
        let result = Validator::new().validate(&schema(), &new, Some(&old));
        assert_eq!(result.is_ok(), is_accepted, "{from} to {to}: {result:?}");
    }
}

#[test]
fn fields_of_a_service_that_its_type_does_not_have_are_rejected() {
    let outside = "require the service.type NodePort or LoadBalancer";
    let balancer = "require the service.type LoadBalancer";
    for (service, message) in [
        (json!({"nodePort": 30_000}), outside),
        (json!({"externalTrafficPolicy": "Local"}), outside),
        (json!({"loadBalancerClass": "a"}), balancer),
        (
            json!({"type": "NodePort", "loadBalancerClass": "a"}),
            balancer,
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            balancer,
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1"]}),
            "a range of IP addresses",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            "the same family twice",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            "require the service.ipFamilyPolicy",
        ),
    ] {
        expect_rejected(&json!({ "service": service }), message);
    }
    for service in [
        json!({"loadBalancerSourceRanges": []}),
        json!({"type": "NodePort", "nodePort": 30_000, "externalTrafficPolicy": "Local"}),
        json!({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack"}),
    ] {
        expect_accepted(&json!({ "service": service }));
    }
}

#[test]
fn pods_cannot_have_a_reserved_variable() {
    for name in RESERVED_VARIABLES {
        let env = json!([{"name": "A", "value": "b"}, {"name": name}]);
        let message = "must not set a variable that the operator sets";
        expect_rejected(&json!({"pod": {"env": env}}), message);
    }
    let env = json!([{"name": "HTTPS_PROXY", "value": "a"}, {"name": "SHARD_BURST"}]);
    expect_accepted(&json!({"pod": {"env": env}}));
}

#[test]
fn all_annotations_fit_into_an_object() {
    // The limit of Kubernetes for keys and values.
    const MAX_BYTES: u64 = 256 * 1024;
    let mut maps = Vec::new();
    walk("", &schema()["properties"]["spec"], &mut |path, s| {
        if path.ends_with(".annotations") {
            let values = s["additionalProperties"]["maxLength"].as_u64().unwrap();
            // A key: a prefix, a slash and a name.
            let all = s["maxProperties"].as_u64().unwrap() * (253 + 1 + 63 + values);
            maps.push((path.to_owned(), all));
        }
    });
    let (inherited, own): (Vec<_>, Vec<_>) = maps
        .into_iter()
        .partition(|(path, _)| path.contains("inheritedMetadata"));
    for (path, all) in own {
        let all = all + inherited[0].1;
        assert!(
            all < MAX_BYTES,
            "{path} and the inherited ones may have {all} bytes"
        );
    }
}

#[test]
fn an_empty_spec_has_the_defaults_of_the_schema() {
    let spec = serde_json::to_value(serde_json::from_value::<GatewayQueueSpec>(json!({})).unwrap())
        .unwrap();
    let properties = schema()["properties"]["spec"]["properties"].clone();
    for (field, property) in properties.as_object().unwrap() {
        assert_eq!(
            spec.get(field),
            property.get("default"),
            "{field} has another default in Rust than in the schema"
        );
    }
}

#[test]
fn the_scale_subresource_refers_to_existing_fields() {
    let crd = serde_json::to_value(crd()).unwrap();
    let version = &crd["spec"]["versions"][0];
    let scale = version["subresources"]["scale"].as_object().unwrap();
    assert_eq!(scale.len(), 3);
    for path in scale.values() {
        let pointer = path.as_str().unwrap().replace('.', "/properties/");
        let schema = &version["schema"]["openAPIV3Schema"];
        assert!(schema.pointer(&pointer).is_some(), "{path} is no field");
    }
}

/// Calls `visit` with each schema below `schema` and its path.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            walk(&format!("{path}[]"), &schema[below], visit);
        }
    }
}

#[test]
fn strings_lists_and_maps_of_the_spec_are_bounded() {
    walk("spec", &schema()["properties"]["spec"], &mut |path, s| {
        let bounded = match s["type"].as_str() {
            Some("string") => s["maxLength"].is_number() || s["enum"].is_array(),
            Some("array") => s["maxItems"].is_number(),
            Some("object") if s["additionalProperties"].is_object() => {
                s["maxProperties"].is_number()
            }
            Some("integer") if s["format"] == "int32" => {
                s["minimum"].is_number() && s["maximum"].is_number()
            }
            _ => true,
        };
        assert!(bounded, "{path} has no bound: {s}");
    });
}

#[test]
fn every_format_is_known_to_the_api_server() {
    walk("", &schema(), &mut |path, s| {
        if let Some(format) = s["format"].as_str() {
            assert!(
                ["int32", "int64", "date-time"].contains(&format),
                "{path} {format}"
            );
        }
    });
}

#[test]
fn every_field_is_described() {
    walk("", &schema(), &mut |path, s| {
        if !path.ends_with("[]") {
            assert!(s["description"].is_string(), "{path} is not described");
        }
    });
}

#[test]
fn every_description_names_the_default() {
    let mut count = 0;
    walk("", &schema()["properties"]["spec"], &mut |path, schema| {
        let default = match &schema["default"] {
            Value::String(word) => word.clone(),
            // The fields of an object have their own defaults.
            Value::Null | Value::Object(_) => return,
            other => other.to_string(),
        };
        let text = schema["description"].as_str().unwrap_or_default();
        let words: Vec<_> = text.split_whitespace().collect();
        let sentence = format!("Defaults to {default}.");
        assert!(
            words.join(" ").contains(&sentence),
            "{path} does not say {sentence:?}"
        );
        count += 1;
    });
    assert!(count >= 10, "{count}");
}

#[test]
fn the_committed_crd_is_the_one_of_the_types() {
    let yaml = crd_yaml().unwrap();
    // A client-side apply stores the object as JSON in an annotation of at most 256 KiB.
    assert!(yaml.len() < 100 * 1024, "{} bytes", yaml.len());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for file in [
        "crds/gatewayqueue.dev_gatewayqueues.yaml",
        "charts/gateway-queue-operator/files/gatewayqueues.yaml",
    ] {
        let written = std::fs::read_to_string(format!("{root}/{file}")).unwrap_or_default();
        assert!(
            written == yaml,
            "{file} is out of date: run `cargo xtask crd`"
        );
    }
}
