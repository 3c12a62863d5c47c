//! What the API server does with one Lease. No IO.

use gateway_queue_core::testing::merge;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A status that the API server answers instead of an object.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Status {
    pub(crate) fn new(code: u16, reason: &str, message: &str) -> Self {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "reason": reason, "message": message, "code": code});
        Self { code, body }
    }
}

/// One Lease and its history.
#[derive(Debug, Default)]
pub(crate) struct Store {
    lease: Option<Value>,
    version: u64,
    uids: u64,
    /// Each change, as a watch reports it, with its version.
    changes: Vec<(u64, Value)>,
}

impl Store {
    pub(crate) fn lease(&self) -> Option<&Value> {
        self.lease.as_ref()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn read(&self) -> Result<Value, Status> {
        let missing = || Status::new(404, "NotFound", "leases \"my-bot\" not found");
        self.lease.clone().ok_or_else(missing)
    }

    /// The changes after this version.
    pub(crate) fn after(&self, version: u64) -> impl Iterator<Item = &(u64, Value)> {
        self.changes.iter().filter(move |(at, _)| *at > version)
    }

    /// Creates the Lease, in place of one that is there, with a new UID.
    pub(crate) fn create(&mut self, mut lease: Value) {
        self.delete();
        self.uids += 1;
        lease["kind"] = json!("Lease");
        lease["metadata"]["uid"] = json!(format!("uid-{}", self.uids));
        self.store("ADDED", lease);
    }

    pub(crate) fn delete(&mut self) {
        if let Some(lease) = self.lease.clone() {
            self.store("DELETED", lease);
            self.lease = None;
        }
    }

    /// Applies a merge patch. One that names a UID or a version is a conflict when
    /// the Lease has another one.
    pub(crate) fn patch(&mut self, patch: &Value) -> Result<Value, Status> {
        let old = self.read()?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != old["metadata"][field] {
                return Err(Status::new(409, "Conflict", "the object has been modified"));
            }
        }
        let mut new = old.clone();
        merge(&mut new, patch);
        validate(&new["spec"])?;
        if new != old {
            self.store("MODIFIED", new);
        }
        self.read()
    }

    fn store(&mut self, kind: &str, mut lease: Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let event = json!({"type": kind, "object": lease});
        self.changes.push((self.version, event));
        self.lease = Some(lease);
    }
}

fn validate(spec: &Value) -> Result<(), Status> {
    for (field, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
        let value = &spec[field];
        let fits = |n: i64| (least..=i64::from(i32::MAX)).contains(&n);
        if !value.is_null() && !value.as_i64().is_some_and(fits) {
            return Err(Status::new(
                422,
                "Invalid",
                &format!("spec.{field}: {value}"),
            ));
        }
    }
    for field in ["acquireTime", "renewTime"] {
        let value = &spec[field];
        let is_time = |text: &str| text.parse::<Timestamp>().is_ok();
        if !value.is_null() && !value.as_str().is_some_and(is_time) {
            return Err(Status::new(
                400,
                "BadRequest",
                &format!("spec.{field}: {value}"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_another_version_or_lease_is_a_conflict() {
        let mut store = Store::default();
        assert_eq!(store.patch(&json!({})).unwrap_err().code, 404);
        store.create(json!({}));
        let write = |uid: &str, version: &str| {
            json!({"metadata": {"uid": uid, "resourceVersion": version},
                "spec": {"holderIdentity": version}})
        };
        store.patch(&write("uid-1", "1")).unwrap();
        assert_eq!(store.patch(&write("uid-1", "1")).unwrap_err().code, 409);
        store.create(json!({}));
        assert_eq!(store.patch(&write("uid-1", "4")).unwrap_err().code, 409);
        store.patch(&write("uid-2", "4")).unwrap();
        let kinds = store.after(0).map(|(_, event)| event["type"].clone());
        let kinds: Vec<_> = kinds.collect();
        assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED", "ADDED", "MODIFIED"]);
    }

    #[test]
    fn a_number_that_is_no_int32_is_refused() {
        let mut store = Store::default();
        store.create(json!({}));
        let too_many = json!({"spec": {"leaseTransitions": 2_147_483_648_u64}});
        assert_eq!(store.patch(&too_many).unwrap_err().code, 422);
        let no_time = json!({"spec": {"renewTime": "yesterday"}});
        assert_eq!(store.patch(&no_time).unwrap_err().code, 400);
    }
}
