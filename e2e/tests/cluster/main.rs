//! What a user of a real cluster sees. `cargo xtask test` prepares the cluster,
//! installs the chart, and runs these: by themselves they fail for want of it.

// clippy knows only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod api;
mod children;
mod duplicate_token;
mod explain;
mod faults;
mod fields;
mod forward;
mod history;
mod kubectl;
mod life;
mod owners;
mod races;
mod random;
mod refusals;
mod restricted;
mod secret;
mod specs;
mod thousand;
mod trouble;
mod without_api_server;
mod without_wide_rights;
mod works_by_turns;
