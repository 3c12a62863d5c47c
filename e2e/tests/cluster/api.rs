//! The API server by plain HTTP, through a `kubectl proxy`: starting kubectl for each of
//! thousands of requests would keep the machine busy.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::background::Background;
use crate::shared::namespace;

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

const fn kind(word: &'static str, version: &'static str, plural: &'static str) -> Kind {
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
pub(crate) const POD: Kind = kind("Pod", "v1", "pods");
pub(crate) const EVENT: Kind = kind("Event", "events.k8s.io/v1", "events");

/// The kinds of the children of a GatewayQueue.
pub(crate) const CHILDREN: [Kind; 8] = [
    ACCOUNT, ROLE, BINDING, LEASE, SERVICE, BUDGET, POLICY, DEPLOYMENT,
];

impl Kind {
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

/// An error response of the API server.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) message: String,
}

type Response = Result<Value, Refusal>;

/// A client with its own proxy, which ends when this is dropped.
pub(crate) struct Api {
    _proxy: Background,
    base: String,
    http: Client,
    runtime: Runtime,
}

impl Api {
    /// Starts the proxy on a port of the system's choice.
    pub(crate) fn new() -> Self {
        let (proxy, address) = Background::start("proxy --address=127.0.0.1 --port=0");
        // It may have been installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            base: format!("http://{address}"),
            _proxy: proxy,
            http: Client::builder()
                .no_proxy()
                .timeout(TIMEOUT)
                .build()
                .unwrap(),
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
        }
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
            Err(Refusal { code: 404, .. }) => None,
            Err(refusal) => panic!("{} {name}: {refusal:?}", kind.word),
        }
    }

    /// The object at a path.
    pub(crate) fn read(&self, path: &str) -> Response {
        self.call(Method::GET, path, "", &Value::Null)
    }

    /// The text at a path.
    pub(crate) fn text(&self, path: &str) -> reqwest::Result<String> {
        let response = self.http.get(format!("{}{path}", self.base));
        self.runtime
            .block_on(async { response.send().await?.error_for_status()?.text().await })
    }

    /// Creates an object.
    pub(crate) fn create(&self, kind: Kind, namespace: &str, object: &Value) -> Response {
        self.post(&kind.path(namespace, ""), object)
    }

    /// Applies a GatewayQueue with this spec by server-side apply.
    pub(crate) fn apply_queue(&self, namespace: &str, name: &str, spec: &Value) -> Response {
        let path = QUEUE.path(namespace, name) + "?fieldManager=user&force=true";
        let queue = namespace::queue(name, spec);
        self.call(Method::PATCH, &path, "apply-patch+yaml", &queue)
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
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !body.is_null() {
            let form = format!("application/{form}");
            request = request.header("content-type", form).body(body.to_string());
        }
        let response = self.runtime.block_on(async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.text().await?))
        });
        let (status, text) = response.map_err(|error| Refusal {
            code: 0,
            message: format!("{error:?}"),
        })?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        Err(Refusal {
            code: status.as_u16(),
            message: body["message"].as_str().unwrap_or(&text).to_owned(),
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
