use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::client::Body;
use serde_json::{Map, Value, json};

use super::Pending;
use crate::MANAGER;

/// A mocked API server that stores what is applied, and records the calls.
#[derive(Clone, Default)]
pub(super) struct Server {
    pub(super) calls: Arc<Mutex<Vec<(Method, String)>>>,
    pub(super) objects: Arc<Mutex<HashMap<String, Value>>>,
    applied: Arc<Mutex<HashMap<String, Vec<String>>>>,
    pub(super) refuse: Arc<Mutex<Option<Refusals>>>,
    /// The same for reads.
    pub(super) hide: Arc<Mutex<Option<Refusals>>>,
    /// The part of a path whose calls are never answered.
    pub(super) hang: Arc<Mutex<Option<&'static str>>>,
    /// Whether the namespace is terminating.
    pub(super) terminates: Arc<AtomicBool>,
    /// Changes each object that is written, by its path.
    pub(super) admission: Arc<Mutex<Option<Admission>>>,
    /// The metadata of the GatewayQueues that are listed.
    pub(super) queues: Arc<Mutex<Vec<Value>>>,
    pub(super) events: Arc<Mutex<Option<Pending>>>,
}

pub(super) type Admission = fn(&str, &mut Value);

/// Calls to reject: the part of the path, the code, and how many.
pub(super) type Refusals = (&'static str, u16, u32);

/// The code with which to reject a call, if it is one of those.
fn refusal(refusals: &Mutex<Option<Refusals>>, path: &str) -> Option<u16> {
    match &mut *refusals.lock().unwrap() {
        Some((part, code, times)) if path.contains(*part) && *times > 0 => {
            *times -= 1;
            Some(*code)
        }
        _ => None,
    }
}

/// An API server overwrites the fields of others only by force, and checks a given UID.
fn conflict(query: &str, object: &Value, there: &Value) -> Option<&'static str> {
    let uid = &object["metadata"]["uid"];
    if !uid.is_null() && *uid != there["metadata"]["uid"] {
        return Some("the object has another uid");
    }
    (uid.is_null() || !query.contains("force=true")).then_some("the fields are another manager's")
}

pub(super) const PREFIX: &str =
    "/apis/gatewayqueue.dev/v1alpha1/namespaces/shop/gatewayqueues/my-bot";

impl Server {
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        self.calls
            .lock()
            .unwrap()
            .push((parts.method.clone(), path.clone()));
        let hangs = self
            .hang
            .lock()
            .unwrap()
            .is_some_and(|part| path.contains(part));
        if hangs {
            std::future::pending::<()>().await;
        }
        let refusals = match parts.method {
            Method::GET => &self.hide,
            _ => &self.refuse,
        };
        if let Some(code) = refusal(refusals, &path) {
            return failure(code, "it is forbidden here");
        }
        if parts.method == Method::GET && path.ends_with("/gatewayqueues") {
            let queues = self.queues.lock().unwrap();
            let items = queues
                .iter()
                .map(|metadata| json!({ "metadata": metadata }));
            let list = json!({"metadata": {}, "items": items.collect::<Vec<_>>()});
            return respond(200, &list);
        }
        if parts.method == Method::GET {
            return match self.objects.lock().unwrap().get(&path) {
                Some(object) => respond(200, object),
                None => failure(404, "not found"),
            };
        }
        if self.terminates.load(Ordering::Relaxed) {
            return terminating();
        }
        let body = body.collect_bytes().await.unwrap();
        let mut object: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = match parts.method {
            Method::POST => format!("{path}/my-bot"),
            _ => path,
        };
        if parts.method == Method::DELETE {
            return self.delete(&path, &object["preconditions"]["uid"]);
        }
        if parts.method == Method::POST && self.objects.lock().unwrap().contains_key(&path) {
            return failure(409, "there is one already");
        }
        let kind = parts.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.map_or("", |kind| kind.to_str().unwrap());
        if path.ends_with("/status") {
            return self.write_status(&path, kind, &object);
        }
        if kind.starts_with("application/apply-patch") {
            let there = self.objects.lock().unwrap().get(&path).cloned();
            let query = parts.uri.query().unwrap_or_default();
            let creates = !object["metadata"]["resourceVersion"].is_null();
            match there {
                Some(_) if creates => return failure(409, "the object has been modified"),
                Some(there) => {
                    if let Some(cause) = conflict(query, &object, &there) {
                        return failure(409, cause);
                    }
                }
                // It would take over an object that another client creates at this moment.
                None if !creates && object["metadata"]["uid"].is_null() => {
                    return failure(400, "an object cannot be created like this");
                }
                None => {}
            }
            object["metadata"]["resourceVersion"] = Value::Null;
            self.apply_annotations(&path, &mut object);
        }
        object["metadata"]["uid"] = json!("0042");
        object["metadata"]["name"] = json!("my-bot");
        object["spec"] = object.get("spec").cloned().unwrap_or_else(|| json!({}));
        let entries = |field: &str| -> Value {
            let all = object["metadata"][field].as_object().into_iter().flatten();
            all.map(|(key, _)| (format!("f:{key}"), json!({})))
                .collect::<Map<_, _>>()
                .into()
        };
        let operation = match kind.starts_with("application/apply-patch") {
            true => "Apply",
            false => "Update",
        };
        let group = path
            .trim_start_matches("/apis/")
            .trim_start_matches("/api/");
        let api_version = group.split("/namespaces/").next().unwrap().to_owned();
        let owner = &object["metadata"]["ownerReferences"][0]["uid"];
        let owner = format!("k:{}", json!({ "uid": owner }));
        // The operator owns everything: an empty set means all fields below.
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
        if let Some(admission) = *self.admission.lock().unwrap() {
            admission(&path, &mut object);
        }
        self.objects.lock().unwrap().insert(path, object.clone());
        respond(200, &object)
    }

    /// Replaces the status of the object of a UID. Any other request would keep what others
    /// wrote, or not check the UID.
    fn write_status(&self, path: &str, kind: &str, patch: &Value) -> Response<Body> {
        let (test, add) = (&patch[0], &patch[1]);
        let does = |step: &Value, op, path| step["op"] == op && step["path"] == path;
        if kind != "application/json-patch+json"
            || !does(test, "test", "/metadata/uid")
            || !does(add, "add", "/status")
        {
            return failure(415, "this does not replace the status of one object");
        }
        let mut objects = self.objects.lock().unwrap();
        let metadata = json!({ "uid": test["value"] });
        let object = objects
            .entry(path.to_owned())
            .or_insert_with(|| json!({ "metadata": metadata, "spec": {} }));
        if object["metadata"]["uid"] != test["value"] {
            return failure(422, "the request is invalid");
        }
        object["status"] = add["value"].clone();
        respond(200, object)
    }

    /// As server-side apply: keeps the annotations that were never applied, and removes those
    /// that were applied before and are not now.
    fn apply_annotations(&self, path: &str, object: &mut Value) {
        let now: Vec<String> = object["metadata"]["annotations"]
            .as_object()
            .map(|all| all.keys().cloned().collect())
            .unwrap_or_default();
        let mut applied = self.applied.lock().unwrap();
        let before = applied.insert(path.to_owned(), now).unwrap_or_default();
        let objects = self.objects.lock().unwrap();
        let there = objects
            .get(path)
            .map(|o| o["metadata"]["annotations"].clone());
        let there = there.as_ref().and_then(Value::as_object);
        for (key, value) in there.into_iter().flatten() {
            let annotations = &mut object["metadata"]["annotations"];
            if !before.contains(key) && annotations.get(key).is_none() {
                annotations[key] = value.clone();
            }
        }
    }

    fn delete(&self, path: &str, uid: &Value) -> Response<Body> {
        let mut objects = self.objects.lock().unwrap();
        match objects.get(path) {
            None => failure(404, "not found"),
            Some(object) if object["metadata"]["uid"] != *uid => failure(409, "another uid"),
            Some(_) => respond(200, &objects.remove(path).unwrap()),
        }
    }

    /// The reasons of the events since the last call.
    pub(super) fn take_events(&self) -> Vec<&'static str> {
        let mut events = self.events.lock().unwrap();
        let events = events.as_mut().unwrap();
        std::iter::from_fn(|| events.try_recv().ok())
            .map(|(_, event)| event.reason.as_str())
            .collect()
    }

    pub(super) fn take_calls(&self) -> Vec<(Method, String)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// The calls that change something.
    pub(super) fn take_writes(&self) -> Vec<String> {
        let calls = self.take_calls().into_iter();
        let writes = calls.filter(|(method, _)| *method != Method::GET);
        writes.map(|(_, path)| path).collect()
    }

    pub(super) fn object(&self, plural: &str) -> Value {
        let objects = self.objects.lock().unwrap();
        let found = objects
            .iter()
            .find(|(path, _)| path.ends_with(&format!("/{plural}/my-bot")));
        found.unwrap().1.clone()
    }

    pub(super) fn status(&self) -> Value {
        let objects = self.objects.lock().unwrap();
        objects[&format!("{PREFIX}/status")]["status"].clone()
    }
}

fn respond(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(serde_json::to_vec(body).unwrap());
    Response::builder().status(code).body(body).unwrap()
}

/// The response to a write in a terminating namespace.
fn terminating() -> Response<Body> {
    let causes = json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace",
                         "message": "namespace shop is being terminated"}]);
    respond(
        403,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                "reason": "Forbidden", "details": {"causes": causes},
                "message": "services \"my-bot\" is forbidden: unable to create new content"}),
    )
}

fn failure(code: u16, message: &str) -> Response<Body> {
    let reason = if code == 404 { "NotFound" } else { "" };
    respond(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": message, "reason": reason, "code": code}),
    )
}
