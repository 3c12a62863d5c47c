//! The queue port and the peer port: one connection, one request, one response.

pub(crate) mod capacity;
pub(crate) mod cgroup;
mod connection;
mod handler;
pub mod http;
pub(crate) mod listen;
mod response;
mod socket;
