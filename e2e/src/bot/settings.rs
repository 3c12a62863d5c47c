//! The settings of a bot.

use std::num::NonZeroU32;
use std::str::FromStr;

use twilight_gateway::ShardId;

use crate::environment::{Environment, Token};

/// The settings of a bot, from the environment.
#[derive(Debug)]
pub struct Settings {
    /// `QUEUE_URL`: the URL of the queue, such as `http://my-bot.default.svc`.
    pub queue_url: String,
    /// `GATEWAY_URL`: Discord's gateway, such as `ws://fake-discord:8080`.
    pub gateway: Gateway,
    /// `DISCORD_TOKEN`.
    pub token: Token,
    /// The shards of this pod, out of `SHARDS_TOTAL`: there are `SHARDS_PER_POD`, starting with
    /// those of the ordinal at the end of `POD_NAME`.
    pub shards: Vec<ShardId>,
}

/// The address of a gateway without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// A name or an IP address; an IPv6 address is in brackets.
    pub host: String,
    /// Defaults to 80.
    pub port: u16,
}

const COUNT: &str = "a number above zero";

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a variable is invalid; the error names what is accepted.
    pub fn read(environment: &Environment<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            queue_url: environment.required("QUEUE_URL", "http:// and a host")?,
            gateway: environment
                .required("GATEWAY_URL", "ws:// and a host, with or without a port")?,
            token: environment.token()?,
            shards: shards(environment)?,
        })
    }
}

fn shards(environment: &Environment<'_>) -> anyhow::Result<Vec<ShardId>> {
    let total: NonZeroU32 = environment.required("SHARDS_TOTAL", COUNT)?;
    let count: NonZeroU32 = environment.required("SHARDS_PER_POD", COUNT)?;
    let accepted = "a name with an ordinal, such as bot-3";
    let Ordinal(pod) = environment.required("POD_NAME", accepted)?;
    let first = pod.saturating_mul(count.get());
    let end = first.saturating_add(count.get()).min(total.get());
    let shards = (first..end).filter_map(|number| ShardId::new_checked(number, total.get()));
    Ok(shards.collect())
}

/// The number at the end of the name of a StatefulSet's pod.
struct Ordinal(u32);

impl FromStr for Ordinal {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let (_, ordinal) = name.rsplit_once('-').ok_or(())?;
        ordinal.parse().map(Self).map_err(|_| ())
    }
}

impl FromStr for Gateway {
    type Err = ();

    fn from_str(url: &str) -> Result<Self, ()> {
        let url: http::Uri = url.parse().map_err(|_| ())?;
        match (url.scheme_str(), url.host(), url.path()) {
            (Some("ws"), Some(host), "/") => Ok(Self {
                host: host.to_owned(),
                port: url.port_u16().unwrap_or(80),
            }),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gateway, Settings};
    use crate::environment::Environment;

    fn shards(pod: &str) -> anyhow::Result<Vec<u32>> {
        let lookup = |name: &str| {
            let value = match name {
                "QUEUE_URL" => "http://my-bot",
                "GATEWAY_URL" => "ws://fake-discord:8080",
                "DISCORD_TOKEN" => "token",
                "SHARDS_TOTAL" => "9",
                "SHARDS_PER_POD" => "2",
                "POD_NAME" => pod,
                _ => return None,
            };
            Some(value.to_owned())
        };
        let settings = Settings::read(&Environment(&lookup))?;
        assert!(settings.shards.iter().all(|shard| shard.total() == 9));
        Ok(settings.shards.iter().map(|s| s.number()).collect())
    }

    #[test]
    fn a_statefulset_pod_has_the_shards_of_its_ordinal() {
        for (pod, expected) in [("bot-0", &[0, 1][..]), ("bot-4", &[8]), ("bot-5", &[])] {
            assert_eq!(shards(pod).unwrap(), expected, "{pod}");
        }
        assert_eq!(
            shards("bot").unwrap_err().to_string(),
            "POD_NAME is \"bot\". Accepted: a name with an ordinal, such as bot-3"
        );
    }

    #[test]
    fn a_gateway_url_has_the_scheme_ws() {
        let gateway: Gateway = "ws://fake-discord".parse().unwrap();
        assert_eq!((gateway.host.as_str(), gateway.port), ("fake-discord", 80));
        for url in ["wss://gateway.discord.gg", "fake-discord:8080", "ws://a/b"] {
            assert!(url.parse::<Gateway>().is_err(), "{url}");
        }
    }
}
