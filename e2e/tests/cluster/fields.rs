//! Every field of the spec: set, changed and removed, and where each value shows in the
//! children. No pods are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, CRD};
use crate::children::{Children, differences};
use crate::kubectl::Namespace;
use crate::wait::settle;

/// Stands for a Secret of the GatewayQueue's own: no two may use one token.
const OWN: &str = "own";

/// A field with two values, and where each shows in the children.
#[derive(Deserialize)]
struct Row {
    field: String,
    values: [Value; 2],
    /// The place that shows the value as it is.
    at: Option<String>,
    /// Places that show something else.
    #[serde(default)]
    seen: BTreeMap<String, [Value; 2]>,
    /// Whether it cannot be changed or removed: then only the first value is tried.
    #[serde(default)]
    fixed: bool,
    /// The rest of the spec; `replicas` is 0 unless it is the field.
    #[serde(default)]
    beside: BTreeMap<String, Value>,
}

fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = serde_json::from_str(include_str!("tables/fields.json")).unwrap();
    for row in &mut rows {
        if let Some(place) = row.at.take() {
            row.seen.insert(place, row.values.clone());
        }
        if row.field != "replicas" {
            row.beside.insert("replicas".to_owned(), json!(0));
        }
    }
    rows
}

/// Some sixty GatewayQueues are applied at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Row {
    /// The name of its GatewayQueue.
    fn name(&self) -> String {
        format!("f-{}", self.field.replace('.', "-").to_lowercase())
    }

    /// The name of the one that never had the field.
    fn bare(&self) -> String {
        format!("bare-{}", self.name())
    }

    /// The spec with the value of a step; after the last value, without the field.
    fn spec(&self, step: usize) -> Value {
        let step = if self.fixed { 0 } else { step };
        let mut spec = json!(self.beside);
        if let Some(value) = self.values.get(step) {
            let steps = self.field.split('.');
            *steps.fold(&mut spec, |place, step| &mut place[step]) = value.clone();
        }
        spec
    }

    /// The places that do not show the value of a step.
    fn missing(&self, step: usize, children: &Children) -> Vec<String> {
        let missing = |(place, shown): (&String, &[Value; 2])| {
            let found = value_at(children, &self.name(), place);
            let wanted = &shown[step];
            let (field, value) = (&self.field, &self.values[step]);
            (found != *wanted)
                .then(|| format!("{field} is {value}: {place} is {found}, not {wanted}"))
        };
        self.seen.iter().filter_map(missing).collect()
    }
}

#[test]
fn every_field_of_the_spec_is_set_changed_and_removed() {
    let namespace = Namespace::new("fields");
    let api = Api::new();
    let rows = rows();
    let fields: BTreeSet<_> = rows.iter().map(|row| row.field.clone()).collect();
    assert_eq!(fields, fields_of_the_crd(&api), "the fields of the table");
    let apply = |name: &str, spec: &Value| {
        let mut spec = spec.clone();
        if spec["tokenSecretRef"]["name"] == OWN {
            spec["tokenSecretRef"]["name"] = name.into();
        }
        api.apply_queue(namespace.name(), name, &spec)
            .unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"))
    };
    for row in &rows {
        apply(&row.bare(), &json!(row.beside));
    }
    for step in 0..2 {
        for row in &rows {
            apply(&row.name(), &row.spec(step));
        }
        settle(PATIENCE, || {
            let children = Children::of(&api, namespace.name());
            let missing = rows.iter().flat_map(|row| row.missing(step, &children));
            missing.collect::<Vec<_>>()
        });
    }
    let rows: Vec<&Row> = rows.iter().filter(|row| !row.fixed).collect();
    for row in &rows {
        apply(&row.name(), &row.spec(2));
    }
    settle(PATIENCE, || {
        let children = Children::of(&api, namespace.name());
        let left = |row: &&Row| {
            let (found, wanted) = (children.owned(&row.name()), children.owned(&row.bare()));
            // Without them the comparison would show nothing.
            if wanted.len() < 6 {
                return vec![format!("{} has only {:?}", row.bare(), wanted.keys())];
            }
            differences(&row.field, &found, &wanted)
        };
        rows.iter().flat_map(left).collect::<Vec<_>>()
    });
    // The default would show nothing.
    let children = Children::of(&api, namespace.name());
    for row in &rows {
        let missing = row.missing(0, &children);
        assert!(
            !missing.is_empty(),
            "the first value of {} is its default",
            row.field
        );
    }
}

/// The fields of the spec in the installed CRD, without those inside Kubernetes' own types.
fn fields_of_the_crd(api: &Api) -> BTreeSet<String> {
    let crd = api.read(CRD).unwrap();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let mut fields = BTreeSet::new();
    walk("", crd.pointer(spec).unwrap(), &mut fields);
    assert!(fields.len() > 20, "{fields:?}");
    fields
}

fn walk(above: &str, schema: &Value, fields: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().unwrap() {
        let field = format!("{above}{name}");
        if below["properties"].is_object() && field != "pod.affinity" {
            walk(&format!("{field}."), below, fields);
        } else {
            fields.insert(field);
        }
    }
}

/// The value at a place: a part of a child, and a path in it.
pub(crate) fn value_at(children: &Children, name: &str, place: &str) -> Value {
    let (part, within) = place.split_once(' ').unwrap();
    let template = "/spec/template";
    let container = "/spec/template/spec/containers/0";
    let at = |word: &str, pointer: &str| {
        let child = children.get(word, name);
        let found = child.and_then(|child| child.pointer(pointer));
        found.cloned().unwrap_or_default()
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
        ("labels" | "annotations", "pod") => {
            theirs(&at("Deployment", &format!("{template}/metadata/{part}")))
        }
        ("labels" | "annotations", word) => theirs(&at(word, &format!("/metadata/{part}"))),
        (word, pointer) => at(word, pointer),
    }
}

/// Labels or annotations without the operator's own.
fn theirs(all: &Value) -> Value {
    let own =
        |key: &str| key.starts_with("app.kubernetes.io/") || key.starts_with("gatewayqueue.dev/");
    let all = all.as_object().into_iter().flatten();
    all.filter(|(key, _)| !own(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
