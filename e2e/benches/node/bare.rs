//! A client that creates what the operator creates, by the same requests, and does nothing else:
//! the best that an operator can do.

use serde_json::{Value, json};

use crate::api::{Api, CHILDREN, Kind};

/// The children of a GatewayQueue, to be applied with other names.
pub(crate) struct Children {
    model: String,
    /// As JSON.
    objects: Vec<(Kind, String)>,
}

impl Children {
    /// Copies the children of a GatewayQueue that has never had a leader.
    pub(crate) fn of(api: &Api, namespace: &str, model: &str) -> Self {
        let children = CHILDREN.into_iter();
        let children = children
            .filter_map(|kind| Some((kind, api.get(kind, namespace, &kind.child_of(model))?)));
        Self {
            model: model.to_owned(),
            objects: children
                .map(|(kind, object)| (kind, bare(object).to_string()))
                .collect(),
        }
    }

    /// The children of another name.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (Kind, Value)> {
        let objects = self.objects.iter();
        objects.map(move |(kind, object)| {
            let object = object.replace(&self.model, name);
            (*kind, serde_json::from_str(&object).unwrap())
        })
    }
}

/// The object as a client creates it. Without labels and owner, the operator does not watch it.
fn bare(mut object: Value) -> Value {
    let metadata = &object["metadata"];
    let mut annotations = metadata["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        // Others are those of controllers.
        annotations.retain(|name, _| name.starts_with("gatewayqueue.dev/"));
    }
    object["metadata"] = json!({"name": metadata["name"], "annotations": annotations});
    let fields = object.as_object_mut().unwrap();
    fields.remove("status");
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|field, _| !field.starts_with("clusterIP"));
    }
    object
}
