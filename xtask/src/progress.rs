//! One line for each step, with the seconds since the command began.

use std::fmt::Display;
use std::io::Write;
use std::time::Instant;

/// The clock and the voice of one command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    started: Instant,
}

impl Progress {
    /// Starts counting now.
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Whole seconds since the command began.
    pub(crate) fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Prints one line. A closed standard output is no reason to stop half-way
    /// through building a node, so it is ignored.
    pub(crate) fn say(&self, text: impl Display) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "[{:>4} s] {text}", self.seconds());
        let _ = out.flush();
    }
}
