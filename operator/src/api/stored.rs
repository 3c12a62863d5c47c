//! A GatewayQueue as the API server stores it. One that was accepted by another version of the
//! CRD may not fit the type, and must not stop the watch for all others.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{GatewayQueue, GatewayQueueSpec, GatewayQueueStatus, TokenSecretRef};

/// A stored GatewayQueue.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
pub enum Stored {
    /// It fits the type.
    Queue(Box<GatewayQueue>),
    /// Its spec does not fit the type.
    Unreadable(Box<Unreadable>),
}

/// A GatewayQueue whose spec cannot be read.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names of Kubernetes")]
pub struct Unreadable {
    pub metadata: ObjectMeta,
    pub status: Option<GatewayQueueStatus>,
    /// The token that its pods still use, if that can be read.
    pub token: Option<TokenSecretRef>,
    /// Which field cannot be read, and why.
    pub error: String,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl From<Raw> for Stored {
    fn from(raw: Raw) -> Self {
        let Raw {
            metadata,
            spec,
            status,
        } = raw;
        let metadata = trimmed(metadata);
        // A status that does not fit is replaced.
        let status = serde_json::from_value(status).unwrap_or_default();
        let spec = match spec {
            Value::Null => json!({}),
            spec => spec,
        };
        let token = spec.get("tokenSecretRef").cloned().unwrap_or_default();
        match serde_path_to_error::deserialize::<_, GatewayQueueSpec>(spec) {
            Ok(spec) => Self::Queue(Box::new(GatewayQueue {
                metadata,
                spec,
                status,
            })),
            Err(error) => Self::Unreadable(Box::new(Unreadable {
                metadata,
                status,
                token: serde_json::from_value(token).unwrap_or_default(),
                error: format!("spec.{}: {}", error.path(), error.inner()),
            })),
        }
    }
}

/// The metadata without the fields that the operator does not read. The managed fields alone take
/// more memory than the rest of the object.
fn trimmed(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        generation: metadata.generation,
        creation_timestamp: metadata.creation_timestamp,
        deletion_timestamp: metadata.deletion_timestamp,
        ..ObjectMeta::default()
    }
}

impl Stored {
    /// Its status.
    pub fn status(&self) -> Option<&GatewayQueueStatus> {
        match self {
            Self::Queue(queue) => queue.status.as_ref(),
            Self::Unreadable(unreadable) => unreadable.status.as_ref(),
        }
    }

    /// Where its token is stored, if it has one.
    pub fn token(&self) -> Option<&TokenSecretRef> {
        match self {
            Self::Queue(queue) => queue.spec.token_secret_ref.as_ref(),
            Self::Unreadable(unreadable) => unreadable.token.as_ref(),
        }
    }
}

impl Resource for Stored {
    type DynamicType = ();
    type Scope = <GatewayQueue as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        GatewayQueue::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        GatewayQueue::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        GatewayQueue::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        GatewayQueue::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Queue(queue) => &queue.metadata,
            Self::Unreadable(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Queue(queue) => &mut queue.metadata,
            Self::Unreadable(unreadable) => &mut unreadable.metadata,
        }
    }
}

/// The reference of a GatewayQueue among the stored ones.
pub(crate) fn reference(queue: &GatewayQueue) -> ObjectRef<Stored> {
    let mut reference = ObjectRef::new(&queue.name_any());
    reference.namespace = queue.namespace();
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(object: Value) -> Stored {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn an_object_that_fits_is_read_as_is() {
        let object = json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1", "kind": "GatewayQueue",
            "metadata": {"name": "my-bot"}, "spec": {"port": 7000},
            "status": {"url": "http://my-bot.shop.svc"},
        });
        let Stored::Queue(queue) = stored(object.clone()) else {
            panic!("it fits");
        };
        assert_eq!(*queue, serde_json::from_value(object).unwrap());
        let bare = stored(json!({"metadata": {"name": "bare"}}));
        assert!(matches!(bare, Stored::Queue(_)));
    }

    #[test]
    fn an_object_that_does_not_fit_keeps_its_name_and_names_the_field() {
        let object = json!({
            "metadata": {"name": "my-bot"},
            "spec": {"service": {"port": "abc"}, "tokenSecretRef": {"name": "discord"}},
            "status": {"url": "http://my-bot.shop.svc"},
        });
        let Stored::Unreadable(unreadable) = stored(object) else {
            panic!("it does not fit");
        };
        assert_eq!(unreadable.metadata.name.as_deref(), Some("my-bot"));
        let error = "spec.service.port: invalid type: string \"abc\", expected i32";
        assert_eq!(unreadable.error, error);
        assert!(unreadable.status.unwrap().url.is_some());
        assert_eq!(unreadable.token.unwrap().key, "token");
        let odd = stored(json!({"metadata": {"name": "odd"}, "spec": [1], "status": 7}));
        assert!(matches!(odd, Stored::Unreadable(_)));
    }
}
