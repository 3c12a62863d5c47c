//! The clock, and the detection of stalls.

pub mod boot_time;
pub mod stall_detector;
