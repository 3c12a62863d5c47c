//! A child of which the operator reads only the metadata.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicResourceScope;
use serde::Deserialize;

use crate::desired::Kind;
use crate::observe::compact_metadata::CompactMetadata;

/// The metadata of a child of any kind.
#[derive(Clone, Debug, Deserialize)]
pub struct ObservedChild {
    /// Its metadata.
    #[serde(default)]
    pub metadata: CompactMetadata,
}

impl Resource for ObservedChild {
    type DynamicType = Kind;
    type Scope = DynamicResourceScope;

    /// Whether the API server sends the metadata alone.
    fn metadata_api() -> bool {
        true
    }

    fn kind(kind: &Kind) -> Cow<'_, str> {
        kind.as_str().into()
    }

    fn group(kind: &Kind) -> Cow<'_, str> {
        kind.resource().group.into()
    }

    fn version(kind: &Kind) -> Cow<'_, str> {
        kind.resource().version.into()
    }

    fn plural(kind: &Kind) -> Cow<'_, str> {
        kind.resource().plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata.identity
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata.identity
    }
}
