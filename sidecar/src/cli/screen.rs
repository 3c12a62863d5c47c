//! Standard output, which may be a terminal.

use std::env;
use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

use super::color::Paint;

/// How to print to standard output.
pub(crate) struct Screen {
    pub(crate) paint: Paint,
    /// The maximum number of characters in a line.
    pub(crate) columns: usize,
}

impl Screen {
    pub(crate) fn detect() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let (no_color, term) = (env::var_os("NO_COLOR"), env::var_os("TERM"));
        let window = is_terminal.then(|| tcgetwinsize(&stdout).ok()).flatten();
        let columns = window.map(|window| usize::from(window.ws_col));
        Self {
            paint: Paint::wanted(is_terminal, no_color.as_deref(), term.as_deref()),
            // Some terminals do not know their size.
            columns: columns.filter(|columns| *columns > 1).unwrap_or(usize::MAX),
        }
    }
}

/// Writes to standard output, unless its reader has closed it.
pub(crate) fn write(text: &str) {
    let mut stdout = io::stdout();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}
