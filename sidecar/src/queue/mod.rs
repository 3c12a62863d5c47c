//! The task that owns the queue, and the way to it.

pub mod handle;
pub mod messages;
pub mod task;
