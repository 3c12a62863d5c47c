//! The CRD: its descriptions, its size, and the examples.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::{Api, CRD};
use crate::kubectl::Namespace;

/// Client-side apply stores the whole object in an annotation of at most 256 KiB.
const MAX_CRD_BYTES: usize = 100 * 1024;

#[test]
fn kubectl_explains_every_field() {
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
    let undescribed: Vec<_> = fields
        .iter()
        .filter(|(_, words)| words.len() < 10)
        .collect();
    assert!(undescribed.is_empty(), "no description: {undescribed:?}");
    for part in [
        "gwq",
        "gwq.spec",
        "gwq.spec.pod",
        "gwq.spec.service",
        "gwq.spec.tokenSecretRef",
        "gwq.status",
    ] {
        let output = namespace.kubectl(&["explain", part]).unwrap();
        let output = output.split_whitespace().collect::<Vec<_>>().join(" ");
        let part = part.trim_start_matches("gwq").trim_start_matches('.');
        for (field, words) in &fields {
            let Some((above, own)) = field.rsplit_once('.') else {
                continue;
            };
            if above == part {
                let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(output.contains(own), "{field} is not explained: {output}");
                assert!(
                    output.contains(&words),
                    "{field}: {words:?} is not in {output}"
                );
            }
        }
    }
}

#[test]
fn the_crd_is_small_and_every_example_is_accepted_without_a_warning() {
    let namespace = Namespace::new("examples");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crd = root.join("crds/gatewayqueue.dev_gatewayqueues.yaml");
    let size = fs::metadata(&crd).unwrap().len();
    assert!(size < MAX_CRD_BYTES as u64, "the CRD has {size} bytes");
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    files.push(crd);
    for file in files {
        let file = file.display().to_string();
        // Strict: an unknown field is an error.
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
        // kubectl warns about objects that helm created.
        let own: Vec<_> = warnings
            .lines()
            .filter(|line| !line.contains("last-applied-configuration"))
            .collect();
        assert!(own.is_empty(), "{file}: {own:?}");
    }
}

/// Collects each field with its description, except inside Kubernetes' own types.
fn walk(above: &str, schema: &Value, fields: &mut Vec<(String, String)>) {
    let words = schema["description"].as_str().unwrap_or_default();
    fields.push((above.to_owned(), words.to_owned()));
    let types_of_kubernetes = ["spec.pod.affinity", "status.conditions"];
    if types_of_kubernetes.contains(&above) {
        return;
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{above}.{name}"), below, fields);
    }
}
