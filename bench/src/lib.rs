//! The benchmarks of the queue, beside its peer.
//!
//! A [`row::Row`] is a value: its name, its figures with their aims, and how they are measured.
//! [`rows::ROWS`] has all of them. Ours and the peer's server are driven alike, as black boxes on
//! loopback, and take turns (`turns.rs`). What needs a node of Kubernetes is measured by another
//! program (`node.rs`). `report/` prints the table and writes the document.

pub mod bench;
pub mod cli;
mod clients;
mod cpu_time;
mod node;
mod plot;
mod process;
mod report;
pub mod row;
pub mod rows;
mod server;
mod stats;
mod turns;
