//! Standard output: a terminal that is drawn anew, or something that is added to.

use std::env;
use std::io::{self, IsTerminal, Stdout, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::tcgetwinsize;

use super::paint::Paint;
use super::table::Room;

/// Where all is written to.
#[derive(Debug)]
pub struct Screen {
    stdout: Stdout,
    /// Whether what was written can be drawn over.
    redraws: bool,
    drawn: bool,
    /// Its colours.
    pub paint: Paint,
}

impl Screen {
    /// That of this process.
    pub fn new() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let (no_color, term) = (env::var_os("NO_COLOR"), env::var_os("TERM"));
        Self {
            stdout,
            redraws: is_terminal && term.as_deref().is_some_and(|term| term != "dumb"),
            drawn: false,
            paint: Paint::wanted(is_terminal, no_color.as_deref(), term.as_deref()),
        }
    }

    /// Whether a frame takes the place of the last one.
    pub fn redraws(&self) -> bool {
        self.redraws
    }

    /// How much fits at this moment.
    pub fn room(&self) -> Room {
        let size = self
            .redraws
            .then(|| tcgetwinsize(&self.stdout).ok())
            .flatten();
        match size {
            // Some terminals do not know.
            Some(size) if size.ws_row > 1 && size.ws_col > 1 => Room {
                // The last line is the cursor's.
                rows: usize::from(size.ws_row) - 1,
                columns: usize::from(size.ws_col),
            },
            _ => Room::PAPER,
        }
    }

    /// What ends a line: what stood there before goes.
    pub fn end_of_line(&self) -> &'static str {
        match self.redraws {
            true => "\x1b[K\n",
            false => "\n",
        }
    }

    /// Shows the next frame.
    ///
    /// # Errors
    ///
    /// When nobody reads any more.
    pub fn show(&mut self, frame: &str) -> io::Result<()> {
        let (before, after) = match (self.redraws, self.drawn) {
            (false, _) => ("", ""),
            (true, false) => ("\x1b[2J\x1b[H", "\x1b[J"),
            (true, true) => ("\x1b[H", "\x1b[J"),
        };
        self.drawn = true;
        self.write(&format!("{before}{frame}{after}"))
    }

    /// Writes this, whatever was there.
    ///
    /// # Errors
    ///
    /// When nobody reads any more.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()
    }

    /// Whether nobody reads any more: seen also while there is nothing to write.
    pub fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(&self.stdout, PollFlags::empty())];
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let polled = poll(&mut fds, Some(&now));
        polled.is_ok() && fds[0].revents().contains(PollFlags::ERR)
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}
