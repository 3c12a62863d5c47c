//! Labels and annotations of all objects of a queue.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Labels and annotations of all objects of the queue, and of its pods. Where service or pod set
/// the same key, their value takes precedence.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct InheritedMetadata {
    /// Labels of all objects. Keys under gatewayqueue.dev/ and the well-known labels that the
    /// operator sets are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,

    /// Annotations of all objects. Keys under gatewayqueue.dev/ are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::inherited_annotations")]
    pub annotations: Option<BTreeMap<String, String>>,
}
