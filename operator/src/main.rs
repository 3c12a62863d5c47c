//! Turns a GatewayQueue into a running queue server.

use std::process::ExitCode;

use gateway_queue_operator::cli::{helm_test, settings};
use gateway_queue_operator::{api, runtime};
use gateway_queue_telemetry::{chain, escaped};

fn main() -> ExitCode {
    let command =
        settings::Command::read(std::env::args_os().skip(1), |name| std::env::var_os(name));
    let result = match command {
        Ok(settings::Command::Run(settings)) => runtime::run(settings),
        Ok(settings::Command::Crd) => print(api::CRD),
        Ok(settings::Command::Check(check)) => helm_test::run(check),
        Ok(settings::Command::Print(text)) => print(&text),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway-queue-operator: {}", escaped(&chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output. A closed pipe (`| head`) is an error, not a panic.
fn print(text: &str) -> Result<(), gateway_queue_operator::BoxError> {
    use std::io::Write as _;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
