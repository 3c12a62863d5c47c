//! JSON schemas for kubeconform, made from what a real API server says that it
//! takes, and from the definitions of prometheus-operator.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::kubernetes::Kubernetes;

/// How kubeconform finds the files.
pub(super) const LOCATION: &str = "{{.ResourceKind}}{{.KindSuffix}}.json";

/// What a PodMonitor and its like are defined by.
const MONITORS: [&str; 3] = [
    "podmonitors-crd.json",
    "prometheusrules-crd.json",
    "servicemonitors-crd.json",
];

/// Writes a schema for every kind of the API server.
///
/// # Errors
/// When it cannot be asked, or answers in a form that is not known.
pub(super) fn of_api_server(kubernetes: &Kubernetes, folder: &Path) -> Result<()> {
    let index = kubernetes.raw("/openapi/v3")?;
    let paths = index["paths"].as_object().context("no list of APIs")?;
    let mut written = 0;
    for (path, place) in paths {
        if !(path.starts_with("apis/") || path == "api/v1") {
            continue;
        }
        let url = place["serverRelativeURL"].as_str();
        let document = kubernetes.raw(url.context("an API without an address")?)?;
        written += of_document(&document, folder)?;
    }
    match written {
        0 => bail!("the API server describes no kind"),
        _ => Ok(()),
    }
}

/// Writes a schema for each definition of prometheus-operator that the chart uses.
///
/// # Errors
/// When a definition is missing or not as expected.
pub(super) fn of_monitors(definitions: &Path, folder: &Path) -> Result<()> {
    for name in MONITORS {
        let path = definitions.join(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        of_definition(&serde_json::from_str(&text)?, folder)?;
    }
    Ok(())
}

/// Writes the schema of our own definition as it is in `file`: the API server
/// has none yet, or that of another version.
///
/// # Errors
/// When the file cannot be read as a definition.
pub(super) fn of_our_own(kubernetes: &Kubernetes, file: &Path, folder: &Path) -> Result<()> {
    let file = file.display().to_string();
    let create = ["create", "--dry-run=client", "--validate=false"];
    let text =
        kubernetes.kubectl(&[&create[..], &["--output=json", "--filename", &file]].concat())?;
    of_definition(&serde_json::from_str(&text)?, folder)
}

fn of_definition(definition: &Value, folder: &Path) -> Result<()> {
    let spec = &definition["spec"];
    let version = &spec["versions"][0];
    let mut schema = version["schema"]["openAPIV3Schema"].clone();
    if schema.is_null() {
        bail!("a definition without a schema");
    }
    close(&mut schema, true);
    // Every object has these; a definition need not name them.
    for (name, type_) in [
        ("apiVersion", "string"),
        ("kind", "string"),
        ("metadata", "object"),
    ] {
        schema["properties"][name] = json!({ "type": type_ });
    }
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind) = (word(&spec["group"]), word(&spec["names"]["kind"]));
    write(folder, &group, &word(&version["name"]), &kind, &schema)
}

fn of_document(document: &Value, folder: &Path) -> Result<usize> {
    let schemas = document["components"]["schemas"].as_object();
    let schemas = schemas.context("an API without schemas")?;
    let mut written = 0;
    for (name, schema) in schemas {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        let [kind] = kinds.map(Vec::as_slice).unwrap_or_default() else {
            // None, or something of all groups such as DeleteOptions.
            continue;
        };
        let word = |name: &str| kind[name].as_str().unwrap_or_default();
        let mut needed = BTreeSet::from([name.as_str()]);
        reach(schema, schemas, &mut needed);
        let parts: Map<String, Value> = needed
            .iter()
            .filter_map(|name| {
                let mut part = schemas.get(*name)?.clone();
                close(&mut part, true);
                Some(((*name).to_owned(), part))
            })
            .collect();
        let whole = json!({
            "$ref": format!("#/components/schemas/{name}"),
            "components": {"schemas": parts},
        });
        write(folder, word("group"), word("version"), word("kind"), &whole)?;
        written += 1;
    }
    Ok(written)
}

/// Adds the names of all schemas that `schema` refers to, however far.
fn reach<'a>(schema: &'a Value, all: &'a Map<String, Value>, needed: &mut BTreeSet<&'a str>) {
    match schema {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            let name = name.and_then(|path| path.strip_prefix("#/components/schemas/"));
            if let Some(name) = name
                && needed.insert(name)
                && let Some(next) = all.get(name)
            {
                reach(next, all, needed);
            }
            fields.values().for_each(|field| reach(field, all, needed));
        }
        Value::Array(items) => items.iter().for_each(|item| reach(item, all, needed)),
        _ => {}
    }
}

/// Refuses what a schema does not name, as the API server does with strict
/// validation. `schema` says whether this is one, and not a map of properties.
fn close(value: &mut Value, schema: bool) {
    let Value::Object(fields) = value else {
        if let Value::Array(items) = value {
            items.iter_mut().for_each(|item| close(item, true));
        }
        return;
    };
    if schema && fields.contains_key("properties") {
        let open = fields.contains_key("additionalProperties")
            || fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
        if !open {
            fields.insert("additionalProperties".into(), json!(false));
        }
    }
    for (name, field) in fields.iter_mut() {
        // What a field is called must not be taken for a word of the schema.
        close(field, !(schema && name == "properties"));
    }
}

fn write(folder: &Path, group: &str, version: &str, kind: &str, schema: &Value) -> Result<()> {
    let group = group.split('.').next().unwrap_or_default();
    let parts: Vec<&str> = [kind, group, version]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let path = folder.join(format!("{}.json", parts.join("-").to_lowercase()));
    fs::write(&path, schema.to_string()).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_written_by_its_group_and_kind_and_one_without_a_schema_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let schema = json!({"properties": {"spec": {"type": "object"}}});
        let mut definition = json!({"spec": {
            "group": "example.dev", "names": {"kind": "Queue"},
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}],
        }});
        of_definition(&definition, folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("queue-example-v1.json")).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["metadata"]["type"], "object");

        definition["spec"]["versions"] = json!([]);
        assert!(of_definition(&definition, folder.path()).is_err());
    }

    #[test]
    fn a_kind_is_written_with_all_that_it_refers_to_and_takes_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let document = json!({"components": {"schemas": {
            "a.Pod": {
                "properties": {"spec": {"allOf": [{"$ref": "#/components/schemas/a.Spec"}]}},
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
            },
            "a.Spec": {"properties": {"properties": {"type": "string"}}},
            "a.Other": {"type": "object"},
        }}});

        assert_eq!(of_document(&document, folder.path()).unwrap(), 1);

        let text = fs::read_to_string(folder.path().join("pod-v1.json")).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let parts = &schema["components"]["schemas"];
        assert_eq!(parts.as_object().unwrap().len(), 2);
        assert_eq!(parts["a.Spec"]["additionalProperties"], json!(false));
        // A field may be called `properties`.
        let field = json!({"properties": {"type": "string"}});
        assert_eq!(parts["a.Spec"]["properties"], field);
    }
}
