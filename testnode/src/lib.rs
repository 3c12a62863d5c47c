//! A single-node Kubernetes for tests, in namespaces of this machine. See the README for
//! what it starts and where it keeps its files.
//!
//! [`host`] and [`programs`] are also the base of the developer's commands.

pub mod host;
pub mod image;
mod network_settings;
pub mod node;
pub mod programs;

pub use network_settings::NetworkSettings;
