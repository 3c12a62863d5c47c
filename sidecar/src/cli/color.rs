//! Colors of the output on a terminal. Pure.

use std::ffi::OsStr;

/// The meaning of a text, which decides its color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Head,
    Good,
    Bad,
    Faint,
}

/// Whether the output is colored, with ANSI escape sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    None,
    Ansi,
}

impl Paint {
    /// Returns whether to color: on a terminal that is not dumb, unless `NO_COLOR` is set
    /// (no-color.org).
    pub(crate) fn wanted(
        is_terminal: bool,
        no_color: Option<&OsStr>,
        term: Option<&OsStr>,
    ) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        let dumb = term.is_some_and(|term| term == "dumb");
        if is_terminal && !refused && !dumb {
            Self::Ansi
        } else {
            Self::None
        }
    }

    /// Returns the text with its color.
    pub(crate) fn apply(self, tone: Tone, text: &str) -> String {
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
    fn only_terminals_show_colors_unless_the_user_refuses_them() {
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
    fn text_is_wrapped_in_escape_sequences_only_if_it_has_a_color() {
        assert_eq!(Paint::None.apply(Tone::Bad, "no"), "no");
        assert_eq!(Paint::Ansi.apply(Tone::Plain, "so"), "so");
        assert_eq!(Paint::Ansi.apply(Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
    }
}
