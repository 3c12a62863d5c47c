//! The entry point of `bench`, which `cargo xtask bench` builds and runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    match gateway_queue_bench::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
