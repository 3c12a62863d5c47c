//! Standard output, which may be a terminal.

use std::env;
use std::io::{self, IsTerminal, Stdout, Write};

use rustix::termios::tcgetwinsize;

use super::color::Paint;
use super::table::Room;

/// Standard output of this process.
#[derive(Debug)]
pub struct Screen {
    stdout: Stdout,
    /// Its colours.
    pub paint: Paint,
    /// What fits: a terminal scrolls, but does not widen.
    pub room: Room,
}

impl Screen {
    /// Standard output, as it is now.
    pub fn new() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let (no_color, term) = (env::var_os("NO_COLOR"), env::var_os("TERM"));
        let size = is_terminal.then(|| tcgetwinsize(&stdout).ok()).flatten();
        // Some terminals do not know their size.
        let columns = size.map(|size| usize::from(size.ws_col));
        let columns = columns.filter(|columns| *columns > 1);
        Self {
            stdout,
            paint: Paint::wanted(is_terminal, no_color.as_deref(), term.as_deref()),
            room: Room {
                columns: columns.unwrap_or(Room::PAPER.columns),
                ..Room::PAPER
            },
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// When the reader has closed it.
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
