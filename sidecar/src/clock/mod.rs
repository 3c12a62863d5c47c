//! The clock of the machine.

pub mod boot_time;
pub mod stall_detector;
