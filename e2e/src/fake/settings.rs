//! What a fake Discord is told at its start.

use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::rules::Allowance;
use crate::settings::{Token, Unusable, Variables};

/// The settings of a fake Discord, from the environment.
#[derive(Debug)]
pub struct Settings {
    /// `LISTEN`, [::]:8080: REST and gateway.
    pub listen: SocketAddr,
    /// `CONTROL`, [::]:8081: the record and the switches.
    pub control: SocketAddr,
    /// `DISCORD_TOKEN`: the one token that is accepted.
    pub token: Token,
    /// `SHARDS`, 1: how many shards it recommends.
    pub shards: u32,
    /// `PUBLIC_URL`: the gateway's address as bots are told it, such as
    /// `ws://fake-discord:8080`. Without it, the host that the bot called.
    pub public_url: Option<String>,
    /// `IDENTIFY_INTERVAL`, 5s; `MAX_CONCURRENCY`, 1; `SESSION_STARTS`, 1000;
    /// `RESET_AFTER`, 24h.
    pub allowance: Allowance,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// When a variable cannot be used; the error says what is accepted.
    pub fn read(variables: &Variables<'_>) -> Result<Self, Unusable> {
        let address = "an address and a port, such as 0.0.0.0:8080";
        let count = "a number above zero";
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        Ok(Self {
            listen: variables.optional("LISTEN", address)?.unwrap_or(any(8080)),
            control: variables.optional("CONTROL", address)?.unwrap_or(any(8081)),
            token: variables.token()?,
            shards: variables
                .optional("SHARDS", count)?
                .map_or(1, NonZeroU32::get),
            public_url: variables.optional("PUBLIC_URL", "ws:// and a host")?,
            allowance: Allowance {
                interval: variables
                    .duration("IDENTIFY_INTERVAL")?
                    .unwrap_or(Duration::from_secs(5)),
                max_concurrency: variables
                    .optional("MAX_CONCURRENCY", count)?
                    .unwrap_or(NonZeroU32::MIN),
                total: variables
                    .optional("SESSION_STARTS", "a number")?
                    .unwrap_or(1000),
                window: variables
                    .duration("RESET_AFTER")?
                    .unwrap_or(Duration::from_hours(24)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use crate::settings::Variables;
    use std::time::Duration;

    #[test]
    fn a_token_is_enough_and_the_rest_is_as_at_discord() {
        let lookup = |name: &str| (name == "DISCORD_TOKEN").then(|| "token".to_owned());
        let settings = Settings::read(&Variables::new(&lookup)).unwrap();
        assert_eq!(settings.listen.to_string(), "[::]:8080");
        assert_eq!(settings.allowance.interval, Duration::from_secs(5));
        assert_eq!(settings.allowance.total, 1000);
        assert_eq!(settings.allowance.window, Duration::from_secs(86_400));
    }

    #[test]
    fn no_bucket_at_all_is_refused() {
        let lookup = |_: &str| Some("0".to_owned());
        assert!(Settings::read(&Variables::new(&lookup)).is_err());
    }
}
