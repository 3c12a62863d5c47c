//! Specs of a GatewayQueue, generated from the schema of its CRD: every field at each edge of
//! what the schema accepts, and random combinations. Pure.
//!
//! CEL rules are ignored. The API server or a validator refuses a spec that breaks one, and the
//! caller skips it.
#![allow(clippy::panic, reason = "an unknown field must fail the test")]

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// The fields that Kubernetes checks. The schema accepts some values that the API server refuses in
/// a child, such as contradicting requirements, or an IP family that the cluster does not have.
pub const OF_KUBERNETES: [&str; 8] = [
    "networkPolicy.from",
    "pod.affinity",
    "pod.resources",
    "pod.tolerations",
    "pod.topologySpreadConstraints",
    "service.ipFamilies",
    "service.ipFamilyPolicy",
    "service.nodePort",
];

/// The fields of a Service that require the type LoadBalancer or also allow NodePort.
const OF_A_LOAD_BALANCER: [&str; 4] = [
    "externalTrafficPolicy",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    "nodePort",
];

/// The schema of a spec.
pub struct Schema(Value);

/// A spec that sets one field, and the fields that it requires.
#[derive(Clone, Debug, PartialEq)]
pub struct Single {
    /// The path of the field, such as `service.port`.
    pub field: String,
    /// The spec.
    pub spec: Value,
}

impl Schema {
    /// Extracts the schema from a CustomResourceDefinition.
    ///
    /// # Panics
    /// If the CRD has no schema of the spec.
    pub fn of(crd: &Value) -> Self {
        let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let schema = crd.pointer(path).cloned();
        Self(schema.unwrap_or_else(|| panic!("the CRD has no {path}")))
    }

    /// Every field on its own, at each of its edge values.
    pub fn singles(&self) -> Vec<Single> {
        let mut all = Vec::new();
        singles(&self.0, &mut Vec::new(), &mut all);
        all
    }

    /// A random combination of fields with random edge values.
    pub fn random(&self, random: &mut Rng) -> Value {
        combination(&self.0, random)
    }
}

/// Whether a field is one of [`OF_KUBERNETES`], or part of one.
pub fn is_of_kubernetes(field: &str) -> bool {
    let mut outer = OF_KUBERNETES.iter();
    outer.any(|outer| field == *outer || field.starts_with(&format!("{outer}.")))
}

fn singles(schema: &Value, path: &mut Vec<String>, all: &mut Vec<Single>) {
    for (name, below) in properties(schema) {
        path.push(name.clone());
        let field = path.join(".");
        // A field of Kubernetes' own types counts as one, with everything inside.
        if below["properties"].is_object() && !OF_KUBERNETES.contains(&&*field) {
            all.push(single(path, typical(below, name)));
            singles(below, path, all);
        } else {
            let values = edges(below, name).into_iter();
            all.extend(values.map(|value| single(path, value)));
        }
        path.pop();
    }
}

/// A spec with this value in the field at `path`.
fn single(path: &[String], value: Value) -> Single {
    let mut spec = json!({});
    // A disabled policy has no other fields, a reference needs a name, and most Services have no
    // load balancer.
    match path {
        [outer, _, ..] if outer == "networkPolicy" => spec[outer]["enabled"] = json!(true),
        [outer, _, ..] if outer.ends_with("Ref") => spec[outer]["name"] = json!("discord"),
        [outer, field] if OF_A_LOAD_BALANCER.contains(&field.as_str()) => {
            spec[outer]["type"] = json!("LoadBalancer");
        }
        _ => {}
    }
    *path.iter().fold(&mut spec, |place, step| &mut place[step]) = value;
    Single {
        field: path.join("."),
        spec,
    }
}

/// The edge values of a field.
fn edges(schema: &Value, name: &str) -> Vec<Value> {
    let mut values = if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter(|word| !word.is_null());
        words.cloned().collect()
    } else if schema["x-kubernetes-int-or-string"] == true {
        let texts = ["0", "1", "1000m", "1.5Gi", ".5", "1e3", "+2k"];
        let texts = texts.into_iter().map(Value::from);
        texts.chain([json!(0), json!(1)]).collect()
    } else {
        match schema["type"].as_str() {
            Some("boolean") => vec![json!(false), json!(true)],
            Some("integer") => integers(schema),
            Some("string") => texts(schema, name),
            Some("array") => lists(schema, name),
            Some("object") if schema["additionalProperties"].is_object() => maps(schema, name),
            Some("object") => objects(schema, name),
            other => panic!("{name} has the type {other:?}, which the generator does not know"),
        }
    };
    if schema["nullable"] == true {
        values.push(Value::Null);
    }
    values
}

fn integers(schema: &Value) -> Vec<Value> {
    let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
    let fits =
        |n: &i64| least.is_none_or(|least| *n >= least) && most.is_none_or(|most| *n <= most);
    let mut all: Vec<i64> = [0, 1, 2, 80].into_iter().filter(fits).collect();
    all.extend(least);
    all.extend(most);
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(Value::from).collect()
}

/// Examples by the field's name, because the schema does not describe the format, and the longest
/// string.
fn texts(schema: &Value, name: &str) -> Vec<Value> {
    let examples: &[&str] = match name {
        "host" => &["::", "0.0.0.0", "10.1.2.3", "2001:db8::1"],
        "interval" => &["5s", "5500ms", "1h", "5.5s", "1m30s", "59m60s"],
        "margin" => &["0s", "0ms", "250ms", "60s", "1m", "0.001s"],
        "discordApi" => &["http://proxy:1", "https://proxy.example:65535/api/v10"],
        "appProtocol" => &["http", "kubernetes.io/ws"],
        "loadBalancerClass" => &["a", "example.com/internal"],
        "loadBalancerSourceRanges" => &["192.0.2.0/24", "2001:db8::/32"],
        "image" => &["a", "registry.example/a:1", "a@sha256:0d"],
        "operator" => &["In", "NotIn", "Exists", "DoesNotExist", "Equal", "Gt"],
        "effect" => &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        "whenUnsatisfiable" => &["ScheduleAnyway", "DoNotSchedule"],
        "nodeAffinityPolicy" | "nodeTaintsPolicy" => &["Honor", "Ignore"],
        "topologyKey" => &["kubernetes.io/hostname", "topology.kubernetes.io/zone"],
        "cidr" => &["10.0.0.0/8", "2001:db8::/32"],
        "except" => &["10.1.0.0/16"],
        "annotations" => &["", "a text, with \"quotes\" and\na line"],
        "values" => &["1", "a"],
        "key" => &["token", "zone"],
        "name" | "priorityClassName" => &["a", "a.b-c.0"],
        "value" | "labels" | "nodeSelector" | "matchLabels" => &["", "a", "A.b-c_0"],
        "matchLabelKeys" | "mismatchLabelKeys" => &["pod-template-hash"],
        "namespaces" => &["default"],
        _ => panic!("no example for the string {name}"),
    };
    let mut all: Vec<String> = examples.iter().map(|text| (*text).to_owned()).collect();
    let has_rules = schema["x-kubernetes-validations"].is_array();
    let is_name = schema["pattern"].is_string() || name == "annotations";
    if let (Some(most), true) = (schema["maxLength"].as_u64(), is_name && !has_rules) {
        all.push("a".repeat(usize::try_from(most).unwrap_or(usize::MAX)));
    }
    all.into_iter().map(Value::from).collect()
}

fn lists(schema: &Value, name: &str) -> Vec<Value> {
    let items = &schema["items"];
    let mut all = vec![json!([])];
    all.extend(edges(items, name).into_iter().map(|item| json!([item])));
    // The longest list, unless its items must differ and cannot.
    let most = schema["maxItems"].as_u64().unwrap_or(0);
    let named = properties(items).any(|(field, _)| field == "name");
    let item = |n: u64| {
        let mut item = typical(items, name);
        if named {
            item["name"] = json!(format!("a-{n}"));
        }
        item
    };
    if named || schema["x-kubernetes-list-type"] != "map" {
        all.push((0..most).map(item).collect());
    }
    all
}

fn maps(schema: &Value, name: &str) -> Vec<Value> {
    let values = &schema["additionalProperties"];
    let keys: &[&str] = match name {
        "limits" | "requests" => &["cpu", "memory"],
        _ => &["a", "example.com/a.b-c_D"],
    };
    let mut all = vec![json!({})];
    for (value, key) in edges(values, name).into_iter().zip(keys.iter().cycle()) {
        all.push(json!({ *key: value }));
    }
    let most = schema["maxProperties"].as_u64().unwrap_or(0);
    let entry = |n: u64| (format!("example.com/a-{n}"), typical(values, name));
    all.push(Value::Object((0..most).map(entry).collect()));
    all
}

/// An object of Kubernetes' own types: with the required fields only, and with each other field at
/// each of its edge values.
fn objects(schema: &Value, name: &str) -> Vec<Value> {
    let required = typical(schema, name);
    let mut all = vec![required.clone()];
    for (field, below) in properties(schema) {
        for value in edges(below, field) {
            let mut object = required.clone();
            object[field] = value;
            all.push(object);
        }
    }
    all.dedup();
    all
}

/// A typical value; an object has the required fields only.
fn typical(schema: &Value, name: &str) -> Value {
    if schema["type"] == "object" && !schema["additionalProperties"].is_object() {
        let required = properties(schema).filter(|(field, _)| is_required(schema, field));
        let required = required.map(|(field, below)| (field.clone(), typical(below, field)));
        return Value::Object(required.collect());
    }
    let edges = edges(schema, name);
    let is_more = |value: &&Value| !matches!(value, Value::Null) && **value != json!([]);
    let more = match schema["type"].as_str() {
        // The first edge value is the lowest.
        Some("integer") => edges.iter().find(|value| value.as_i64() > Some(0)),
        Some("array") => edges.iter().find(is_more),
        _ => edges.first(),
    };
    more.cloned().unwrap_or_default()
}

fn combination(schema: &Value, random: &mut Rng) -> Value {
    let mut object = Map::new();
    for (field, below) in properties(schema) {
        if !is_required(schema, field) && random.u8(..3) > 0 {
            continue;
        }
        let value = if below["properties"].is_object() {
            combination(below, random)
        } else {
            let edges = edges(below, field);
            random.choice(edges).unwrap_or_default()
        };
        object.insert(field.clone(), value);
    }
    Value::Object(object)
}

fn is_required(schema: &Value, field: &str) -> bool {
    let mut required = schema["required"].as_array().into_iter().flatten();
    required.any(|required| required == field)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::of(
            &json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"properties": {
                "spec": {"type": "object", "properties": {
                    "port": {"type": "integer", "minimum": 1, "maximum": 9},
                    "service": {"type": "object", "properties": {
                        "labels": {
                            "type": "object", "nullable": true, "maxProperties": 3,
                            "additionalProperties": {"type": "string", "maxLength": 3, "pattern": "a*"},
                        },
                    }},
                    "networkPolicy": {"type": "object", "properties": {
                        "enabled": {"type": "boolean"},
                        "from": {"type": "array", "maxItems": 2, "items": {
                            "type": "object", "required": ["cidr"], "properties": {
                                "cidr": {"type": "string"},
                                "except": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
                            },
                        }},
                    }},
                }},
            }}}}]}}),
        )
    }

    #[test]
    fn a_field_has_each_edge_value_and_the_fields_that_it_requires() {
        let cidr = json!({"cidr": "10.0.0.0/8"});
        let but = json!({"cidr": "10.0.0.0/8", "except": []});
        let singles = schema().singles();
        for (field, beside, wanted) in [
            ("port", json!({}), json!([1, 2, 9])),
            (
                "service.labels",
                json!({"service": {}}),
                json!([{}, null, {"a": ""}, {"example.com/a.b-c_D": "aaa"},
                    {"example.com/a-0": "", "example.com/a-1": "", "example.com/a-2": ""}]),
            ),
            (
                "networkPolicy.from",
                json!({"networkPolicy": {"enabled": true}}),
                json!([[], [cidr], [but], [cidr, cidr]]),
            ),
        ] {
            for value in wanted.as_array().unwrap() {
                let mut spec = beside.clone();
                let steps = field.split('.');
                *steps.fold(&mut spec, |place, step| &mut place[step]) = value.clone();
                let field = field.to_owned();
                let wanted = Single { field, spec };
                assert!(
                    singles.contains(&wanted),
                    "{wanted:?} is not in {singles:#?}"
                );
            }
        }
        let ports = singles.iter().filter(|single| single.field == "port");
        assert_eq!(ports.count(), 3);
    }

    #[test]
    fn random_combinations_reach_every_field_and_depend_only_on_the_seed() {
        let mut random = Rng::with_seed(7);
        let all: Vec<_> = (0..50).map(|_| schema().random(&mut random)).collect();
        for field in ["/port", "/service/labels", "/networkPolicy/from"] {
            let mut found = all.iter().filter_map(|spec| spec.pointer(field));
            assert!(found.next().is_some(), "{field}");
        }
        let mut again = Rng::with_seed(7);
        assert_eq!(all[0], schema().random(&mut again));
    }

    #[test]
    fn only_fields_of_kubernetes_may_be_refused_in_a_child() {
        assert!(is_of_kubernetes("pod.resources.limits"));
        assert!(is_of_kubernetes("pod.affinity"));
        assert!(!is_of_kubernetes("pod.labels"));
    }
}
