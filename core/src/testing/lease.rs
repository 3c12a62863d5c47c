//! What the API server does with one Lease.

use jiff::Timestamp;
use serde_json::{Value, json};

/// Why a request about the Lease is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no Lease (404).
    Missing,
    /// The patch is for another Lease or another version of it (409).
    Conflict,
    /// The patched Lease would have this invalid field (422).
    Invalid(String),
}

/// The Lease, with its UIDs and versions.
#[derive(Debug, Default)]
pub struct Store {
    lease: Option<Value>,
    version: u64,
    uids: u64,
}

impl Store {
    /// Returns the Lease, if there is one.
    pub fn lease(&self) -> Option<&Value> {
        self.lease.as_ref()
    }

    /// Returns a number that is larger after each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the Lease.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn read(&self) -> Result<&Value, Refusal> {
        self.lease.as_ref().ok_or(Refusal::Missing)
    }

    /// Creates the Lease with a new UID.
    pub fn create(&mut self, mut lease: Value) {
        self.uids += 1;
        lease["kind"] = json!("Lease");
        lease["metadata"]["uid"] = json!(format!("uid-{}", self.uids));
        self.store(lease);
    }

    /// Deletes the Lease, and returns it with a new version.
    pub fn delete(&mut self) -> Option<Value> {
        let lease = self.lease.take()?;
        self.store(lease);
        self.lease.take()
    }

    /// Applies a merge patch.
    ///
    /// # Errors
    ///
    /// As [`patched`], or if there is no Lease.
    pub fn patch(&mut self, patch: &Value) -> Result<&Value, Refusal> {
        let old = self.read()?;
        let new = patched(old, patch)?;
        if new != *old {
            self.store(new);
        }
        self.read()
    }

    /// Applies a merge patch without any check, but keeps the UID.
    pub fn force(&mut self, patch: &Value) {
        if let Some(mut lease) = self.lease.take() {
            let uid = lease["metadata"]["uid"].clone();
            merge(&mut lease, patch);
            lease["metadata"]["uid"] = uid;
            self.store(lease);
        }
    }

    fn store(&mut self, mut lease: Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease);
    }
}

/// Returns the Lease after a merge patch.
///
/// # Errors
///
/// A conflict if the patch names another UID or version; otherwise an invalid field, as the API
/// server validates it.
pub fn patched(lease: &Value, patch: &Value) -> Result<Value, Refusal> {
    for field in ["uid", "resourceVersion"] {
        let wanted = &patch["metadata"][field];
        if !wanted.is_null() && *wanted != lease["metadata"][field] {
            return Err(Refusal::Conflict);
        }
    }
    for (field, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
        let fits = |n: i64| (least..=i64::from(i32::MAX)).contains(&n);
        validate(patch, field, |value| value.as_i64().is_some_and(fits))?;
    }
    for field in ["acquireTime", "renewTime"] {
        validate(patch, field, |value| {
            value.as_str().is_some_and(is_micro_time)
        })?;
    }
    let mut lease = lease.clone();
    merge(&mut lease, patch);
    Ok(lease)
}

fn validate(
    patch: &Value,
    field: &str,
    is_valid: impl FnOnce(&Value) -> bool,
) -> Result<(), Refusal> {
    match &patch["spec"][field] {
        Value::Null => Ok(()),
        value if is_valid(value) => Ok(()),
        value => Err(Refusal::Invalid(format!("spec.{field}: {value}"))),
    }
}

/// As Go reads `2006-01-02T15:04:05.000000Z07:00`: a year has four digits.
fn is_micro_time(time: &str) -> bool {
    let shape = time.bytes().map(|byte| match byte {
        b'0'..=b'9' => b'0',
        other => other,
    });
    shape.eq(*b"0000-00-00T00:00:00.000000Z") && time.parse::<Timestamp>().is_ok()
}

/// Applies a merge patch (RFC 7396).
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        return *target = patch.clone();
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_another_version_or_lease_is_a_conflict() {
        let mut store = Store::default();
        assert_eq!(store.patch(&json!({})), Err(Refusal::Missing));
        store.create(json!({}));
        let write = |uid: &str, version: &str| {
            json!({"metadata": {"uid": uid, "resourceVersion": version},
                "spec": {"holderIdentity": version}})
        };
        store.patch(&write("uid-1", "1")).unwrap();
        assert_eq!(store.patch(&write("uid-1", "1")), Err(Refusal::Conflict));
        store.create(json!({}));
        assert_eq!(store.patch(&write("uid-1", "3")), Err(Refusal::Conflict));
        store.patch(&write("uid-2", "3")).unwrap();
        // It changes nothing.
        assert_eq!(store.version(), 4);
        store.patch(&write("uid-2", "4")).unwrap();
        store
            .patch(&json!({"spec": {"holderIdentity": "4"}}))
            .unwrap();
        assert_eq!(store.version(), 5);
    }

    #[test]
    fn a_value_that_kubernetes_cannot_store_is_refused() {
        let mut store = Store::default();
        store.create(json!({}));
        for spec in [
            json!({"leaseTransitions": 2_147_483_648_u64}),
            json!({"leaseDurationSeconds": 0}),
            json!({"renewTime": "yesterday"}),
            json!({"acquireTime": "2026-11-27T03:04:05Z"}),
        ] {
            let refused = store.patch(&json!({"spec": spec})).unwrap_err();
            assert!(matches!(refused, Refusal::Invalid(_)), "{refused:?}");
        }
    }
}
