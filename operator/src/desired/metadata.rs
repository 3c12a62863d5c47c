//! The labels and annotations that a spec sets on the objects of its queue.

use std::collections::BTreeMap;

use super::DOMAIN;
use crate::api::GatewayQueueSpec;

/// The labels and annotations that a spec sets on one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Asked {
    /// Those of all objects.
    pub(super) fn inherited(spec: &GatewayQueueSpec) -> Self {
        match &spec.inherited_metadata {
            Some(asked) => Self::default().with(asked.labels.as_ref(), asked.annotations.as_ref()),
            None => Self::default(),
        }
    }

    /// The same with those of one object, which take precedence. The schema rejects reserved
    /// keys, but it may be older than this operator.
    pub(super) fn with(
        mut self,
        labels: Option<&BTreeMap<String, String>>,
        annotations: Option<&BTreeMap<String, String>>,
    ) -> Self {
        let allowed = |asked: Option<&BTreeMap<String, String>>| {
            let mut allowed = asked.cloned().unwrap_or_default();
            allowed.retain(|key, _| !is_reserved(key));
            allowed
        };
        self.labels.extend(allowed(labels));
        self.annotations.extend(allowed(annotations));
        self
    }
}

/// Whether a key is one of the well-known labels that the operator sets.
pub fn is_well_known(key: &str) -> bool {
    let name = key.strip_prefix("app.kubernetes.io/");
    name.is_some_and(|name| matches!(name, "component" | "instance" | "managed-by" | "name"))
}

/// Whether a key is in our domain or a subdomain of it.
pub fn is_reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    let above = domain.strip_suffix(DOMAIN);
    above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
}
