//! The settings, from flags and the environment. Pure: both are parameters.

mod table;
mod upstream;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgMatches};
use gateway_queue_core::bot_token::BotToken;
use gateway_queue_core::gateway_bot::MAX_BUCKETS;
use gateway_queue_core::leadership::election::MAX_DURATION;
use gateway_queue_core::pacing::shard_history::ShardLimit;
use gateway_queue_core::protocol::refusal::MIN_RESERVATION_TTL;
use gateway_queue_telemetry::Format;
use jiff::SignedDuration;
use url::Url;

pub(crate) use self::table::TABLE;
pub use self::upstream::UpstreamRef;

/// Discord's interval between two identifies of one bucket.
const INTERVAL: Duration = Duration::from_secs(5);

/// The shortest duration of a Lease, in which a leader has time for two renewals.
const MIN_LEASE_DURATION: Duration = Duration::from_secs(3);

/// The maximum number of grants of a shard within a window.
const MAX_SHARD_BURST: usize = 1000;

/// The API server refuses a longer name of an annotation, without its prefix.
const MAX_ANNOTATION_NAME_BYTES: usize = 63;

/// The source of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// No token: session starts are not counted.
    None,
    /// A token from the environment, which never changes.
    Given(BotToken),
    /// A file that may appear, change and disappear at any time.
    File(PathBuf),
}

/// The Lease of the leader election, and the candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRef {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// The pod that this process runs in.
    pub pod: String,
    /// The address of the pod.
    pub ip: IpAddr,
    /// How long a leader's last renewal is valid.
    pub duration: Duration,
    /// The port for forwarded requests.
    pub peer_port: u16,
    /// How long to forward waiting requests after SIGTERM.
    pub grace: Duration,
}

/// All settings.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // `TABLE` documents each.
pub struct Settings {
    pub host: Option<IpAddr>,
    pub port: u16,
    pub admin_port: u16,
    pub token: TokenSource,
    pub discord_api: String,
    pub discord_ca_file: Option<PathBuf>,
    pub max_concurrency: u32,
    pub interval: Duration,
    pub margin: Duration,
    pub start_guard: bool,
    pub session_reserve: u64,
    pub refresh_interval: Duration,
    pub reservation_ttl: Duration,
    pub shard_limit: ShardLimit,
    pub lease: Option<LeaseRef>,
    pub upstream: Option<UpstreamRef>,
    pub log_format: Format,
    pub log_filter: String,
}

/// An invalid setting or command line: one line that states what is accepted, and never
/// contains a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(crate) String);

impl Settings {
    /// Reads flags and environment. A flag takes precedence over its variable.
    ///
    /// # Errors
    ///
    /// At the first value that is not accepted.
    pub fn read(
        flags: &ArgMatches,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Invalid> {
        let mut given = HashMap::new();
        for (name, ..) in TABLE {
            // DISCORD_TOKEN has no flag.
            let flag = flags.try_get_one::<String>(name).ok().flatten();
            if let Some(value) = flag {
                given.insert(*name, value.clone());
            } else if let Some(value) = environment(name) {
                let value = value.into_string().map_err(|_| {
                    Invalid(format!("{name} is not accepted: it is not valid UTF-8"))
                })?;
                given.insert(*name, value);
            }
        }
        Source { given }.settings()
    }
}

/// The setting without a flag: every user of the machine can read arguments.
pub(crate) const WITHOUT_FLAG: &str =
    "Environment only:\n  DISCORD_TOKEN  the bot's token; it has no flag";

/// The flag of each setting.
pub(crate) fn arguments() -> impl Iterator<Item = Arg> {
    let settings = TABLE.iter().filter(|row| row.0 != "DISCORD_TOKEN");
    settings.map(|(name, default, meaning)| {
        let default = match *default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        Arg::new(*name)
            .long(name.to_ascii_lowercase().replace('_', "-"))
            .value_name(*name)
            .help(format!("{meaning} [env: {name}]{default}"))
    })
}

/// The default of a setting; empty if it has none.
pub(crate) fn default_of(name: &str) -> &'static str {
    let row = TABLE.iter().find(|row| row.0 == name);
    row.map_or("", |row| row.1)
}

struct Source {
    given: HashMap<&'static str, String>,
}

impl Source {
    fn settings(&self) -> Result<Settings, Invalid> {
        // Every setting is checked, even if it is not used.
        let interval = self.duration("IDENTIFY_INTERVAL")?;
        let allow_unsafe_interval = self.boolean("ALLOW_UNSAFE_INTERVAL")?;
        if interval < INTERVAL && !allow_unsafe_interval {
            return self.refuse(
                "IDENTIFY_INTERVAL",
                "5s or more, as Discord requires (tests may set ALLOW_UNSAFE_INTERVAL=true)",
            );
        }
        if interval.is_zero() {
            return self.refuse("IDENTIFY_INTERVAL", "a duration above zero, such as 5s");
        }
        let refresh_interval = self.duration("REFRESH_INTERVAL")?;
        if refresh_interval.is_zero() {
            return self.refuse("REFRESH_INTERVAL", "a duration above zero, such as 5m");
        }
        Ok(Settings {
            host: self.address("HOST")?,
            port: self.port("PORT")?,
            admin_port: self.admin_port()?,
            token: self.token()?,
            discord_api: self.url("DISCORD_API")?,
            discord_ca_file: self.given("DISCORD_CA_FILE").map(PathBuf::from),
            max_concurrency: self.buckets()?,
            interval,
            margin: self.duration("IDENTIFY_MARGIN")?,
            start_guard: self.boolean("START_GUARD")?,
            session_reserve: self.read("SESSION_RESERVE", "a whole number, 0 or more")?,
            refresh_interval,
            reservation_ttl: self.reservation_ttl()?,
            shard_limit: self.shard_limit()?,
            lease: self.lease()?,
            upstream: self.upstream()?,
            log_format: match self.text("LOG_FORMAT").as_str() {
                "text" => Format::Text,
                "json" => Format::Json,
                _ => return self.refuse("LOG_FORMAT", "text or json"),
            },
            log_filter: self.log_filter()?,
        })
    }

    /// Returns the value that was given, unless it is empty.
    fn given(&self, name: &str) -> Option<String> {
        self.given.get(name).filter(|v| !v.is_empty()).cloned()
    }

    /// Returns the value that was given, or the default.
    fn text(&self, name: &str) -> String {
        self.given(name)
            .unwrap_or_else(|| default_of(name).to_owned())
    }

    fn refuse<T>(&self, name: &str, accepted: &str) -> Result<T, Invalid> {
        let value = self.text(name);
        // A value that may be a misplaced token or contain a password is not repeated.
        let secret = value.contains(['@', '?', '#']) || value.len() > 50;
        let secret = secret || value.split('.').filter(|part| part.len() > 4).count() > 2;
        let shown = if secret {
            String::new()
        } else {
            format!("={value:?}")
        };
        Err(Invalid(format!(
            "{name}{shown} is not accepted: it must be {accepted}"
        )))
    }

    fn read<T: std::str::FromStr>(&self, name: &str, accepted: &str) -> Result<T, Invalid> {
        match self.text(name).parse() {
            Ok(value) => Ok(value),
            Err(_) => self.refuse(name, accepted),
        }
    }

    /// Reads an IP address. An IPv4-mapped IPv6 address becomes an IPv4 address.
    fn address(&self, name: &str) -> Result<Option<IpAddr>, Invalid> {
        let given = self.given(name).map(|_| {
            let ip: IpAddr = self.read(name, "an IP address, such as 10.0.0.1, 0.0.0.0 or ::")?;
            Ok(ip.to_canonical())
        });
        given.transpose()
    }

    /// Reads the name of a Kubernetes object, which becomes a part of a URL.
    fn object_name(&self, name: &str, dots: bool) -> Result<Option<String>, Invalid> {
        let Some(value) = self.given(name) else {
            return Ok(None);
        };
        let (max_bytes, accepted) = if dots {
            (253, "a name of lower case letters, digits, '-' and '.'")
        } else {
            (63, "a name of lower case letters, digits and '-'")
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let allowed = |c: char| plain(c) || c == '-' || (dots && c == '.');
        let fits = value.len() <= max_bytes
            && value.starts_with(plain)
            && value.ends_with(plain)
            && value.chars().all(allowed)
            && !value.contains("..");
        if fits {
            Ok(Some(value))
        } else {
            self.refuse(name, accepted)
        }
    }

    fn reservation_ttl(&self) -> Result<Duration, Invalid> {
        match self.duration("RESERVATION_TTL")? {
            kept if kept < MIN_RESERVATION_TTL => self.refuse(
                "RESERVATION_TTL",
                "a duration from 2s to a day: clients retry after whole seconds",
            ),
            kept => Ok(kept),
        }
    }

    fn shard_limit(&self) -> Result<ShardLimit, Invalid> {
        let accepted = format!("a whole number, 0 (no limit) to {MAX_SHARD_BURST}");
        let burst = self.read("SHARD_BURST", &accepted)?;
        if burst > MAX_SHARD_BURST {
            return self.refuse("SHARD_BURST", &accepted);
        }
        let window = self.duration("SHARD_WINDOW")?;
        if window.is_zero() {
            return self.refuse("SHARD_WINDOW", "a duration above zero, such as 10m");
        }
        Ok(ShardLimit { burst, window })
    }

    fn port(&self, name: &str) -> Result<u16, Invalid> {
        // 0 lets the system choose a port, which is then logged.
        self.read(name, "a port, 0 to 65535")
    }

    fn admin_port(&self) -> Result<u16, Invalid> {
        match self.port("ADMIN_PORT")? {
            port if port > 0 && port == self.port("PORT")? => {
                self.refuse("ADMIN_PORT", "a port other than PORT")
            }
            port => Ok(port),
        }
    }

    fn boolean(&self, name: &str) -> Result<bool, Invalid> {
        self.read(name, "true or false")
    }

    fn duration(&self, name: &str) -> Result<Duration, Invalid> {
        let accepted = "a duration, such as 5s, 250ms or 5m, of at most a day";
        let length: SignedDuration = self.read(name, accepted)?;
        match Duration::try_from(length) {
            Ok(length) if length <= Duration::from_secs(86_400) => Ok(length),
            _ => self.refuse(name, accepted),
        }
    }

    fn buckets(&self) -> Result<u32, Invalid> {
        let accepted = format!("a whole number, 1 to {MAX_BUCKETS}");
        match self.read("MAX_CONCURRENCY", &accepted)? {
            buckets if (1..=MAX_BUCKETS).contains(&buckets) => Ok(buckets),
            _ => self.refuse("MAX_CONCURRENCY", &accepted),
        }
    }

    /// Reads RUST_LOG. A single word that is not a level would disable all logs, because it is
    /// parsed as a module; so would a space.
    fn log_filter(&self) -> Result<String, Invalid> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let level = |word: &str| {
            let word = word.trim().to_ascii_lowercase();
            LEVELS.contains(&word.as_str()).then_some(word)
        };
        let module = |name: &str| {
            let name = name.trim();
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-:.".contains(c);
            (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
        };
        let filter = self.text("RUST_LOG");
        let parts = filter.split(',').map(|part| match part.split_once('=') {
            Some((name, word)) => Some(format!("{}={}", module(name)?, level(word)?)),
            None => level(part),
        });
        match parts.collect::<Option<Vec<_>>>() {
            Some(parts) => Ok(parts.join(",")),
            None => self.refuse(
                "RUST_LOG",
                "a level (off, error, warn, info, debug, trace), or a list such as info,gateway_queue=debug",
            ),
        }
    }

    fn url(&self, name: &str) -> Result<String, Invalid> {
        let accepted = "an http:// or https:// URL without credentials, query or fragment, such as https://discord.com/api/v10";
        let url: Url = self.read(name, accepted)?;
        if is_plain_http(&url) {
            Ok(url.as_str().trim_end_matches('/').to_owned())
        } else {
            self.refuse(name, accepted)
        }
    }

    fn token(&self) -> Result<TokenSource, Invalid> {
        // An empty value is an error: without a token session starts are not limited, which
        // must not result from a variable that was left empty.
        let token = self.given.get("DISCORD_TOKEN").map(|token| {
            BotToken::parse(token)
                .map_err(|error| Invalid(format!("DISCORD_TOKEN is not accepted: {error}")))
        });
        let token = token.transpose()?;
        match self.given.get("DISCORD_TOKEN_FILE") {
            Some(path) if path.is_empty() => {
                self.refuse("DISCORD_TOKEN_FILE", "the path of a file, or not set")
            }
            Some(path) => Ok(TokenSource::File(path.into())),
            None => Ok(token.map_or(TokenSource::None, TokenSource::Given)),
        }
    }

    fn lease(&self) -> Result<Option<LeaseRef>, Invalid> {
        let name = self.object_name("LEASE_NAME", true)?;
        let namespace = self.object_name("LEASE_NAMESPACE", false)?;
        let pod = self.object_name("POD_NAME", true)?;
        let ip = self.address("POD_IP")?;
        let duration = self.duration("LEASE_DURATION")?;
        if duration > MAX_DURATION || duration < MIN_LEASE_DURATION || duration.subsec_nanos() > 0 {
            return self.refuse("LEASE_DURATION", "whole seconds, 3s to 30s");
        }
        let peer_port = self.port("PEER_PORT")?;
        let grace = self.duration("SHUTDOWN_GRACE")?;
        let Some(name) = name else {
            return Ok(None);
        };
        if peer_port > 0 && [self.port("PORT")?, self.port("ADMIN_PORT")?].contains(&peer_port) {
            return self.refuse("PEER_PORT", "a port other than PORT and ADMIN_PORT");
        }
        let pod = with_lease("POD_NAME", pod)?;
        if pod.len() > MAX_ANNOTATION_NAME_BYTES {
            return Err(Invalid(format!(
                "POD_NAME is not accepted: with LEASE_NAME it must have at most \
                 {MAX_ANNOTATION_NAME_BYTES} characters, because it names an annotation of the \
                 Lease. It has {}",
                pod.len()
            )));
        }
        Ok(Some(LeaseRef {
            namespace: with_lease("LEASE_NAMESPACE", namespace)?,
            name,
            pod,
            ip: with_lease("POD_IP", ip)?,
            duration,
            peer_port,
            grace,
        }))
    }
}

/// Returns whether this is an HTTP or HTTPS URL without credentials, query and fragment.
pub(crate) fn is_plain_http(url: &Url) -> bool {
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_plain && matches!(url.scheme(), "http" | "https")
}

/// Requires a variable that must be set if LEASE_NAME is.
fn with_lease<T>(variable: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| {
        Invalid(format!(
            "{variable} is missing: it must be set if LEASE_NAME is"
        ))
    })
}

impl Settings {
    /// Returns the time between two grants of one bucket.
    pub fn spacing(&self) -> Duration {
        self.interval + self.margin
    }

    /// Returns the address of the admin and peer ports, or none for every address of both
    /// families, so that probes and other pods reach them. A loopback HOST applies to all
    /// ports.
    pub fn admin_host(&self) -> Option<IpAddr> {
        self.host.filter(IpAddr::is_loopback)
    }
}

#[cfg(test)]
mod tests;
