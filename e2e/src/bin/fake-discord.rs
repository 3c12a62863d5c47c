//! A Discord that enforces the rules of identifying. Once it listens, it prints one line of
//! JSON: `{"event": "listening", "discord": ADDRESS, "control": ADDRESS}`.

use std::process::ExitCode;

use gateway_queue_e2e::fake::{self, settings::Settings};
use gateway_queue_e2e::program;

#[tokio::main]
async fn main() -> ExitCode {
    program::run("fake-discord", async |environment| {
        fake::run(Settings::read(environment)?, program::stop_signal()).await
    })
    .await
}
