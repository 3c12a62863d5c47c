//! The real twilight shards of one pod. Prints each event as one line of JSON.

use std::process::ExitCode;

use gateway_queue_e2e::bot::{self, settings::Settings};
use gateway_queue_e2e::environment::Environment;
use gateway_queue_e2e::program;

#[tokio::main]
async fn main() -> ExitCode {
    program::end("bot", run().await)
}

async fn run() -> anyhow::Result<()> {
    program::start_logs();
    let settings = Settings::read(&Environment(&|name| std::env::var(name).ok()))?;
    bot::run(settings, program::stop_signal()).await
}
