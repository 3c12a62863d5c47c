//! Standard output, which may be a terminal.

use std::env;
use std::io::{self, IsTerminal, Stdout, Write};

use rustix::termios::tcgetwinsize;

use super::color::Paint;
use super::table::Size;

/// Standard output of this process.
#[derive(Debug)]
pub struct Screen {
    stdout: Stdout,
    /// Whether it shows colors.
    pub paint: Paint,
    /// Its width; a terminal scrolls, so its height does not count.
    pub size: Size,
}

impl Screen {
    /// Detects the properties of standard output.
    pub fn new() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let (no_color, term) = (env::var_os("NO_COLOR"), env::var_os("TERM"));
        let window = is_terminal.then(|| tcgetwinsize(&stdout).ok()).flatten();
        // Some terminals do not know their size.
        let columns = window.map(|window| usize::from(window.ws_col));
        let columns = columns.filter(|columns| *columns > 1);
        Self {
            stdout,
            paint: Paint::wanted(is_terminal, no_color.as_deref(), term.as_deref()),
            size: Size {
                columns: columns.unwrap_or(Size::UNKNOWN.columns),
                ..Size::UNKNOWN
            },
        }
    }

    /// Writes the text.
    ///
    /// # Errors
    ///
    /// If the reader has closed it.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}
