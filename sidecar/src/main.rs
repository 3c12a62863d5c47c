//! The entry point of `gateway-queue`.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use gateway_queue::cli::command::Command;
use gateway_queue::cli::{check, status};
use gateway_queue::config::Settings;
use gateway_queue::http_client::Unusable;
use gateway_queue::server;
use gateway_queue_telemetry::{chain, escaped};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The exit code of a command line or a setting that is not accepted.
const INVALID_COMMAND_LINE: u8 = 2;

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var_os(name);
    match Command::read(std::env::args_os().skip(1), environment) {
        Ok(Command::Serve(settings)) => serve(*settings),
        Ok(Command::Print(text)) => {
            // The reader may have closed the pipe.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Status(url, output)) => block_on(status::run(&url, output)),
        Ok(Command::Check(settings, output)) => block_on(check::run(settings.as_deref(), output)),
        Err(invalid) => {
            print_error(&invalid);
            ExitCode::from(INVALID_COMMAND_LINE)
        }
    }
}

/// Runs a command that returns its exit code.
fn block_on(command: impl Future<Output = Result<u8, Unusable>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime
        .map_err(Unusable::from)
        .and_then(|runtime| runtime.block_on(command));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => print_error(&*error),
    }
}

fn serve(settings: Settings) -> ExitCode {
    let log = gateway_queue_telemetry::start(settings.log_format, &settings.log_filter, &[]);
    if let Err(error) = log {
        return print_error(&error);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let result = runtime.map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(async {
            let shutdown = CancellationToken::new();
            shut_down_on_signals(&shutdown)?;
            server::run(settings, shutdown).await
        });
        // Without waiting for a name that is being resolved.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(failed) => print_error(&failed),
    }
}

/// Starts the shutdown at the first signal, and exits at the second. Must be called
/// within the runtime.
fn shut_down_on_signals(shutdown: &CancellationToken) -> std::io::Result<()> {
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

/// Prints the error and its causes as one line to standard error.
fn print_error(error: &(dyn Error + 'static)) -> ExitCode {
    let _ = writeln!(
        std::io::stderr(),
        "gateway-queue: {}",
        escaped(&chain(error))
    );
    ExitCode::FAILURE
}
