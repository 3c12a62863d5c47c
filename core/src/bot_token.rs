//! The bot's token.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::lease_state::TokenState;

/// A bot token that fits into a header. It is never printed: its `Debug` shows no character of it,
/// and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct BotToken(String);

/// Why a text is not a token, without quoting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// The text has nothing but white space.
    #[error("it is empty")]
    Empty,
    /// The text does not fit into a header.
    #[error(
        "it contains characters that no token has; a token is one line of letters, digits, '.', '-' and '_'"
    )]
    Strange,
}

impl BotToken {
    /// Reads a token, without white space around it and a leading `Bot `.
    ///
    /// # Errors
    ///
    /// If nothing is left, or it cannot be a token.
    pub fn parse(text: &str) -> Result<Self, NoToken> {
        let text = text.trim();
        let text = match text.strip_prefix("Bot") {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => rest.trim(),
            _ => text,
        };
        match text {
            "" => Err(NoToken::Empty),
            _ if text.bytes().all(|b| b.is_ascii_graphic()) => Ok(Self(text.to_owned())),
            _ => Err(NoToken::Strange),
        }
    }

    /// Returns a part of the token's hash, which distinguishes it from others. A token has too many
    /// random bits to be derived from it.
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::digest(&self.0);
        hash.iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Returns the value of the `Authorization` header.
    pub fn authorization(&self) -> String {
        format!("Bot {}", self.0)
    }
}

impl fmt::Debug for BotToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BotToken(…)")
    }
}

/// The token at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// No token is configured.
    None,
    /// A token is configured but missing, with the error.
    Missing(String),
    /// The token.
    Token(BotToken),
}

impl Current {
    /// Returns the state of the token before Discord has responded to it.
    pub fn state(&self) -> TokenState {
        match self {
            Self::None => TokenState::None,
            Self::Missing(_) => TokenState::Missing,
            Self::Token(_) => TokenState::Unchecked,
        }
    }

    /// Returns the token, if there is one.
    pub fn token(&self) -> Option<&BotToken> {
        match self {
            Self::Token(token) => Some(token),
            Self::Missing(_) | Self::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_and_never_printed() {
        let token = BotToken::parse(" Bot abc.def-123_x\n").unwrap();
        assert_eq!(token.authorization(), "Bot abc.def-123_x");
        assert_eq!(format!("{token:?}"), "BotToken(…)");
        assert_eq!(token, BotToken::parse("abc.def-123_x").unwrap());
    }

    #[test]
    fn a_fingerprint_distinguishes_tokens() {
        let fingerprint = |text| BotToken::parse(text).unwrap().fingerprint();
        assert_eq!(fingerprint("abc"), fingerprint("Bot abc"));
        assert_ne!(fingerprint("abc"), fingerprint("abd"));
        assert_eq!(fingerprint("abc").len(), 8);
    }

    #[test]
    fn text_that_cannot_be_a_token_is_refused_without_quoting_it() {
        assert_eq!(BotToken::parse(" \n"), Err(NoToken::Empty));
        assert_eq!(BotToken::parse("Bot "), Err(NoToken::Empty));
        for text in ["two\nlines", "sp ace", "é", "a\0b"] {
            let error = BotToken::parse(text).unwrap_err();
            assert!(!error.to_string().contains(text));
        }
    }
}
