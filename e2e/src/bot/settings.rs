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
    /// The shards of this pod, out of `SHARDS_TOTAL`. In a StatefulSet there are
    /// `SHARDS_PER_POD`, starting with those of the pod's ordinal, the end of `POD_NAME`;
    /// otherwise `SHARD_COUNT`, starting with `SHARD_FROM`.
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
    let per_pod: Option<NonZeroU32> = environment.optional("SHARDS_PER_POD", COUNT)?;
    let (first, count) = match per_pod {
        Some(per_pod) => {
            let pod: Ordinal =
                environment.required("POD_NAME", "a name with an ordinal, such as bot-3")?;
            (pod.0.saturating_mul(per_pod.get()), per_pod.get())
        }
        None => (
            environment.required("SHARD_FROM", "the number of a shard")?,
            environment
                .required::<NonZeroU32>("SHARD_COUNT", COUNT)?
                .get(),
        ),
    };
    let end = first.saturating_add(count).min(total.get());
    Ok((first..end)
        .filter_map(|number| ShardId::new_checked(number, total.get()))
        .collect())
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

    fn shards(more: &[(&str, &str)]) -> anyhow::Result<Vec<u32>> {
        let lookup = |name: &str| {
            let (_, value) = [
                ("QUEUE_URL", "http://my-bot"),
                ("GATEWAY_URL", "ws://fake-discord:8080"),
                ("DISCORD_TOKEN", "token"),
                ("SHARDS_TOTAL", "8"),
            ]
            .iter()
            .chain(more)
            .find(|(n, _)| *n == name)?;
            Some((*value).to_owned())
        };
        let settings = Settings::read(&Environment(&lookup))?;
        assert!(settings.shards.iter().all(|shard| shard.total() == 8));
        Ok(settings.shards.iter().map(|s| s.number()).collect())
    }

    #[test]
    fn a_statefulset_pod_has_the_shards_of_its_ordinal() {
        for (pod, expected) in [("bot-0", &[0, 1][..]), ("bot-3", &[6, 7]), ("bot-4", &[])] {
            let read = shards(&[("POD_NAME", pod), ("SHARDS_PER_POD", "2")]);
            assert_eq!(read.unwrap(), expected, "{pod}");
        }
        let error = shards(&[("POD_NAME", "bot"), ("SHARDS_PER_POD", "2")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "POD_NAME is \"bot\". Accepted: a name with an ordinal, such as bot-3"
        );
    }

    #[test]
    fn a_range_of_shards_ends_at_the_last_shard() {
        let read = shards(&[("SHARD_FROM", "5"), ("SHARD_COUNT", "10")]);
        assert_eq!(read.unwrap(), [5, 6, 7]);
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
