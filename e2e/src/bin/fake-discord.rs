//! A Discord that enforces the rules of identifying. Once it listens, it prints one line of
//! JSON: `{"event": "listening", "discord": ADDRESS, "control": ADDRESS}`.

use std::process::ExitCode;

use gateway_queue_e2e::environment::Environment;
use gateway_queue_e2e::fake::Fake;
use gateway_queue_e2e::fake::settings::Settings;
use gateway_queue_e2e::program;
use serde_json::json;

#[tokio::main]
async fn main() -> ExitCode {
    program::end("fake-discord", run().await)
}

async fn run() -> anyhow::Result<()> {
    program::start_logs();
    let settings = Settings::read(&Environment(&|name| std::env::var(name).ok()))?;
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
        stop = program::stop_signal() => stop?,
    }
    Ok(())
}
