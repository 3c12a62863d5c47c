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

#[test]
fn every_invalid_spec_is_rejected_with_what_is_accepted() {
    let table = [
        (json!({"host": "nowhere"}), "host must be an IP address"),
        (json!({"host": ""}), "host must be an IP address"),
        (json!({"host": "10.0.0.0/8"}), "host must be an IP address"),
        (
            json!({"host": "127.0.0.1"}),
            "not a name or a loopback address",
        ),
        (json!({"host": "::1"}), "not a name or a loopback address"),
        (json!({"port": 0}), "port must be from 1 to 65535"),
        (json!({"port": 65536}), "port must be from 1 to 65535"),
        (json!({"port": -1}), "port must be from 1 to 65535"),
        (json!({"port": 9090}), "not 9090 or 9091"),
        (json!({"port": 9091}), "not 9090 or 9091"),
        (json!({"replicas": -1}), "replicas must be from 0 to 10"),
        (json!({"replicas": 11}), "replicas must be from 0 to 10"),
        (
            json!({"interval": "1s"}),
            "interval must be a duration from 5s",
        ),
        (
            json!({"interval": "4999ms"}),
            "interval must be a duration from 5s",
        ),
        (
            json!({"interval": "5"}),
            "interval must be a duration from 5s",
        ),
        (
            json!({"interval": "-5s"}),
            "interval must be a duration from 5s",
        ),
        (
            json!({"interval": "2h"}),
            "interval must be a duration from 5s",
        ),
        (
            json!({"interval": "61m"}),
            "interval must be a duration from 5s",
        ),
        (json!({"interval": "soon"}), "such as 5s, 5500ms or 1m"),
        (
            json!({"margin": "61s"}),
            "margin must be a duration from 0s to 60s",
        ),
        (
            json!({"margin": "-1s"}),
            "margin must be a duration from 0s to 60s",
        ),
        (
            json!({"margin": ""}),
            "margin must be a duration from 0s to 60s",
        ),
        (
            json!({"tokenSecretRef": {"name": "t"}, "maxConcurrency": 2}),
            "tokenSecretRef and maxConcurrency are mutually exclusive",
        ),
        (
            json!({"discordApi": "discord.com"}),
            "discordApi must be an http or https URL",
        ),
        (
            json!({"discordApi": "ftp://discord.com"}),
            "discordApi must be an http or https URL",
        ),
        (
            json!({"discordApi": "https://me:pw@host/"}),
            "without credentials",
        ),
        (
            json!({"discordApi": "https://host/?a=b"}),
            "query or fragment",
        ),
        (
            json!({"discordApi": "https://host:0/api"}),
            "must be from 1 to 65535",
        ),
        (
            json!({"discordApi": "http://host:65536"}),
            "must be from 1 to 65535",
        ),
        (
            json!({"discordApi": "http://host:99999999999999999999/"}),
            "must be from 1 to 65535",
        ),
        (
            json!({"networkPolicy": {"from": [{}]}}),
            "networkPolicy.from has no effect while networkPolicy.enabled is false",
        ),
    ];
    for (spec, message) in table {
        let rejections = rejections("my-bot", spec.clone());
        assert!(
            rejections.iter().any(|r| r.contains(message)),
            "{spec} should be rejected with {message:?}, not {rejections:?}"
        );
    }
}

#[test]
fn reserved_and_invalid_keys_are_rejected_in_all_labels_and_annotations() {
    let reserved = "under gatewayqueue.dev/ are reserved for the operator";
    let own = "set by the operator: remove them";
    let notation = "must be a name such as team or example.com/team";
    let labels = [
        ("gatewayqueue.dev/token-ref-hash", reserved),
        ("gatewayqueue.dev/", reserved),
        ("a.b.gatewayqueue.dev/c", reserved),
        ("app.kubernetes.io/name", own),
        ("app.kubernetes.io/instance", own),
        ("app.kubernetes.io/component", own),
        ("app.kubernetes.io/managed-by", own),
        ("a b", notation),
        ("", notation),
        ("a/b/c", notation),
        ("-a", notation),
        ("Example.com/a", notation),
    ];
    let annotations = labels.iter().filter(|(_, message)| *message != own);
    let annotations = annotations.filter(|(key, _)| *key != "Example.com/a");
    let all_labels = ["service", "pod"].map(|part| (part, "labels"));
    let all_annotations = ["service", "pod"].map(|part| (part, "annotations"));
    let in_labels = labels.iter().map(|row| (row, all_labels));
    let in_annotations = annotations.map(|row| (row, all_annotations));
    for ((key, message), places) in in_labels.chain(in_annotations) {
        for (part, field) in places {
            let spec = json!({ part: {field: {*key: "a"}} });
            let rejections = rejections("my-bot", spec.clone());
            let reported = rejections
                .iter()
                .any(|rejection| rejection.contains(message));
            assert!(
                reported,
                "{spec} should be rejected with {message:?}, not {rejections:?}"
            );
        }
    }
    let longest = format!("{}/{}", "a".repeat(63), "b".repeat(63));
    for key in [
        "team",
        "my-gatewayqueue.dev/a",
        "gatewayqueue.dev",
        "gatewayqueue.dev.example.com/a",
        "app.kubernetes.io/part-of",
        "example.com/A.b_c-d",
        longest.as_str(),
    ] {
        for (part, field) in all_labels.into_iter().chain(all_annotations) {
            let spec = json!({ part: {field: {key: "a"}} });
            assert_eq!(
                rejections("my-bot", spec.clone()),
                Vec::<String>::new(),
                "{spec}"
            );
        }
    }
}

#[test]
fn a_name_that_no_service_can_have_is_rejected() {
    for name in ["a".repeat(64).as_str(), "1bot", "my.bot", "bot-"] {
        let rejections = rejections(name, json!({}));
        assert!(
            rejections
                .iter()
                .any(|r| r.contains("the name of a Service")),
            "{name} {rejections:?}"
        );
    }
    assert_eq!(rejections(&"a".repeat(63), json!({})), Vec::<String>::new());
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
    ] {
        assert_eq!(
            rejections("my-bot", spec.clone()),
            Vec::<String>::new(),
            "{spec}"
        );
        serde_json::from_value::<GatewayQueueSpec>(spec).unwrap();
    }
}

#[test]
fn spread_constraints_are_unique_by_key_and_when_unsatisfiable() {
    let pod = &schema()["properties"]["spec"]["properties"]["pod"];
    let list = &pod["properties"]["topologySpreadConstraints"];
    assert_eq!(list["x-kubernetes-list-type"], "map");
    let keys = json!(["topologyKey", "whenUnsatisfiable"]);
    assert_eq!(list["x-kubernetes-list-map-keys"], keys);
    // A list key must be required or have a default.
    for key in keys.as_array().unwrap() {
        let required = list["items"]["required"].as_array().unwrap();
        assert!(required.contains(key), "{key} is not in {required:?}");
    }
}

#[test]
fn names_and_label_values_have_the_notation_of_kubernetes() {
    let mut patterns = std::collections::BTreeMap::new();
    walk("", &schema()["properties"]["spec"], &mut |path, s| {
        if let Some(pattern) = s["pattern"].as_str() {
            patterns.insert(path.to_owned(), pattern.to_owned());
        }
    });
    for path in [
        ".tokenSecretRef.name",
        ".imagePullSecrets[].name",
        ".pod.priorityClassName",
    ] {
        assert_eq!(patterns[path], schema::SUBDOMAIN, "{path}");
    }
    for path in [".pod.labels[]", ".pod.nodeSelector[]", ".service.labels[]"] {
        assert_eq!(patterns[path], schema::LABEL_VALUE, "{path}");
    }
}

#[test]
fn all_annotations_fit_into_an_object() {
    // The limit of Kubernetes for keys and values.
    const MAX_BYTES: u64 = 256 * 1024;
    walk("", &schema()["properties"]["spec"], &mut |path, s| {
        if path.ends_with(".annotations") {
            let values = s["additionalProperties"]["maxLength"].as_u64().unwrap();
            // A key: a prefix, a slash and a name.
            let all = s["maxProperties"].as_u64().unwrap() * (253 + 1 + 63 + values);
            assert!(all < MAX_BYTES, "{path} may have {all} bytes");
        }
    });
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
