//! What the API server accepts and refuses. The refusal of an invalid spec names the field and
//! what is accepted. Most CEL rules have more cases in `operator/src/api/tests.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::api::{Api, QUEUE, queue};
use crate::kubectl::Namespace;

/// An invalid spec, followed by parts of the refusal.
fn rows() -> Vec<Vec<Value>> {
    let mut rows: Vec<Vec<Value>> =
        serde_json::from_str(include_str!("tables/refusals.json")).unwrap();
    let x = |count| "x".repeat(count);
    let secrets: Vec<_> = (0..17).map(|n| json!({"name": format!("s-{n}")})).collect();
    let annotations: Map<_, _> = (0..33).map(|n| (format!("a-{n}"), json!("x"))).collect();
    for (spec, field, accepted) in [
        (json!({"host": x(46)}), "host", "more than 45"),
        (json!({"image": x(513)}), "image", "more than 512"),
        (
            json!({"service": {"labels": {"a": x(64)}}}),
            "service.labels.a",
            "more than 63",
        ),
        (
            json!({"service": {"annotations": {"a": x(4097)}}}),
            "service.annotations.a",
            "than 4096",
        ),
        (
            json!({"service": {"annotations": annotations}}),
            "service.annotations",
            "most 32 items",
        ),
        (
            json!({"imagePullSecrets": secrets}),
            "imagePullSecrets",
            "most 16 items",
        ),
    ] {
        rows.push(vec![spec, format!("spec.{field}").into(), accepted.into()]);
    }
    rows
}

#[test]
fn an_invalid_spec_is_refused_with_what_is_accepted() {
    let namespace = Namespace::new("refusals");
    let api = Api::new(&namespace);
    let mut wrong = Vec::new();
    for row in rows() {
        let (spec, parts) = row.split_first().unwrap();
        let Err(refusal) = api.create(QUEUE, namespace.name(), &queue("wrong", spec)) else {
            wrong.push(format!("{spec} is accepted"));
            api.delete(QUEUE, namespace.name(), "wrong").unwrap();
            continue;
        };
        let is_missing = |part: &&Value| !refusal.message.contains(part.as_str().unwrap());
        let missing: Vec<_> = parts.iter().filter(is_missing).collect();
        if refusal.code != 422 || !missing.is_empty() {
            wrong.push(format!("{spec}: {missing:?} is not in {refusal:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(api.list(QUEUE, namespace.name()), [] as [Value; 0]);
    let refused = api.create(QUEUE, namespace.name(), &queue("my.bot", &json!({})));
    let message = refused.unwrap_err().message;
    let accepted =
        "at most 63 characters of a-z, 0-9 and '-', starting with a letter and not ending with '-'";
    assert!(message.contains(accepted), "{message}");
}

/// kubectl refuses it before the API server would drop it.
#[test]
fn an_unknown_field_is_refused_by_its_name() {
    let namespace = Namespace::new("unknown-fields");
    for (spec, field) in [
        (json!({"ports": 80}), "spec.ports"),
        (json!({"pod": {"env": []}}), "spec.pod.env"),
    ] {
        let refusal = namespace.apply_queue("wrong", &spec).unwrap_err();
        let unknown = format!(r#"unknown field "{field}""#);
        assert!(refusal.contains(&unknown), "{refusal}");
    }
}

#[test]
fn the_crd_and_every_example_are_accepted_without_a_warning() {
    let namespace = Namespace::new("examples");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let examples = fs::read_dir(root.join("examples")).unwrap();
    let mut files: Vec<PathBuf> = examples.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    assert!(files.len() >= 3, "{files:?}");
    files.push(root.join("crds/gatewayqueue.dev_gatewayqueues.yaml"));
    for file in files {
        let file = file.display().to_string();
        let dry_run = [
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            &file,
        ];
        let output = namespace.command(&dry_run).output().unwrap();
        let warnings = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{file}: {warnings}");
        // kubectl itself warns about objects that helm created.
        let mut warnings = warnings
            .lines()
            .filter(|line| !line.contains("last-applied"));
        assert_eq!(warnings.next(), None, "{file}");
    }
}
