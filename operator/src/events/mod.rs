//! Kubernetes events of GatewayQueues.

mod rate_limit;
mod record;
mod recorder;

pub use record::EventRecord;
pub use recorder::{EventRecorder, Pending, publish};
