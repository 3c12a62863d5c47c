//! Settings from environment variables.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;

/// Looks up environment variables, or those of a test.
pub struct Environment<'a>(pub &'a dyn Fn(&str) -> Option<String>);

/// The bot's token. Its debug output does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl Environment<'_> {
    /// Returns the value of a variable.
    ///
    /// # Errors
    /// If the variable is unset, empty or not of the type.
    pub fn required<T: FromStr>(&self, name: &str, accepted: &str) -> anyhow::Result<T> {
        self.optional(name, accepted)?
            .with_context(|| format!("{name} is not set. Accepted: {accepted}"))
    }

    /// Returns the value of a variable, or the default if it is unset or empty.
    ///
    /// # Errors
    /// If the variable is set to something that is not of the type.
    pub fn or<T: FromStr>(&self, default: T, name: &str, accepted: &str) -> anyhow::Result<T> {
        Ok(self.optional(name, accepted)?.unwrap_or(default))
    }

    /// Returns the value of a variable that may be unset or empty.
    ///
    /// # Errors
    /// If the variable is set to something that is not of the type.
    pub fn optional<T: FromStr>(&self, name: &str, accepted: &str) -> anyhow::Result<Option<T>> {
        let Some(value) = (self.0)(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let parsed = value.parse().ok();
        let parsed = parsed.with_context(|| format!("{name} is {value:?}. Accepted: {accepted}"));
        parsed.map(Some)
    }

    /// Returns the token, from `DISCORD_TOKEN`.
    ///
    /// # Errors
    /// If the variable is unset or empty.
    pub fn token(&self) -> anyhow::Result<Token> {
        self.required("DISCORD_TOKEN", "the token of the bot")
            .map(Token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_and_invalid_variables_are_reported_with_what_is_accepted() {
        let environment = Environment(&|name| match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        });
        assert_eq!(environment.required::<u16>("PORT", "a port").unwrap(), 8080);
        assert_eq!(
            environment.optional::<u16>("EMPTY", "a port").unwrap(),
            None
        );
        let unset = environment.required::<u16>("UNSET", "a port").unwrap_err();
        assert_eq!(unset.to_string(), "UNSET is not set. Accepted: a port");
        let invalid = environment.required::<u8>("PORT", "0 to 255").unwrap_err();
        assert_eq!(invalid.to_string(), "PORT is \"8080\". Accepted: 0 to 255");
    }
}
