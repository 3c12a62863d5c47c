//! What a person reads who does not have the docs at hand, and what a CRD must
//! keep to.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::Api;
use crate::kubectl::Namespace;

const CRD: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gatewayqueues.gatewayqueue.dev";

/// Client-side apply keeps the whole object in an annotation, of at most 256 KiB.
const LARGEST: usize = 100 * 1024;

#[test]
fn kubectl_explains_each_field() {
    let namespace = Namespace::new("explain");
    let api = Api::new(&namespace);
    let crd = api.read(CRD).unwrap();
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties";
    let schema = crd.pointer(schema).unwrap();
    let mut fields = Vec::new();
    for part in ["spec", "status"] {
        walk(part, &schema[part], &mut fields);
    }
    assert!(fields.len() > 40, "{fields:?}");
    let silent: Vec<_> = fields
        .iter()
        .filter(|(_, words)| words.len() < 10)
        .collect();
    assert!(silent.is_empty(), "no description: {silent:?}");
    // As kubectl prints them: one for each part, for each starts a kubectl.
    for part in [
        "gwq",
        "gwq.spec",
        "gwq.spec.pod",
        "gwq.spec.service",
        "gwq.spec.tokenSecretRef",
        "gwq.status",
    ] {
        let said = namespace.kubectl(&["explain", part]).unwrap();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let part = part.trim_start_matches("gwq").trim_start_matches('.');
        for (field, words) in &fields {
            let Some((above, own)) = field.rsplit_once('.') else {
                continue;
            };
            if above == part {
                let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(said.contains(own), "{field} is not explained: {said}");
                assert!(said.contains(&words), "{field}: {words:?} is not in {said}");
            }
        }
    }
}

#[test]
fn the_crd_is_small_and_every_example_is_taken_without_a_warning() {
    let namespace = Namespace::new("examples");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crd = root.join("crds/gatewayqueue.dev_gatewayqueues.yaml");
    let size = fs::metadata(&crd).unwrap().len();
    assert!(size < LARGEST as u64, "the CRD has {size} bytes");
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    files.push(crd);
    for file in files {
        let file = file.display().to_string();
        // Strict: a field that is not in the schema is an error.
        let apply = [
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            &file,
        ];
        let output = namespace.command(&apply).output().unwrap();
        let warnings = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{file}: {warnings}");
        // It was installed by helm, of which kubectl warns; the server does not.
        let own: Vec<_> = warnings
            .lines()
            .filter(|line| !line.contains("last-applied-configuration"))
            .collect();
        assert!(own.is_empty(), "{file}: {own:?}");
    }
}

/// Each field with its description, but for what is inside of Kubernetes' own types.
fn walk(above: &str, schema: &Value, fields: &mut Vec<(String, String)>) {
    let words = schema["description"].as_str().unwrap_or_default();
    fields.push((above.to_owned(), words.to_owned()));
    let foreign = ["spec.pod.affinity", "status.conditions"];
    if foreign.contains(&above) {
        return;
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{above}.{name}"), below, fields);
    }
}
