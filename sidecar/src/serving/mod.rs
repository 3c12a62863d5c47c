//! The queue port and the peer port: one connection, one request, one response.

pub(crate) mod capacity;
pub(crate) mod cgroup;
pub(crate) mod framing;
pub(crate) mod gate;
pub mod http;
pub(crate) mod listen;
