use std::collections::HashMap;

use http::Method;
use http::request::Parts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::{Map, Value, json};

use crate::MANAGER;
use crate::testing::failure;

/// A mocked API server that stores what is applied, and records the calls.
#[derive(Default)]
pub(super) struct ApiServer {
    pub(super) calls: Vec<(Method, String)>,
    pub(super) objects: HashMap<String, Value>,
    /// The annotations of the last apply, by the path of the object.
    applied: HashMap<String, Vec<String>>,
    /// The writes to reject.
    pub(super) refuse: Option<Refusals>,
    /// The reads to reject.
    pub(super) hide: Option<Refusals>,
    /// The part of a path whose calls are never answered.
    pub(super) hang: Option<&'static str>,
    /// Whether the namespace is terminating.
    pub(super) terminates: bool,
    /// Changes each object that is written, by its path.
    pub(super) admission: Option<Admission>,
    /// The metadata of the GatewayQueues that are listed.
    pub(super) queues: Vec<Value>,
}

pub(super) type Admission = fn(&str, &mut Value);

/// Calls to reject: the part of the path, the code, and how many.
pub(super) type Refusals = (&'static str, u16, u32);

/// The code with which to reject a call, if it is one of those.
fn refusal(refusals: &mut Option<Refusals>, path: &str) -> Option<u16> {
    match refusals {
        Some((part, code, times)) if path.contains(*part) && *times > 0 => {
            *times -= 1;
            Some(*code)
        }
        _ => None,
    }
}

/// An API server overwrites the fields of others only by force, and checks a given UID.
fn conflict(query: &str, object: &Value, existing: &Value) -> Option<&'static str> {
    let uid = &object["metadata"]["uid"];
    if !uid.is_null() && *uid != existing["metadata"]["uid"] {
        return Some("the object has another uid");
    }
    (uid.is_null() || !query.contains("force=true")).then_some("the fields are another manager's")
}

impl ApiServer {
    /// The code and the body of a response; none if the call is never answered.
    pub(super) fn answer(&mut self, parts: &Parts, object: Value) -> Option<(u16, Value)> {
        let path = parts.uri.path();
        self.calls.push((parts.method.clone(), path.to_owned()));
        let hangs = self.hang.is_some_and(|part| path.contains(part));
        (!hangs).then(|| self.respond(parts, path, object))
    }

    fn respond(&mut self, parts: &Parts, path: &str, object: Value) -> (u16, Value) {
        let refusals = match parts.method {
            Method::GET => &mut self.hide,
            _ => &mut self.refuse,
        };
        if let Some(code) = refusal(refusals, path) {
            return failure(code, "it is forbidden here");
        }
        match parts.method {
            Method::GET => self.read(path),
            _ if self.terminates => terminating(),
            Method::DELETE => self.delete(path, &object["preconditions"]["uid"]),
            Method::POST => {
                let name = object["metadata"]["name"].as_str().unwrap();
                self.create(format!("{path}/{name}"), object)
            }
            _ => self.patch(parts, path, object),
        }
    }

    fn create(&mut self, path: String, object: Value) -> (u16, Value) {
        match self.objects.contains_key(&path) {
            true => failure(409, "there is one already"),
            false => self.store(path, object, "Update"),
        }
    }

    fn patch(&mut self, parts: &Parts, path: &str, mut object: Value) -> (u16, Value) {
        let kind = parts.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.map_or("", |kind| kind.to_str().unwrap());
        if path.ends_with("/status") {
            return self.write_status(path, kind, &object);
        }
        if !kind.starts_with("application/apply-patch") {
            return self.store(path.to_owned(), object, "Update");
        }
        let query = parts.uri.query().unwrap_or_default();
        let creates = !object["metadata"]["resourceVersion"].is_null();
        let cause = match self.objects.get(path) {
            Some(_) if creates => Some("the object has been modified"),
            Some(existing) => conflict(query, &object, existing),
            // It would take over an object that another client creates at this moment.
            None if !creates && object["metadata"]["uid"].is_null() => {
                return failure(400, "an object cannot be created like this");
            }
            None => None,
        };
        if let Some(cause) = cause {
            return failure(409, cause);
        }
        object["metadata"]["resourceVersion"] = Value::Null;
        self.apply_annotations(path, &mut object);
        self.store(path.to_owned(), object, "Apply")
    }

    fn read(&self, path: &str) -> (u16, Value) {
        if path.ends_with("/gatewayqueues") {
            let items = self.queues.iter();
            let items = items.map(|metadata| json!({ "metadata": metadata }));
            let items: Vec<_> = items.collect();
            return (200, json!({"metadata": {}, "items": items}));
        }
        match self.objects.get(path) {
            Some(object) => (200, object.clone()),
            None => failure(404, "not found"),
        }
    }

    /// Stores an object, with the operator as the owner of all of its fields.
    fn store(&mut self, path: String, mut object: Value, operation: &str) -> (u16, Value) {
        object["metadata"]["uid"] = json!("0042");
        object["metadata"]["name"] = json!(path.rsplit('/').next());
        object["spec"] = object.get("spec").cloned().unwrap_or_else(|| json!({}));
        let entries = |field: &str| -> Value {
            let all = object["metadata"][field].as_object().into_iter().flatten();
            all.map(|(key, _)| (format!("f:{key}"), json!({})))
                .collect::<Map<_, _>>()
                .into()
        };
        let group = path
            .trim_start_matches("/apis/")
            .trim_start_matches("/api/");
        let api_version = group.split("/namespaces/").next().unwrap().to_owned();
        let owner = &object["metadata"]["ownerReferences"][0]["uid"];
        let owner = format!("k:{}", json!({ "uid": owner }));
        // An empty set means all fields below.
        object["metadata"]["managedFields"] = json!([ManagedFieldsEntry {
            manager: Some(MANAGER.to_owned()),
            operation: Some(operation.to_owned()),
            api_version: Some(api_version),
            fields_v1: Some(FieldsV1(json!({
                "f:metadata": {
                    "f:labels": entries("labels"), "f:annotations": entries("annotations"),
                    "f:ownerReferences": {owner: {}},
                },
                "f:spec": {}, "f:rules": {}, "f:roleRef": {}, "f:subjects": {},
                "f:automountServiceAccountToken": {},
            }))),
            ..ManagedFieldsEntry::default()
        }]);
        if let Some(admission) = self.admission {
            admission(&path, &mut object);
        }
        self.objects.insert(path, object.clone());
        (200, object)
    }

    /// Replaces the status of the object of a UID. Any other request would keep what others
    /// wrote, or not check the UID.
    fn write_status(&mut self, path: &str, kind: &str, patch: &Value) -> (u16, Value) {
        let (test, add) = (&patch[0], &patch[1]);
        let does = |step: &Value, op, path| step["op"] == op && step["path"] == path;
        if kind != "application/json-patch+json"
            || !does(test, "test", "/metadata/uid")
            || !does(add, "add", "/status")
        {
            return failure(415, "this does not replace the status of one object");
        }
        let new = || json!({"metadata": {"uid": test["value"]}, "spec": {}});
        let object = self.objects.entry(path.to_owned()).or_insert_with(new);
        if object["metadata"]["uid"] != test["value"] {
            return failure(422, "the request is invalid");
        }
        object["status"] = add["value"].clone();
        (200, object.clone())
    }

    /// As server-side apply: keeps the annotations that were never applied, and removes those
    /// that were applied before and are not now.
    fn apply_annotations(&mut self, path: &str, object: &mut Value) {
        let now = object["metadata"]["annotations"].as_object();
        let now = now.into_iter().flatten();
        let now = now.map(|(key, _)| key.clone()).collect();
        let before = self.applied.insert(path.to_owned(), now);
        let before = before.unwrap_or_default();
        let existing = self.objects.get(path);
        let existing = existing.and_then(|object| object["metadata"]["annotations"].as_object());
        for (key, value) in existing.into_iter().flatten() {
            let annotations = &mut object["metadata"]["annotations"];
            if !before.contains(key) && annotations.get(key).is_none() {
                annotations[key] = value.clone();
            }
        }
    }

    fn delete(&mut self, path: &str, uid: &Value) -> (u16, Value) {
        match self.objects.get(path) {
            None => failure(404, "not found"),
            Some(object) if object["metadata"]["uid"] != *uid => failure(409, "another uid"),
            Some(_) => (200, self.objects.remove(path).unwrap()),
        }
    }

    /// The child of this kind.
    pub(super) fn object(&self, plural: &str) -> Value {
        let within = format!("/{plural}/");
        let mut objects = self.objects.iter();
        let found = objects.find(|(path, _)| path.contains(&within));
        found.unwrap().1.clone()
    }

    /// All children, by their paths.
    pub(super) fn children(&mut self) -> impl Iterator<Item = (&String, &mut Value)> {
        let objects = self.objects.iter_mut();
        objects.filter(|(path, _)| !path.contains("/gatewayqueues/"))
    }
}

/// The response to a write in a terminating namespace.
fn terminating() -> (u16, Value) {
    let causes = json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace",
                         "message": "namespace shop is being terminated"}]);
    let message = "services \"my-bot\" is forbidden: unable to create new content";
    let (code, mut status) = failure(403, message);
    status["reason"] = json!("Forbidden");
    status["details"] = json!({ "causes": causes });
    (code, status)
}
