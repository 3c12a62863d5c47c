//! The manifests of three specs as files: the smallest, a typical one, and one with every field.
//! Changes of the manifests show in their diff.
//! `UPDATE_GOLDEN=1 cargo test -p gateway-queue-operator golden` rewrites them.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::cel::Validator;

use super::*;
use crate::api::crd;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/desired/golden")
}

/// The GatewayQueue in `NAME.spec.yaml`, with the fields that the API server sets.
fn stored(name: &str) -> Value {
    let path = folder().join(format!("{name}.spec.yaml"));
    let mut queue: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    queue["metadata"]["namespace"] = json!("shop");
    queue["metadata"]["uid"] = json!("3f6b2a52-0000-4000-8000-000000000001");
    queue["metadata"]["generation"] = json!(1);
    queue
}

fn manifests(name: &str) -> String {
    let queue = serde_json::from_value(stored(name)).unwrap();
    let children = children(&queue, &defaults(), false, &BTreeSet::new()).unwrap();
    let documents = children
        .iter()
        .map(|child| serde_saphyr::to_string(&child.manifest).unwrap());
    documents.collect::<Vec<_>>().join("---\n")
}

fn check(name: &str) {
    let path = folder().join(format!("{name}.yaml"));
    let manifests = manifests(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(path, manifests).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let mut lines = written.lines().zip(manifests.lines()).enumerate();
    let first = lines.find(|(_, (written, new))| written != new);
    assert!(
        written == manifests,
        "{name}.yaml is out of date, first at line {first:?}: run UPDATE_GOLDEN=1 cargo test -p \
         gateway-queue-operator golden, and review the diff"
    );
}

#[test]
fn the_manifests_of_each_spec_are_those_of_its_file() {
    for name in ["smallest", "usual", "everything"] {
        check(name);
    }
}

/// Reads a manifest as the type of its kind, and writes it again without empty fields: a field
/// that the type does not have is lost.
fn retyped<T: serde::Serialize + serde::de::DeserializeOwned>(manifest: &Value) -> Value {
    let typed: T = serde_json::from_value(manifest.clone()).unwrap();
    let mut written = serde_json::to_value(typed).unwrap();
    prune(&mut written);
    written
}

#[test]
fn each_field_of_a_manifest_is_one_of_its_type() {
    for name in ["smallest", "usual", "everything"] {
        let queue = serde_json::from_value(stored(name)).unwrap();
        for child in children(&queue, &defaults(), false, &BTreeSet::new()).unwrap() {
            let retyped = match child.kind {
                Kind::ServiceAccount => retyped::<ServiceAccount>,
                Kind::Role => retyped::<Role>,
                Kind::RoleBinding => retyped::<RoleBinding>,
                Kind::Lease => retyped::<Lease>,
                Kind::Service => retyped::<Service>,
                Kind::PodDisruptionBudget => retyped::<PodDisruptionBudget>,
                Kind::NetworkPolicy => retyped::<NetworkPolicy>,
                Kind::Deployment => retyped::<Deployment>,
            };
            assert_eq!(retyped(&child.manifest), child.manifest, "{name}");
        }
    }
}

#[test]
fn the_spec_everything_has_every_field() {
    let crd = serde_json::to_value(crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let everything = stored("everything");
    let is_set = |field: &str| !everything["spec"][field].is_null();
    for field in schema["properties"]["spec"]["properties"]
        .as_object()
        .unwrap()
        .keys()
    {
        // It excludes a token.
        assert!(is_set(field) || field == "maxConcurrency", "spec.{field}");
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
fn the_schema_accepts_these_specs() {
    let crd = serde_json::to_value(crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for name in ["smallest", "usual", "everything"] {
        Validator::new()
            .validate(schema, &stored(name), None)
            .unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
    }
}
