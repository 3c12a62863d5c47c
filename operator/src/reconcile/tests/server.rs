use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::client::Body;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::Receiver;

use super::{Note, ObjectReference};
use crate::MANAGER;

/// An API server that keeps what is applied, and a list of the calls.
#[derive(Clone, Default)]
pub(super) struct Server {
    pub(super) calls: Arc<Mutex<Vec<(Method, String)>>>,
    pub(super) objects: Arc<Mutex<HashMap<String, Value>>>,
    applied: Arc<Mutex<HashMap<String, Vec<String>>>>,
    pub(super) refuse: Arc<Mutex<Option<Refusals>>>,
    /// The same of reads.
    pub(super) hide: Arc<Mutex<Option<Refusals>>>,
    /// A part of a path that is never answered.
    pub(super) hang: Arc<Mutex<Option<&'static str>>>,
    /// The namespace is on its way out.
    pub(super) ends: Arc<AtomicBool>,
    /// What admission makes of each object that is written, at its path.
    pub(super) admission: Arc<Mutex<Option<Admission>>>,
    /// The metadata of the GatewayQueues that are listed.
    pub(super) queues: Arc<Mutex<Vec<Value>>>,
    /// What is left for the events.
    pub(super) notes: Arc<Mutex<Option<Notes>>>,
}

pub(super) type Notes = Receiver<(ObjectReference, Note)>;

pub(super) type Admission = fn(&str, &mut Value);

/// Calls that will be refused: the part of the path, how, and how many.
pub(super) type Refusals = (&'static str, u16, u32);

/// Whether this call is one of those to be refused, and how.
fn refusal(refusals: &Mutex<Option<Refusals>>, path: &str) -> Option<u16> {
    match &mut *refusals.lock().unwrap() {
        Some((part, code, times)) if path.contains(*part) && *times > 0 => {
            *times -= 1;
            Some(*code)
        }
        _ => None,
    }
}

/// An API server applies over the fields of others only by force, and to the
/// object of a UID only if it has that one.
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
        if self.ends.load(Ordering::Relaxed) {
            return ending();
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
                    if let Some(why) = conflict(query, &object, &there) {
                        return failure(409, why);
                    }
                }
                // What a stranger makes in this moment would be taken over.
                None if !creates && object["metadata"]["uid"].is_null() => {
                    return failure(400, "this is no way to create an object");
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
        // All of it is ours. Where entries have no owners of their own, an empty set
        // stands for everything below.
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

    /// Replaces the status of the object of a UID. Any other way to write it would
    /// leave what others wrote, or not look at the UID.
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
        // Which GatewayQueues there are, only the watch knows.
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

    /// Keeps the annotations that were never applied, and removes those that
    /// were, and are not now: as applying on a server does.
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

    /// The reasons of the events since the last look.
    pub(super) fn take_notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap();
        let notes = notes.as_mut().unwrap();
        std::iter::from_fn(|| notes.try_recv().ok())
            .map(|(_, note)| note.reason)
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

/// The answer to whoever makes something in a namespace that ends.
fn ending() -> Response<Body> {
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
