//! Every field of the spec: set, changed and removed, and what becomes of it in
//! the children. No pods are needed for that.

mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::api::Api;
use crate::children::{Children, differences, settle};
use crate::kubectl::Namespace;

use self::table::{OWN, Row, rows};

/// Some forty GatewayQueues are applied at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let namespace = Namespace::alone("fields");
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
