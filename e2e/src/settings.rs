//! Reading the environment: values, and what is wrong with them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where variables are looked up: the environment, or what a test makes up.
pub struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

/// A variable that cannot be used. Never shows the value of a token.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is needed, and absent.
    #[error("{name} is not set; accepted is {accepted}")]
    Absent {
        /// The variable.
        name: &'static str,
        /// What it may hold.
        accepted: &'static str,
    },
    /// It holds something else than it may.
    #[error("{name} is {value:?}; accepted is {accepted}")]
    Unreadable {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        accepted: &'static str,
    },
}

/// The token of the bot. It is shown nowhere, also not when debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl<'a> Variables<'a> {
    /// Looks variables up with `lookup`, such as
    /// `&|name| std::env::var(name).ok()`.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self(lookup)
    }

    /// The value of a variable that must be there.
    ///
    /// # Errors
    ///
    /// When it is absent, empty, or not of the type.
    pub fn required<T: FromStr>(
        &self,
        name: &'static str,
        accepted: &'static str,
    ) -> Result<T, Unusable> {
        self.optional(name, accepted)?
            .ok_or(Unusable::Absent { name, accepted })
    }

    /// The value of a variable that may be absent or empty.
    ///
    /// # Errors
    ///
    /// When it is there, and not of the type.
    pub fn optional<T: FromStr>(
        &self,
        name: &'static str,
        accepted: &'static str,
    ) -> Result<Option<T>, Unusable> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| Unusable::Unreadable {
            name,
            value,
            accepted,
        })
    }

    /// The duration in a variable that may be absent or empty.
    ///
    /// # Errors
    ///
    /// When it is there, and not a positive duration.
    pub fn duration(&self, name: &'static str) -> Result<Option<Duration>, Unusable> {
        let accepted = "a duration above zero, such as 5s or 250ms";
        let Some(signed) = self.optional::<jiff::SignedDuration>(name, accepted)? else {
            return Ok(None);
        };
        match Duration::try_from(signed) {
            Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
            _ => Err(Unusable::Unreadable {
                name,
                value: self.text(name).unwrap_or_default(),
                accepted,
            }),
        }
    }

    /// The bot's token, from `DISCORD_TOKEN`.
    ///
    /// # Errors
    ///
    /// When it is absent or empty.
    pub fn token(&self) -> Result<Token, Unusable> {
        let name = "DISCORD_TOKEN";
        let accepted = "the token of the bot";
        match self.text(name) {
            Some(token) => Ok(Token(token)),
            None => Err(Unusable::Absent { name, accepted }),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

impl Token {
    /// The token itself, to be sent and compared, and never to be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::Variables;
    use std::time::Duration;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "PORT" => "8080",
            "INTERVAL" => "250ms",
            "BACKWARDS" => "-5s",
            "DISCORD_TOKEN" => "hunter2",
            "EMPTY" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn values_are_read_and_absent_ones_are_told_from_wrong_ones() {
        let variables = Variables::new(&lookup);
        assert_eq!(variables.required::<u16>("PORT", "a port").unwrap(), 8080);
        assert_eq!(variables.optional::<u16>("EMPTY", "a port").unwrap(), None);
        let absent = variables.required::<u16>("ABSENT", "a port").unwrap_err();
        assert_eq!(absent.to_string(), "ABSENT is not set; accepted is a port");
        let wrong = variables.required::<u8>("PORT", "0 to 255").unwrap_err();
        assert_eq!(wrong.to_string(), "PORT is \"8080\"; accepted is 0 to 255");
    }

    #[test]
    fn durations_carry_their_unit_and_are_above_zero() {
        let variables = Variables::new(&lookup);
        let interval = variables.duration("INTERVAL").unwrap();
        assert_eq!(interval, Some(Duration::from_millis(250)));
        for name in ["PORT", "BACKWARDS"] {
            let error = variables.duration(name).unwrap_err().to_string();
            assert!(error.contains("such as 5s or 250ms"), "{error}");
        }
    }

    #[test]
    fn a_token_is_not_shown_when_debugging() {
        let token = Variables::new(&lookup).token().unwrap();
        assert_eq!(token.reveal(), "hunter2");
        assert!(!format!("{token:?}").contains("hunter2"));
    }
}
