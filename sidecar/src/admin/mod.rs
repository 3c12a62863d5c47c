//! The admin port: probes, metrics, state, events and the dashboard.

pub mod dashboard;
pub mod event_stream;
pub mod routes;
