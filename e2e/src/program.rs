//! The start and the end of both programs.

use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::environment::Environment;

/// Runs a program with the variables of its environment. Prints an error in one line.
pub async fn run(
    name: &str,
    program: impl AsyncFnOnce(&Environment<'_>) -> anyhow::Result<()>,
) -> ExitCode {
    start_logs();
    match program(&Environment(&|name| std::env::var(name).ok())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns at the first SIGTERM or SIGINT. In a container the program is process 1, which no
/// signal ends by default.
///
/// # Errors
/// If a signal handler cannot be installed.
pub async fn stop_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Logs to standard error; standard output belongs to the events.
fn start_logs() {
    let wanted = std::env::var("RUST_LOG").ok();
    let filter = wanted.and_then(|wanted| wanted.parse().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
}
