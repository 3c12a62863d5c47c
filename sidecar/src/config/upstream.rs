//! The settings of an agent.

use url::Url;

use super::{Invalid, Source, is_plain_http};

/// The settings that an agent has no use for, because it has no queue of its own.
const OF_A_QUEUE: [&str; 5] = [
    "DISCORD_TOKEN",
    "DISCORD_TOKEN_FILE",
    "MAX_CONCURRENCY",
    "SESSION_RESERVE",
    "LEASE_NAME",
];

/// The queue whose agent this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRef {
    /// The host, an IPv6 address in brackets.
    pub host: String,
    /// The port for clients.
    pub port: u16,
    /// The admin port.
    pub admin_port: u16,
}

impl Source {
    /// Reads the queue whose agent this process is; none if it has a queue of its own.
    pub(super) fn upstream(&self) -> Result<Option<UpstreamRef>, Invalid> {
        let accepted = "http://HOST or http://HOST:PORT, such as http://my-bot.bots.svc; https \
                        is not supported, because both are in one cluster";
        let admin_port = match self.port("UPSTREAM_ADMIN_PORT")? {
            0 => return self.refuse("UPSTREAM_ADMIN_PORT", "a port, 1 to 65535"),
            port => port,
        };
        if self.given("UPSTREAM").is_none() {
            return Ok(None);
        }
        let url: Url = self.read("UPSTREAM", accepted)?;
        let is_plain = is_plain_http(&url) && url.scheme() == "http" && url.path() == "/";
        let upstream = match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port @ 1..)) if is_plain => UpstreamRef {
                host: host.to_owned(),
                port,
                admin_port,
            },
            _ => return self.refuse("UPSTREAM", accepted),
        };
        match OF_A_QUEUE.iter().find(|name| self.given(name).is_some()) {
            Some(name) => Err(Invalid(format!(
                "UPSTREAM is not accepted together with {name}: an agent has no queue of its own, \
                 so set {name} only for the queue that UPSTREAM names"
            ))),
            None => Ok(Some(upstream)),
        }
    }
}
