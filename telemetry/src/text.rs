//! Text for people: errors with their causes, without terminal control characters.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::Format;

/// Returns an error and its causes on one line: `cannot connect: Connection refused`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors include their cause.
        if !text.contains(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Escapes text from outside for a terminal: control characters, and characters that change
/// the direction of the text.
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |c, escapes| {
        escapes.extend(c.escape_default());
    })
}

/// Escapes the same characters in a JSON document, without changing its meaning.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    replaced(json, |c, escapes| match c {
        // Only allowed between values.
        '\n' | '\r' | '\t' => escapes.push(' '),
        // All of them are in the Basic Multilingual Plane.
        c => {
            let _ = write!(escapes, "\\u{:04x}", u32::from(c));
        }
    })
}

fn replaced(text: &str, replace: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(controls_a_terminal) {
        return Cow::Borrowed(text);
    }
    let mut escapes = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if controls_a_terminal(c) {
            replace(c, &mut escapes);
        } else {
            escapes.push(c);
        }
    }
    Cow::Owned(escapes)
}

fn controls_a_terminal(c: char) -> bool {
    let turns_text = matches!(
        c,
        '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || turns_text
}

/// Writes each event as one line, whatever its fields contain.
#[derive(Debug)]
pub(crate) struct LineWriter<W> {
    pub(crate) inner: W,
    pub(crate) format: Format,
    pub(crate) colored: bool,
}

impl<W> LineWriter<W> {
    fn line(&self, event: &str) -> String {
        let event = event.strip_suffix('\n').unwrap_or(event);
        let line = match self.format {
            Format::Json => escaped_json(event).into_owned(),
            Format::Text if self.colored => {
                // The escape characters are those of the colors: the formatter has escaped all
                // others.
                let parts: Vec<_> = event.split('\x1b').map(escaped).collect();
                parts.join("\x1b")
            }
            Format::Text => escaped(event).into_owned(),
        };
        line + "\n"
    }
}

impl<W: Write> Write for LineWriter<W> {
    /// Writes an event, which the formatter passes as a whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = self.line(&String::from_utf8_lossy(event));
        self.inner.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::prelude::*;

    use super::*;

    const EVIL: &str = "a\x1b[31m\u{9b}2J\r\n\t\x07\u{202e}b\x7fö";

    #[test]
    fn characters_that_control_a_terminal_are_escaped() {
        assert_eq!(
            escaped(EVIL),
            "a\\u{1b}[31m\\u{9b}2J\\r\\n\\t\\u{7}\\u{202e}b\\u{7f}ö"
        );
        assert!(matches!(escaped("plain ö"), Cow::Borrowed(_)));
        let json = "{\"a\": \"\u{9b}2J\u{202e}\",\r\n\t\"b\": 1}";
        assert_eq!(
            escaped_json(json),
            "{\"a\": \"\\u009b2J\\u202e\",   \"b\": 1}"
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect{}", .0.as_ref().map_or("", |_| ": it is down"))]
    struct Failed(Option<u8>, #[source] io::Error);

    #[test]
    fn each_cause_of_an_error_is_included_once() {
        let down = io::Error::other("it is down");
        assert_eq!(chain(&Failed(None, down)), "cannot connect: it is down");
        let down = io::Error::other("it is down");
        assert_eq!(chain(&Failed(Some(1), down)), "cannot connect: it is down");
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Shared {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_log_line_is_one_line_without_control_characters_whatever_its_fields_contain() {
        for format in [Format::Text, Format::Json] {
            for colored in [false, true] {
                let log = Shared::default();
                let sink = log.clone();
                let layer = crate::lines(format, colored, move || sink.clone());
                let subscriber = tracing_subscriber::registry().with(layer);
                tracing::subscriber::with_default(subscriber, || {
                    tracing::warn!(error = %EVIL, debug = ?EVIL, text = EVIL, "message {EVIL}");
                });
                let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
                assert_eq!(log.matches('\n').count(), 1, "{log:?}");
                // Only colors.
                let rest = log.trim_end().replace("\x1b[", "");
                assert!(colored || rest == log.trim_end(), "{log:?}");
                assert!(!rest.contains(controls_a_terminal), "{log:?}");
                assert!(!log.contains("\x1b[31m"), "{log:?}");
            }
        }
    }
}
