//! Interrupts: the first Ctrl-C or kill lets a command stop in order and clean up; the
//! second one ends it at once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// What a shell expects from a program that Ctrl-C ended.
const EXIT_STATUS: i32 = 130;

/// Starts listening for signals.
pub fn listen() -> Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // The order matters: the first signal finds the flag unset, then sets it.
        flag::register_conditional_shutdown(signal, EXIT_STATUS, Arc::clone(&REQUESTED))
            .and_then(|_| flag::register(signal, Arc::clone(&REQUESTED)))
            .context("listening for signals")?;
    }
    Ok(())
}

/// Interrupts this command as Ctrl-C would, for example because a parallel part failed.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Returns whether this command was interrupted.
pub fn is_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Returns an error if this command was interrupted.
pub fn check() -> Result<()> {
    if is_requested() {
        return Err(Interrupted.into());
    }
    Ok(())
}

/// The cause of an error of an interrupted command.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Returns whether an error is the result of an interrupt.
pub fn caused(error: &anyhow::Error) -> bool {
    error.is::<Interrupted>()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_interrupt_is_recognized_behind_its_context() {
        let interrupted = anyhow::Error::from(Interrupted).context("starting the node");
        assert!(caused(&interrupted));
        assert!(!caused(
            &anyhow!("etcd exited").context("starting the node")
        ));
    }
}
