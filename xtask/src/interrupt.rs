//! Ctrl-C and kill: remembered, and asked for wherever something waits, so that
//! a command stops in order and cleans up. The second one ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// What a shell expects from a program that Ctrl-C ended.
const EXIT_STATUS: i32 = 130;

/// Starts listening.
///
/// # Errors
/// When the system refuses a signal handler.
pub(crate) fn listen() -> Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // The order matters: the first signal finds the flag unset, and sets it.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            EXIT_STATUS,
            Arc::clone(&REQUESTED),
        )
        .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&REQUESTED)))
        .context("listening for signals")?;
    }
    Ok(())
}

/// Stops this command as Ctrl-C would: when one half of it failed, the other
/// need not go on.
pub(crate) fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Whether someone asked this command to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Ends the step at hand when someone asked for it.
///
/// # Errors
/// When the command was interrupted.
pub(crate) fn check() -> Result<()> {
    if requested() {
        return Err(Interrupted.into());
    }
    Ok(())
}

/// Why a step ended before its time.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether an error is an interruption, and not a failure of its own.
pub(crate) fn caused(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Interrupted>().is_some()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_interruption_is_told_from_a_failure_whatever_was_said_about_it() {
        assert!(caused(
            &anyhow::Error::from(Interrupted).context("starting the node")
        ));
        assert!(!caused(&anyhow!("etcd ended").context("starting the node")));
    }
}
