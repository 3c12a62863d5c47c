//! What the API server accepts and refuses. The refusal of an invalid spec names the field and
//! what is accepted. Most CEL rules have more cases in `operator/src/api/tests.rs`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::api::{Api, QUEUE};
use crate::common::namespace::queue;
use crate::kubectl::Namespace;

/// Folders with manifests and documentation.
const FOLDERS: [&str; 7] = [
    ".",
    "charts/gateway-queue-operator",
    "client",
    "crds",
    "docs",
    "docs/runbooks",
    "examples",
];

/// An invalid spec, followed by parts of the refusal.
fn rows() -> Vec<Vec<Value>> {
    let mut rows: Vec<Vec<Value>> =
        serde_json::from_str(include_str!("tables/refusals.json")).unwrap();
    let x = |count| "x".repeat(count);
    let secrets: Vec<_> = (0..17).map(|n| json!({"name": format!("s-{n}")})).collect();
    let annotations: Map<_, _> = (0..33).map(|n| (format!("a-{n}"), json!("x"))).collect();
    let too_long = json!([
        [{"host": x(46)}, "spec.host", "more than 45"],
        [{"image": x(513)}, "spec.image", "more than 512"],
        [{"service": {"labels": {"a": x(64)}}}, "spec.service.labels.a", "more than 63"],
        [{"service": {"annotations": {"a": x(4097)}}}, "spec.service.annotations.a", "than 4096"],
        [{"service": {"annotations": annotations}}, "spec.service.annotations", "most 32 items"],
        [{"imagePullSecrets": secrets}, "spec.imagePullSecrets", "most 16 items"],
    ]);
    rows.extend(serde_json::from_value::<Vec<Vec<Value>>>(too_long).unwrap());
    rows
}

#[test]
fn an_invalid_spec_is_refused_with_what_is_accepted() {
    let namespace = Namespace::new("refusals");
    let api = Api::new();
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
        "at most 57 characters of a-z, 0-9 and '-', starting with a letter and not ending with '-'";
    assert!(message.contains(accepted), "{message}");
}

/// kubectl refuses it before the API server would drop it.
#[test]
fn an_unknown_field_is_refused_by_its_name() {
    let namespace = Namespace::new("unknown-fields");
    for (spec, field) in [
        (json!({"ports": 80}), "spec.ports"),
        (json!({"pod": {"envs": []}}), "spec.pod.envs"),
    ] {
        let refusal = namespace.apply_queue("wrong", &spec).unwrap_err();
        let unknown = format!(r#"unknown field "{field}""#);
        assert!(refusal.contains(&unknown), "{refusal}");
    }
}

#[test]
fn the_crd_the_examples_and_every_queue_of_the_docs_are_accepted_without_a_warning() {
    let namespace = Namespace::new("examples");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let accept = |manifest: &str, path: &Path| {
        let apply = "apply --dry-run=server --validate=strict --warnings-as-errors --filename -";
        let accepted = namespace.feed(apply, manifest);
        accepted.unwrap_or_else(|error| panic!("{}: {error}\n{manifest}", path.display()));
    };
    let (mut files, mut blocks) = (0, 0);
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = || fs::read_to_string(&path).unwrap();
            match path.extension().and_then(OsStr::to_str) {
                Some("yaml") if ["crds", "examples"].contains(&folder) => {
                    files += 1;
                    accept(&text(), &path);
                }
                Some("md") => {
                    let text = text();
                    let rest_of_blocks = text.split("\n```yaml\n").skip(1);
                    let all = rest_of_blocks.filter_map(|rest| Some(rest.split_once("\n```")?.0));
                    for block in all.filter(|block| block.contains("kind: GatewayQueue")) {
                        blocks += 1;
                        accept(block, &path);
                    }
                }
                _ => {}
            }
        }
    }
    assert!(files > 3, "only {files} files");
    assert!(blocks > 0, "no block of the docs starts with ```yaml");
}
