//! One term of the queue, and what can be seen of it.

pub mod explain;
pub mod limits;
pub mod snapshot;
pub mod state_json;
pub mod term_queue;
