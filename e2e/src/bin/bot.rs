//! A pod's worth of real twilight shards; what happens to them is said on
//! standard output, one line of JSON for each event.

use std::process::ExitCode;

use gateway_queue_e2e::bot::{self, settings::Settings};
use gateway_queue_e2e::program;
use gateway_queue_e2e::settings::Variables;

#[tokio::main]
async fn main() -> ExitCode {
    program::end("bot", run().await)
}

async fn run() -> anyhow::Result<()> {
    program::start_logs();
    let settings = Settings::read(&Variables::new(&|name| std::env::var(name).ok()))?;
    bot::run(settings, async { program::told_to_stop().await }).await
}
