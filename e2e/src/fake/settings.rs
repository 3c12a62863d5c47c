//! The settings of the fake Discord.

use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::environment::{Environment, Token};

/// The settings of a fake Discord, from the environment.
#[derive(Debug)]
pub struct Settings {
    /// `LISTEN`, default `[::]:8080`: REST and gateway.
    pub listen: SocketAddr,
    /// `CONTROL`, default `[::]:8081`: the record and the switches.
    pub control: SocketAddr,
    /// `GATEWAY_URL`, default `ws://` and the host of the request: where bots connect and resume.
    pub gateway_url: Option<String>,
    /// `DISCORD_TOKEN`: the only token that is accepted.
    pub token: Token,
    /// `SHARDS`, default 1: the recommended number of shards.
    pub shards: NonZeroU32,
    /// `MAX_CONCURRENCY`, default 1: the number of buckets.
    pub max_concurrency: NonZeroU32,
    /// `IDENTIFY_INTERVAL`, default 5s: the spacing of the identifies of one bucket.
    pub interval: Duration,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a variable is invalid; the error names what is accepted.
    pub fn read(environment: &Environment<'_>) -> anyhow::Result<Self> {
        let address = "an address and a port, such as 0.0.0.0:8080";
        let count = "a number above zero";
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let interval = jiff::SignedDuration::from_secs(5);
        let interval = environment.or(
            interval,
            "IDENTIFY_INTERVAL",
            "a duration, such as 5s or 250ms",
        )?;
        Ok(Self {
            listen: environment.or(any(8080), "LISTEN", address)?,
            control: environment.or(any(8081), "CONTROL", address)?,
            gateway_url: environment.optional("GATEWAY_URL", "a ws:// or wss:// URL")?,
            token: environment.token()?,
            shards: environment.or(NonZeroU32::MIN, "SHARDS", count)?,
            max_concurrency: environment.or(NonZeroU32::MIN, "MAX_CONCURRENCY", count)?,
            interval: interval.unsigned_abs(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_only_a_token_it_enforces_discords_interval_in_one_bucket() {
        let token = |name: &str| (name == "DISCORD_TOKEN").then(|| "t".to_owned());
        let settings = Settings::read(&Environment(&token)).unwrap();
        assert_eq!(settings.interval, Duration::from_secs(5));
        assert_eq!(settings.max_concurrency, NonZeroU32::MIN);
    }
}
