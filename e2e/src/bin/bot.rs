//! The real twilight shards of one pod. Prints each event as one line of JSON.

use std::process::ExitCode;

use gateway_queue_e2e::bot::{self, settings::Settings};
use gateway_queue_e2e::program;

#[tokio::main]
async fn main() -> ExitCode {
    program::run("bot", async |environment| {
        bot::run(Settings::read(environment)?, program::stop_signal()).await
    })
    .await
}
