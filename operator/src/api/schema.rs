//! Parts of the schema that the derive does not generate as needed: bounded maps, and types of
//! Kubernetes with short descriptions.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

/// The notation of a quantity, as the API server checks it in CRDs.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// The notation of most names, such as that of a Secret: a DNS subdomain (RFC 1123).
pub(super) const SUBDOMAIN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The notation of a label value, which may be empty.
pub(super) const LABEL_VALUE: &str = r"^([a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?)?$";

/// The notation of a label key and similar names: a name with an optional DNS subdomain as prefix.
pub(super) const LABEL_KEY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$";

/// The same for an annotation key, whose prefix may have upper-case letters.
const ANNOTATION_KEY: &str = "^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?([.][A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$";

/// Labels that a spec sets on an object of the operator.
pub(super) fn labels(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = node_labels(generator);
    add_rules(
        &mut schema,
        &[
            not_reserved("label"),
            json!({
                "rule": "self.all(key, !(key in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/component', 'app.kubernetes.io/managed-by']))",
                "message": "the labels app.kubernetes.io/name, instance, component and managed-by are set by the operator: remove them",
            }),
        ],
    );
    schema
}

/// Labels that select nodes: any label that a node may have.
pub(super) fn node_labels(_: &mut SchemaGenerator) -> Schema {
    let value = json!({"type": "string", "maxLength": 63, "pattern": LABEL_VALUE});
    let mut schema = map_of(value, 64);
    add_rules(&mut schema, &[notation("label", LABEL_KEY)]);
    schema
}

/// Annotations that a spec sets on an object of the operator. All annotations of an object may
/// have 256 KiB in total, and others add some.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    annotations_of(4096, 32)
}

/// Annotations that a spec sets on all objects: on a Service or pod, next to [`annotations`], and on
/// the Lease, which is written every few seconds.
pub(super) fn inherited_annotations(_: &mut SchemaGenerator) -> Schema {
    annotations_of(1024, 16)
}

fn annotations_of(max_length: usize, max: usize) -> Schema {
    let mut schema = map_of(json!({"type": "string", "maxLength": max_length}), max);
    let rules = [
        notation("annotation", ANNOTATION_KEY),
        not_reserved("annotation"),
    ];
    add_rules(&mut schema, &rules);
    schema
}

/// A rule for the keys of a map, which a schema cannot express.
fn notation(what: &str, pattern: &str) -> serde_json::Value {
    json!({
        "rule": format!("self.all(key, key.indexOf('/') <= 253 && key.matches('{pattern}'))"),
        "message": format!(
            "the key of each {what} must be a name such as team or example.com/team: at most 63 characters of a-z, A-Z, 0-9, '-', '_' and '.', starting and ending with a letter or digit, optionally preceded by a DNS name and '/'"
        ),
    })
}

fn not_reserved(what: &str) -> serde_json::Value {
    json!({
        "rule": "self.all(key, !key.matches('^([^/]*[.])?gatewayqueue[.]dev/'))",
        "message": format!(
            "{what}s under gatewayqueue.dev/ are reserved for the operator: remove them"
        ),
    })
}

fn add_rules(schema: &mut Schema, rules: &[serde_json::Value]) {
    let mut all = schema
        .remove("x-kubernetes-validations")
        .unwrap_or_else(|| json!([]));
    if let Some(all) = all.as_array_mut() {
        all.extend_from_slice(rules);
    }
    schema.insert("x-kubernetes-validations".to_owned(), all);
}

/// Amounts of compute resources by name.
pub(super) fn quantities(_: &mut SchemaGenerator) -> Schema {
    let quantity = json!({
        "maxLength": 32,
        "pattern": QUANTITY,
        "x-kubernetes-int-or-string": true,
    });
    map_of(quantity, 32)
}

fn map_of(values: serde_json::Value, max: usize) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "maxProperties": max,
        "additionalProperties": values,
    })
}

/// An optional type of Kubernetes, with short descriptions: a CRD must remain small enough for
/// a client-side apply.
pub(super) fn embedded<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = bounded::<T>(generator);
    schema.insert("nullable".to_owned(), json!(true));
    schema
}

/// An optional list of a type of Kubernetes, which is replaced as a whole.
pub(super) fn embedded_list<T: JsonSchema, const MAX: usize>(
    generator: &mut SchemaGenerator,
) -> Schema {
    json_schema!({
        "type": "array",
        "nullable": true,
        "maxItems": MAX,
        "items": bounded::<T>(generator),
        "x-kubernetes-list-type": "atomic",
    })
}

/// An optional list of spread constraints, which are unique by key and `whenUnsatisfiable`:
/// otherwise the API server rejects the Deployment.
pub(super) fn spread_constraints(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = embedded_list::<TopologySpreadConstraint, 16>(generator);
    schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
    let keys = json!(["topologyKey", "whenUnsatisfiable"]);
    schema.insert("x-kubernetes-list-map-keys".to_owned(), keys);
    schema
}

/// Conditions, one of each type.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "nullable": true,
        "items": bare::<Condition>(generator),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// An optional point in time.
pub(super) fn time(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = bare::<Time>(generator);
    schema.insert("nullable".to_owned(), json!(true));
    schema
}

fn bounded<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = bare::<T>(generator);
    Bounded.transform(&mut schema);
    schema
}

fn bare<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(generator);
    Bare.transform(&mut schema);
    schema
}

/// Shortens each description to its first sentence, and bounds 32-bit numbers.
struct Bare;

/// The first sentence of a text, on one line, without asides such as `(e.g. …)`.
fn first_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = words
        .strip_prefix("Required. ")
        .unwrap_or(&words)
        .to_owned();
    for aside in [" (e.g.", " (i.e."] {
        if let Some((before, after)) = text.split_once(aside) {
            let mut open = 1;
            let end = after.find(|c| {
                open += i32::from(c == '(') - i32::from(c == ')');
                open == 0
            });
            let after = end.and_then(|end| after.get(end + 1..)).unwrap_or_default();
            text = format!("{before}{after}");
        }
    }
    // One text of Kubernetes lacks the period before its examples.
    for stop in [". ", " Valid examples"] {
        if let Some((sentence, _)) = text.split_once(stop) {
            text = format!("{sentence}.");
        }
    }
    text
}

impl Transform for Bare {
    fn transform(&mut self, schema: &mut Schema) {
        let description = schema.get("description").and_then(|d| d.as_str());
        if let Some(short) = description.map(first_sentence) {
            schema.insert("description".to_owned(), json!(short));
        }
        if schema.get("format") == Some(&json!("int32")) {
            // The API server does not check the format, and Rust could not read a larger
            // number.
            schema.insert("minimum".to_owned(), json!(i32::MIN));
            schema.insert("maximum".to_owned(), json!(i32::MAX));
        }
        transform_subschemas(self, schema);
    }
}

/// Bounds strings, lists and maps, with more than a spec ever needs.
struct Bounded;

impl Transform for Bounded {
    fn transform(&mut self, schema: &mut Schema) {
        let kind = schema.get("type").and_then(|t| t.as_str());
        let bound = match kind {
            Some("string") => Some(("maxLength", 512)),
            Some("array") => Some(("maxItems", 128)),
            Some("object") if schema.get("additionalProperties").is_some() => {
                Some(("maxProperties", 64))
            }
            _ => None,
        };
        if let Some((keyword, max)) = bound {
            schema.insert(keyword.to_owned(), json!(max));
        }
        transform_subschemas(self, schema);
    }
}
