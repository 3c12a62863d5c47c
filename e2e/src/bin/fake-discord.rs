//! A Discord that enforces the rules of identifying. When it listens it says so
//! in one line of JSON: `{"event": "listening", "discord": ADDRESS, "control": ADDRESS}`.

use std::process::ExitCode;

use gateway_queue_e2e::fake::Fake;
use gateway_queue_e2e::fake::settings::Settings;
use gateway_queue_e2e::program;
use gateway_queue_e2e::settings::Variables;
use serde_json::json;

#[tokio::main]
async fn main() -> ExitCode {
    program::end("fake-discord", run().await)
}

async fn run() -> anyhow::Result<()> {
    program::start_logs();
    let settings = Settings::read(&Variables::new(&|name| std::env::var(name).ok()))?;
    let fake = Fake::bind(settings).await?;
    let addresses = fake.addresses()?;
    println!(
        "{}",
        json!({
            "event": "listening",
            "discord": addresses.discord,
            "control": addresses.control,
        })
    );
    tokio::select! {
        served = fake.serve() => served?,
        told = program::told_to_stop() => told?,
    }
    Ok(())
}
