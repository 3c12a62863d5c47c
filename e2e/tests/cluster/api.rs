//! The API server by plain HTTP: starting kubectl for each of thousands of requests would keep
//! the machine busy.

use std::time::Duration;

use http::{Method, Request};
use kube::core::Status;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::common::namespace;

/// The path of our CustomResourceDefinition.
pub(crate) const CRD: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gatewayqueues.gatewayqueue.dev";

/// The timeout of a request, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A kind of objects and its place in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) word: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
}

pub(crate) const fn kind(word: &'static str, version: &'static str, plural: &'static str) -> Kind {
    Kind {
        word,
        version,
        plural,
    }
}

pub(crate) const QUEUE: Kind = kind("GatewayQueue", "gatewayqueue.dev/v1alpha1", "gatewayqueues");
pub(crate) const DEPLOYMENT: Kind = kind("Deployment", "apps/v1", "deployments");
pub(crate) const SERVICE: Kind = kind("Service", "v1", "services");
pub(crate) const ACCOUNT: Kind = kind("ServiceAccount", "v1", "serviceaccounts");
pub(crate) const LEASE: Kind = kind("Lease", "coordination.k8s.io/v1", "leases");
pub(crate) const ROLE: Kind = kind("Role", "rbac.authorization.k8s.io/v1", "roles");
pub(crate) const BINDING: Kind = kind(
    "RoleBinding",
    "rbac.authorization.k8s.io/v1",
    "rolebindings",
);
pub(crate) const BUDGET: Kind = kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets");
pub(crate) const POLICY: Kind = kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies");
pub(crate) const CONFIG: Kind = kind("ConfigMap", "v1", "configmaps");
pub(crate) const POD: Kind = kind("Pod", "v1", "pods");
pub(crate) const EVENT: Kind = kind("Event", "events.k8s.io/v1", "events");

/// The kinds of the children of a GatewayQueue.
pub(crate) const CHILDREN: [Kind; 8] = [
    ACCOUNT, ROLE, BINDING, LEASE, SERVICE, BUDGET, POLICY, DEPLOYMENT,
];

impl Kind {
    /// The name of the child of a GatewayQueue.
    pub(crate) fn child_of(self, queue: &str) -> String {
        match self {
            SERVICE => queue.to_owned(),
            _ => format!("{queue}-queue"),
        }
    }

    /// The path of an object; with an empty name, of all objects of the kind.
    pub(crate) fn path(self, namespace: &str, name: &str) -> String {
        let root = if self.version.contains('/') {
            "apis"
        } else {
            "api"
        };
        let Self {
            version, plural, ..
        } = self;
        let all = format!("/{root}/{version}/namespaces/{namespace}/{plural}");
        match name {
            "" => all,
            name => format!("{all}/{name}"),
        }
    }
}

/// An object, or the error of the API server.
pub(crate) type Response = Result<Value, Box<Status>>;

/// A client of the API server.
pub(crate) struct Api {
    client: Client,
    runtime: Runtime,
}

impl Api {
    pub(crate) fn new() -> Self {
        // It may have been installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let mut config = Config::infer().await.unwrap();
            config.read_timeout = Some(TIMEOUT);
            Client::try_from(config).unwrap()
        });
        Self { client, runtime }
    }

    /// The objects of a kind.
    pub(crate) fn list(&self, kind: Kind, namespace: &str) -> Vec<Value> {
        let mut list = self.read(&kind.path(namespace, "")).unwrap();
        let items = list["items"].take();
        serde_json::from_value(items).unwrap()
    }

    /// An object, if it exists.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        match self.read(&kind.path(namespace, name)) {
            Ok(object) => Some(object),
            Err(refusal) if refusal.code == 404 => None,
            Err(refusal) => panic!("{} {name}: {refusal:?}", kind.word),
        }
    }

    /// The object at a path.
    pub(crate) fn read(&self, path: &str) -> Response {
        self.call(Method::GET, path, "json", &Value::Null)
    }

    /// The text at a path.
    pub(crate) fn text(&self, path: &str) -> kube::Result<String> {
        let request = Request::get(path).body(Vec::new()).unwrap();
        self.runtime.block_on(self.client.request_text(request))
    }

    /// Creates an object.
    pub(crate) fn create(&self, kind: Kind, namespace: &str, object: &Value) -> Response {
        self.post(&kind.path(namespace, ""), object)
    }

    /// Applies a GatewayQueue with this spec by server-side apply.
    pub(crate) fn apply_queue(&self, namespace: &str, name: &str, spec: &Value) -> Response {
        self.apply(QUEUE, namespace, name, &namespace::queue(name, spec))
    }

    /// Applies an object by server-side apply.
    pub(crate) fn apply(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        object: &Value,
    ) -> Response {
        let path = kind.path(namespace, name) + "?fieldManager=user&force=true";
        self.call(Method::PATCH, &path, "apply-patch+yaml", object)
    }

    /// Changes an object as another client, by a merge patch or, if it is a list, a JSON patch.
    pub(crate) fn patch(&self, kind: Kind, namespace: &str, name: &str, patch: &Value) -> Response {
        let path = kind.path(namespace, name) + "?fieldManager=another-client";
        let form = if patch.is_array() {
            "json-patch+json"
        } else {
            "merge-patch+json"
        };
        self.call(Method::PATCH, &path, form, patch)
    }

    /// Deletes an object, and its children in the background.
    pub(crate) fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Response {
        let path = kind.path(namespace, name);
        let background = json!({"propagationPolicy": "Background"});
        self.call(Method::DELETE, &path, "json", &background)
    }

    /// Posts an object, which may be one that is not stored, such as a review.
    pub(crate) fn post(&self, path: &str, object: &Value) -> Response {
        self.call(Method::POST, path, "json", object)
    }

    fn call(&self, method: Method, path: &str, form: &str, body: &Value) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", format!("application/{form}"));
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = request.body(body.into_bytes()).unwrap();
        let response = self.runtime.block_on(self.client.request(request));
        response.map_err(|error| match error {
            kube::Error::Api(status) => status,
            error => Status::failure(&format!("{error:?}"), "no response").boxed(),
        })
    }
}

/// The status, the reason and the message of a condition; empty if it is not set.
pub(crate) fn condition(queue: &Value, type_: &str) -> [String; 3] {
    let conditions = queue["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let condition = conditions.find(|condition| condition["type"] == type_);
    ["status", "reason", "message"].map(|field| {
        let text = condition.and_then(|condition| condition[field].as_str());
        text.unwrap_or_default().to_owned()
    })
}

/// Whether a pod is ready and not being deleted.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let [status, ..] = condition(pod, "Ready");
    status == "True" && pod["metadata"]["deletionTimestamp"].is_null()
}
