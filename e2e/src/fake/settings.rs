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
        let interval: Option<jiff::SignedDuration> =
            environment.optional("IDENTIFY_INTERVAL", "a duration, such as 5s or 250ms")?;
        Ok(Self {
            listen: environment
                .optional("LISTEN", address)?
                .unwrap_or(any(8080)),
            control: environment
                .optional("CONTROL", address)?
                .unwrap_or(any(8081)),
            token: environment.token()?,
            shards: environment
                .optional("SHARDS", count)?
                .unwrap_or(NonZeroU32::MIN),
            max_concurrency: environment
                .optional("MAX_CONCURRENCY", count)?
                .unwrap_or(NonZeroU32::MIN),
            interval: interval.map_or(Duration::from_secs(5), |interval| interval.unsigned_abs()),
        })
    }
}
