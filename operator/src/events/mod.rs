//! Kubernetes events of GatewayQueues.

mod rate_limit;
mod record;
mod recorder;

pub use record::{EventRecord, Fault};
pub use recorder::{EventRecorder, Pending, publish};
