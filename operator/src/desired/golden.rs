//! What is made of three specs, as files that a person reads: the smallest, the
//! usual one, and one that says everything. A change of what the operator makes
//! shows there, to be looked at before it is committed:
//! `UPDATE_GOLDEN=1 cargo test -p gateway-queue-operator golden` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use kube::core::cel::Validator;
use serde_json::{Value, json};

use super::*;
use crate::api::crd;
use crate::testing::defaults;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/desired/golden")
}

/// The spec in `NAME.spec.yaml`, with what an API server would add.
fn stored(name: &str) -> Value {
    let path = folder().join(format!("{name}.spec.yaml"));
    let mut queue: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    queue["metadata"]["namespace"] = json!("shop");
    queue["metadata"]["uid"] = json!("3f6b2a52-0000-4000-8000-000000000001");
    queue["metadata"]["generation"] = json!(1);
    queue
}

fn made(name: &str) -> String {
    let queue = serde_json::from_value(stored(name)).unwrap();
    let children = children(&queue, &defaults(), false).unwrap();
    let documents = children
        .iter()
        .map(|child| serde_saphyr::to_string(&child.manifest).unwrap());
    documents.collect::<Vec<_>>().join("---\n")
}

fn is_as_written(name: &str) {
    let path = folder().join(format!("{name}.yaml"));
    let made = made(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(path, made).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let mut lines = written.lines().zip(made.lines()).enumerate();
    let first = lines.find(|(_, (written, made))| written != made);
    assert!(
        written == made,
        "{name}.yaml is not what is made of {name}.spec.yaml, first at line {first:?}; look at what \
         changed, then run UPDATE_GOLDEN=1 cargo test -p gateway-queue-operator golden"
    );
}

#[test]
fn the_smallest_spec_is_made_into_what_its_file_says() {
    is_as_written("smallest");
}

#[test]
fn the_usual_spec_is_made_into_what_its_file_says() {
    is_as_written("usual");
}

#[test]
fn the_spec_that_says_everything_is_made_into_what_its_file_says() {
    is_as_written("everything");
}

#[test]
fn the_spec_that_says_everything_leaves_no_field_out() {
    let crd = serde_json::to_value(crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let everything = stored("everything");
    let said = |field: &str| !everything["spec"][field].is_null();
    for field in schema["properties"]["spec"]["properties"]
        .as_object()
        .unwrap()
        .keys()
    {
        // With a token, Discord tells.
        assert!(said(field) || field == "maxConcurrency", "spec.{field}");
    }
    for part in ["service", "pod", "networkPolicy", "tokenSecretRef"] {
        let fields = &schema["properties"]["spec"]["properties"][part]["properties"];
        for field in fields.as_object().unwrap().keys() {
            assert!(
                !everything["spec"][part][field].is_null(),
                "spec.{part}.{field}"
            );
        }
    }
}

#[test]
fn the_api_server_would_take_these_specs() {
    let crd = serde_json::to_value(crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for name in ["smallest", "usual", "everything"] {
        Validator::new()
            .validate(schema, &stored(name), None)
            .unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
    }
}
