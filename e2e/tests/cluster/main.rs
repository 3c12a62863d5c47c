//! What a user of a real cluster sees. `cargo xtask test` prepares the cluster,
//! installs the chart, and runs these: by themselves they fail for want of it.

// clippy knows only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod faults;
mod forward;
mod kubectl;
mod life;
mod refusals;
mod secret;
mod without_api_server;
