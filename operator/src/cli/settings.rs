//! What the operator is told on its command line and in its environment. A
//! flag wins over its variable.

mod check;

use std::ffi::OsString;

use lexopt::prelude::*;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::api::{ImagePullPolicy, LogFormat};
use crate::desired::QueueDefaults;
use crate::leader_election::{Candidacy, LEASE, NAMESPACE_LEASE};

pub use check::Check;

/// What `--help` prints.
pub const USAGE: &str = "\
Turns GatewayQueues into running queue servers.

Usage: gateway-queue-operator [OPTIONS]     run the operator
       gateway-queue-operator crd           print the CustomResourceDefinition
       gateway-queue-operator check --readyz URL --namespace NAME
                                            say whether an installation works

Options, and the variables that stand for them:
  --queue-image IMAGE           QUEUE_IMAGE, the image of the queue; needed
  --queue-image-pull-policy P   QUEUE_IMAGE_PULL_POLICY: Always, IfNotPresent, Never
                                QUEUE_IMAGE_PULL_SECRETS: Secrets with which it is
                                pulled, with commas between; from the environment only
  --watch-namespace NAMES       WATCH_NAMESPACE, with commas between, or the flag
                                again; all namespaces when absent
  --admin-port PORT             ADMIN_PORT, for /livez /readyz /metrics; 8080
  --log-format FORMAT           LOG_FORMAT: text or json; text
  --leader-election BOOL        LEADER_ELECTION: true or false; true when several
                                operators serve the same namespaces, so that one
                                of them is the leader; false when absent
  --leader-election-namespace NAME
                                LEADER_ELECTION_NAMESPACE, where operators of all
                                namespaces have their Lease; kube-system. Others
                                have one in each namespace that they watch
  --help, --version

RUST_LOG says what is logged (info when absent). POD_NAME and POD_NAMESPACE identify
this operator in a leader election; both are needed for one.
The cluster is that of the pod, else of KUBECONFIG or ~/.kube/config.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the operator.
    Run(Settings),
    /// Print the CustomResourceDefinition.
    Crd,
    /// Say whether an installation works.
    Check(Check),
    /// Print [`USAGE`].
    Help,
    /// Print the version.
    Version,
}

/// How to run the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// What queues are made of, unless their spec says otherwise.
    pub defaults: QueueDefaults,
    /// The namespaces to work in; none of them stands for all.
    pub watch_namespaces: Vec<String>,
    /// How operators of the same namespaces agree on a leader; this one is alone when
    /// there is none.
    pub election: Option<Election>,
    /// The port of probes and metrics.
    pub admin_port: u16,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// What is logged, in the notation of RUST_LOG.
    pub log_filter: String,
}

/// How operators agree on a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// The namespace of the Lease of operators that serve all namespaces.
    pub namespace: String,
    /// Who this operator is.
    pub identity: String,
}

impl Election {
    /// Returns how this operator takes part for one namespace, or for all.
    pub fn candidacy(&self, namespace: Option<&str>) -> Candidacy {
        Candidacy {
            namespace: namespace.unwrap_or(&self.namespace).to_owned(),
            lease: namespace.map_or(LEASE, |_| NAMESPACE_LEASE),
            identity: self.identity.clone(),
        }
    }
}

/// A setting that cannot be read. Its message is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on the command line.
    #[error("{0}; see --help")]
    Arguments(#[from] lexopt::Error),
    /// A value that is not accepted.
    #[error("{name} is {value:?}; accepted is {accepted}")]
    Value {
        /// The flag and its variable.
        name: &'static str,
        /// What was found.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// A value without which nothing can be done.
    #[error("{name} is not set; accepted is {accepted}")]
    Unset {
        /// The flag and its variable.
        name: &'static str,
        /// What would be accepted.
        accepted: &'static str,
    },
}

/// One setting: its flag, its variable, and what is accepted.
struct Setting {
    name: &'static str,
    variable: &'static str,
    accepted: &'static str,
}

const QUEUE_IMAGE: Setting = Setting {
    name: "--queue-image (QUEUE_IMAGE)",
    variable: "QUEUE_IMAGE",
    accepted: "the name of an image, such as gateway-queue:0.1.0",
};
const PULL_POLICY: Setting = Setting {
    name: "--queue-image-pull-policy (QUEUE_IMAGE_PULL_POLICY)",
    variable: "QUEUE_IMAGE_PULL_POLICY",
    accepted: "Always, IfNotPresent or Never",
};
const PULL_SECRETS: Setting = Setting {
    name: "QUEUE_IMAGE_PULL_SECRETS",
    variable: "QUEUE_IMAGE_PULL_SECRETS",
    accepted: "names of Secrets with commas between",
};
const WATCH_NAMESPACE: Setting = Setting {
    name: "--watch-namespace (WATCH_NAMESPACE)",
    variable: "WATCH_NAMESPACE",
    accepted: "names of namespaces with commas between, such as bots,shop",
};
const ELECTION: Setting = Setting {
    name: "--leader-election (LEADER_ELECTION)",
    variable: "LEADER_ELECTION",
    accepted: "true or false",
};
const LEASE_NAMESPACE: Setting = Setting {
    name: "--leader-election-namespace (LEADER_ELECTION_NAMESPACE)",
    variable: "LEADER_ELECTION_NAMESPACE",
    accepted: "the name of a namespace, such as kube-system",
};
const POD_NAME: Setting = Setting {
    name: "POD_NAME",
    variable: "POD_NAME",
    accepted: "the name of this operator's pod, which tells it from others that take part in the election",
};
const POD_NAMESPACE: Setting = Setting {
    name: "POD_NAMESPACE",
    variable: "POD_NAMESPACE",
    accepted: "the namespace of this operator's pod, since pods of two namespaces may have the same name",
};
const ADMIN_PORT: Setting = Setting {
    name: "--admin-port (ADMIN_PORT)",
    variable: "ADMIN_PORT",
    accepted: "a port from 1 to 65535",
};
const LOG_FORMAT: Setting = Setting {
    name: "--log-format (LOG_FORMAT)",
    variable: "LOG_FORMAT",
    accepted: "text or json",
};
const LOG_FILTER: Setting = Setting {
    name: "RUST_LOG",
    variable: "RUST_LOG",
    accepted: "a level (error, warn, info, debug, trace), or target=level with commas between",
};

impl Command {
    /// Reads the command line (without the program) and the environment.
    ///
    /// # Errors
    /// For whatever cannot be read, with what would be accepted.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Error> {
        let mut flags = Flags::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(Self::Help),
                Short('V') | Long("version") => return Ok(Self::Version),
                Long("queue-image") => flags.queue_image = Some(parser.value()?),
                Long("queue-image-pull-policy") => flags.pull_policy = Some(parser.value()?),
                Long("watch-namespace") => flags.namespaces.push(parser.value()?),
                Long("admin-port") => flags.admin_port = Some(parser.value()?),
                Long("leader-election") => flags.election = Some(parser.value()?),
                Long("leader-election-namespace") => {
                    flags.lease_namespace = Some(parser.value()?);
                }
                Long("log-format") => flags.log_format = Some(parser.value()?),
                Value(word) if word == "crd" => return Ok(Self::Crd),
                Value(word) if word == "check" => return Check::read(&mut parser).map(Self::Check),
                other => return Err(other.unexpected().into()),
            }
        }
        flags.settings(variable).map(Self::Run)
    }
}

#[derive(Default)]
struct Flags {
    queue_image: Option<OsString>,
    pull_policy: Option<OsString>,
    namespaces: Vec<OsString>,
    election: Option<OsString>,
    lease_namespace: Option<OsString>,
    admin_port: Option<OsString>,
    log_format: Option<OsString>,
}

impl Flags {
    fn settings(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Settings, Error> {
        let Self {
            queue_image,
            pull_policy,
            namespaces,
            election,
            lease_namespace,
            admin_port,
            log_format,
        } = self;
        let image = QUEUE_IMAGE.needed(queue_image, &variable, image)?;
        let image_pull_policy = PULL_POLICY.read(pull_policy, &variable, |word| {
            ImagePullPolicy::ALL
                .iter()
                .copied()
                .find(|p| p.as_str() == word)
        })?;
        let election = self::election(election, lease_namespace, &variable)?;
        let admin_port = ADMIN_PORT.read(admin_port, &variable, |port| {
            port.parse().ok().filter(|port| *port != 0)
        })?;
        let log_format = LOG_FORMAT.read(log_format, &variable, |word| {
            LogFormat::ALL.into_iter().find(|f| f.as_str() == word)
        })?;
        let log_filter = LOG_FILTER.read(None, &variable, |filter| {
            // A space would be a part of the name of a target.
            let filter = filter
                .split(',')
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(",");
            // A lone word that is no level is taken for a target, and silences
            // all others.
            let mut lone = filter.split(',').filter(|part| !part.contains('='));
            let levels = lone.all(|word| word.parse::<LevelFilter>().is_ok());
            let readable = levels && filter.parse::<Targets>().is_ok();
            readable.then_some(filter)
        })?;
        Ok(Settings {
            defaults: QueueDefaults {
                image,
                image_pull_policy,
                image_pull_secrets: PULL_SECRETS
                    .read(None, &variable, secrets)?
                    .unwrap_or_default(),
            },
            watch_namespaces: watch_namespaces(namespaces, &variable)?,
            election,
            admin_port: admin_port.unwrap_or(8080),
            log_format: log_format.unwrap_or_default(),
            log_filter: log_filter.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

impl Setting {
    /// As [`Setting::read`], of a setting without which nothing can be done.
    fn needed<T>(
        &self,
        flag: Option<OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let read = self.read(flag, variable, parse)?;
        self.set(read)
    }

    /// The value, without which nothing can be done.
    fn set<T>(&self, read: Option<T>) -> Result<T, Error> {
        read.ok_or(Error::Unset {
            name: self.name,
            accepted: self.accepted,
        })
    }

    /// Reads the flag, else the variable; an empty one is what manifests have
    /// for "not set".
    fn read<T>(
        &self,
        flag: Option<OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let set = |value: &OsString| !value.is_empty();
        let Some(value) = flag.or_else(|| variable(self.variable).filter(set)) else {
            return Ok(None);
        };
        match value.to_str().and_then(parse) {
            Some(read) => Ok(Some(read)),
            None => Err(Error::Value {
                name: self.name,
                value: value.to_string_lossy().into_owned(),
                accepted: self.accepted,
            }),
        }
    }
}

/// Each setting is read, also without an election.
fn election(
    flag: Option<OsString>,
    namespace: Option<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Election>, Error> {
    let takes_part = ELECTION.read(flag, &variable, |word| word.parse().ok())?;
    let namespace = LEASE_NAMESPACE.read(namespace, &variable, namespace_name)?;
    let pod_namespace = POD_NAMESPACE.read(None, &variable, namespace_name)?;
    let pod = POD_NAME.read(None, &variable, object_name)?;
    if takes_part != Some(true) {
        return Ok(None);
    }
    let (pod, pod_namespace) = (POD_NAME.set(pod)?, POD_NAMESPACE.set(pod_namespace)?);
    Ok(Some(Election {
        namespace: namespace.unwrap_or_else(|| "kube-system".to_owned()),
        identity: format!("{pod_namespace}/{pod}"),
    }))
}

/// The namespaces of all flags together, else of the variable.
fn watch_namespaces(
    flags: Vec<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    if flags.is_empty() {
        all.extend(WATCH_NAMESPACE.read(None, &variable, names)?);
    }
    for flag in flags {
        all.extend(WATCH_NAMESPACE.read(Some(flag), &variable, names)?);
    }
    let mut all: Vec<String> = all.into_iter().flatten().collect();
    all.sort();
    all.dedup();
    Ok(all)
}

fn image(name: &str) -> Option<String> {
    let fits = !name.is_empty() && !name.contains(char::is_whitespace);
    fits.then(|| name.to_owned())
}

fn secrets(list: &str) -> Option<Vec<String>> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let fits = |name: &str| (1..=253).contains(&name.len()) && name.chars().all(allowed);
    let mut names: Vec<String> = Vec::new();
    for name in list.split(',').map(str::trim) {
        // A pod may name each Secret only once.
        if fits(name) && !names.iter().any(|before| before == name) {
            names.push(name.to_owned());
        } else if !fits(name) {
            return None;
        }
    }
    Some(names)
}

/// The names in a list with commas between. None when one is no name.
fn names(list: &str) -> Option<Vec<String>> {
    list.split(',').map(str::trim).map(namespace_name).collect()
}

fn namespace_name(name: &str) -> Option<String> {
    let fits = (1..=63).contains(&name.len()) && !name.contains('.');
    fits.then(|| object_name(name)).flatten()
}

fn object_name(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let fits = (1..=253).contains(&name.len()) && name.chars().all(allowed);
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
