//! `gateway-queue`: arguments in, exit code out.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use gateway_queue::cli::command::{Command, Refused};
use gateway_queue::cli::{check, status};
use gateway_queue::config::{LogFormat, Settings};
use gateway_queue::http_client::Unusable;
use gateway_queue::server;
use gateway_queue_telemetry::{Format, chain, escaped};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var_os(name);
    match Command::read(std::env::args_os().skip(1), environment) {
        Ok(Command::Run(settings)) => run(*settings),
        Ok(Command::Print(text)) => {
            // A closed pipe is the reader's wish.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Status(wanted)) => say(status::run(&wanted)),
        Ok(Command::Check(settings, output)) => say(check::run(settings.as_deref(), output)),
        Err(Refused { why, exit_code }) => {
            fail(&why);
            ExitCode::from(exit_code)
        }
    }
}

/// A command that ends by itself, and says with which code.
fn say(command: impl Future<Output = Result<u8, Unusable>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Unusable::from)
        .and_then(|runtime| runtime.block_on(command));
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&*error),
    }
}

fn run(settings: Settings) -> ExitCode {
    if let Err(error) = log(&settings) {
        return fail(&error);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            let shutdown = CancellationToken::new();
            end_on_signals(&shutdown)?;
            server::run(settings, shutdown).await
        })
    });
    match ended {
        Ok(()) => {
            info!("ended");
            ExitCode::SUCCESS
        }
        Err(failed) => fail(&failed),
    }
}

/// The first signal asks the queue to end, a second ends it at once. Must be
/// called within the runtime.
fn end_on_signals(shutdown: &CancellationToken) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            signals.recv().await;
            if shutdown.is_cancelled() {
                std::process::exit(1);
            }
            shutdown.cancel();
            signals.recv().await;
            std::process::exit(1);
        });
    }
    Ok(())
}

fn log(settings: &Settings) -> Result<(), gateway_queue_telemetry::Error> {
    let format = match settings.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    gateway_queue_telemetry::start(format, &settings.log_filter, &[])
}

/// One line on standard error.
fn fail(why: &(dyn Error + 'static)) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "gateway-queue: {}", escaped(&chain(why)));
    ExitCode::FAILURE
}
