//! Progress on standard output.

use std::fmt::Display;
use std::io::Write;
use std::time::Instant;

/// Prints a command's progress, with the seconds since its start.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    started: Instant,
}

impl Progress {
    /// Starts counting now.
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Prints one line. A closed standard output is ignored: it must not leave a node
    /// half built.
    pub fn print(&self, text: impl Display) {
        let mut out = std::io::stdout().lock();
        let seconds = self.started.elapsed().as_secs();
        let _ = writeln!(out, "[{seconds:>4} s] {text}");
        let _ = out.flush();
    }
}
