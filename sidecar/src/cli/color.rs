//! Colours, for terminals alone. Pure.

use std::ffi::OsStr;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// The names of columns.
    Head,
    /// All is well.
    Good,
    /// Something is wrong.
    Bad,
    /// Of no matter now.
    Faint,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Text alone.
    None,
    /// As terminals have understood it for decades.
    Ansi,
}

impl Paint {
    /// Colours are for a terminal that knows them, unless `NO_COLOR` is set to
    /// anything (no-color.org).
    pub fn wanted(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        let dumb = term.is_some_and(|term| term == "dumb");
        match is_terminal && !refused && !dumb {
            true => Self::Ansi,
            false => Self::None,
        }
    }

    /// The text, painted.
    pub fn apply(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::None, _) | (_, Tone::Plain) => return text.to_owned(),
            (Self::Ansi, Tone::Head) => 1,
            (Self::Ansi, Tone::Faint) => 2,
            (Self::Ansi, Tone::Bad) => 31,
            (Self::Ansi, Tone::Good) => 32,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_user_did_not_refuse_them() {
        let wanted = |is_terminal, no_color: Option<&str>, term: Option<&str>| {
            Paint::wanted(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert_eq!(wanted(true, None, Some("xterm")), Paint::Ansi);
        assert_eq!(wanted(true, Some(""), None), Paint::Ansi);
        assert_eq!(wanted(true, Some("0"), Some("xterm")), Paint::None);
        assert_eq!(wanted(true, None, Some("dumb")), Paint::None);
        assert_eq!(wanted(false, None, Some("xterm")), Paint::None);
    }

    #[test]
    fn what_is_not_painted_is_the_text_alone() {
        assert_eq!(Paint::None.apply(Tone::Bad, "no"), "no");
        assert_eq!(Paint::Ansi.apply(Tone::Plain, "so"), "so");
        assert_eq!(Paint::Ansi.apply(Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
    }
}
