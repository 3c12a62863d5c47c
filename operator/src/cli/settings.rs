//! The settings of the operator, from flags and the environment. A flag takes precedence over its
//! variable.

mod check;
mod setting;

use std::ffi::OsString;

use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::api::{ImagePullPolicy, LogFormat};
use crate::desired::QueueDefaults;
use crate::leader_election::{Candidacy, LEASE, NAMESPACE_LEASE};

use setting::{Setting, Source};

pub use check::Check;

const ENVIRONMENT: &str = "\
Environment only:
  QUEUE_IMAGE_PULL_SECRETS  the pull Secrets of the default image, comma-separated
  POD_NAME, POD_NAMESPACE   the pod of this operator; required for a leader election
  RUST_LOG                  what is logged [default: info]

The cluster is that of the pod, else that of KUBECONFIG or ~/.kube/config.";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the operator.
    Run(Settings),
    /// Print the CustomResourceDefinition.
    Crd,
    /// Check an installation.
    Check(Check),
    /// Print this text: the help, or the version.
    Print(String),
}

/// The settings of the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// The defaults of queues.
    pub defaults: QueueDefaults,
    /// The namespaces to serve; all if empty.
    pub watch_namespaces: Vec<String>,
    /// The election of a leader among operators; if absent, this operator is the leader.
    pub election: Option<Election>,
    /// The port of probes and metrics.
    pub admin_port: u16,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// What is logged, in the notation of RUST_LOG.
    pub log_filter: String,
}

/// The election of a leader among operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// The namespace of the Lease of operators that serve all namespaces.
    pub namespace: String,
    /// The identity of this operator.
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

/// An invalid command line or setting. Its message is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An invalid command line.
    #[error("{0}; see --help")]
    Arguments(String),
    /// A value that is not accepted.
    #[error("{name} is {value:?}; accepted is {accepted}")]
    Value {
        /// The flag and its variable.
        name: String,
        /// Its value.
        value: String,
        /// What is accepted.
        accepted: &'static str,
    },
    /// A required value that is not set.
    #[error("{name} is not set; accepted is {accepted}")]
    Unset {
        /// The flag and its variable.
        name: String,
        /// What is accepted.
        accepted: &'static str,
    },
}

const QUEUE_IMAGE: Setting = Setting {
    flag: "queue-image",
    variable: "QUEUE_IMAGE",
    accepted: "the name of an image, such as gateway-queue:0.1.0",
    help: "The default image of queues; required",
    default: "",
};
const PULL_POLICY: Setting = Setting {
    flag: "queue-image-pull-policy",
    variable: "QUEUE_IMAGE_PULL_POLICY",
    accepted: "Always, IfNotPresent or Never",
    help: "The default pull policy: Always, IfNotPresent or Never",
    default: "",
};
const WATCH_NAMESPACE: Setting = Setting {
    flag: "watch-namespace",
    variable: "WATCH_NAMESPACE",
    accepted: "names of namespaces, comma-separated, such as bots,shop",
    help: "The namespaces to serve, comma-separated or by repeated flags; all if absent",
    default: "",
};
const ELECTION: Setting = Setting {
    flag: "leader-election",
    variable: "LEADER_ELECTION",
    accepted: "true or false",
    help: "Whether operators of the same namespaces elect a leader: true or false",
    default: "false",
};
const LEASE_NAMESPACE: Setting = Setting {
    flag: "leader-election-namespace",
    variable: "LEADER_ELECTION_NAMESPACE",
    accepted: "the name of a namespace, such as kube-system",
    help: "The namespace of the Lease of operators that serve all namespaces",
    default: "kube-system",
};
const ADMIN_PORT: Setting = Setting {
    flag: "admin-port",
    variable: "ADMIN_PORT",
    accepted: "a port from 1 to 65535",
    help: "The port of /livez, /readyz and /metrics",
    default: "8080",
};
const LOG_FORMAT: Setting = Setting {
    flag: "log-format",
    variable: "LOG_FORMAT",
    accepted: "text or json",
    help: "The format of log lines: text or json",
    default: "text",
};
const PULL_SECRETS: Setting = Setting::variable(
    "QUEUE_IMAGE_PULL_SECRETS",
    "names of Secrets, comma-separated",
);
const POD_NAME: Setting = Setting::variable("POD_NAME", "the name of this operator's pod");
const POD_NAMESPACE: Setting =
    Setting::variable("POD_NAMESPACE", "the namespace of this operator's pod");
const LOG_FILTER: Setting = Setting::variable(
    "RUST_LOG",
    "a level (error, warn, info, debug, trace), or target=level, comma-separated",
);

/// The flags, in the order of the help.
const FLAGS: [Setting; 7] = [
    QUEUE_IMAGE,
    PULL_POLICY,
    WATCH_NAMESPACE,
    ELECTION,
    LEASE_NAMESPACE,
    ADMIN_PORT,
    LOG_FORMAT,
];

fn command() -> clap::Command {
    let crd = clap::Command::new("crd").about("Prints the CustomResourceDefinition");
    clap::Command::new(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Turns GatewayQueues into running queue servers. Runs the operator unless a command is given.")
        .after_help(ENVIRONMENT)
        .args_override_self(true)
        .args(FLAGS.iter().map(Setting::arg))
        .subcommand(crd)
        .subcommand(Check::command())
}

impl Command {
    /// Reads the command line (without the program) and the environment.
    ///
    /// # Errors
    /// States what is not accepted, and what is.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Error> {
        let program = OsString::from(env!("CARGO_PKG_NAME"));
        let arguments = std::iter::once(program).chain(arguments);
        let matches = match command().try_get_matches_from(arguments) {
            Ok(matches) => matches,
            Err(text) if !text.use_stderr() => return Ok(Self::Print(text.to_string())),
            Err(error) => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                let line = line.trim_start_matches("error: ");
                return Err(Error::Arguments(line.to_owned()));
            }
        };
        match matches.subcommand() {
            Some(("crd", _)) => Ok(Self::Crd),
            Some((_, check)) => Check::read(check).map(Self::Check),
            None => settings(&Source {
                flags: &matches,
                variable: &variable,
            })
            .map(Self::Run),
        }
    }
}

fn settings(source: &Source<'_>) -> Result<Settings, Error> {
    let image = source.required(&QUEUE_IMAGE, image)?;
    let image_pull_policy = source.read(&PULL_POLICY, |name| {
        let mut all = ImagePullPolicy::ALL.iter().copied();
        all.find(|policy| policy.as_str() == name)
    })?;
    let election = election(source)?;
    let admin_port = source.read(&ADMIN_PORT, |port| {
        port.parse().ok().filter(|port| *port != 0)
    })?;
    let log_format = source.read(&LOG_FORMAT, |name| {
        let mut all = LogFormat::ALL.into_iter();
        all.find(|format| format.as_str() == name)
    })?;
    let log_filter = source.read(&LOG_FILTER, log_filter)?;
    let pull_secrets = source.read(&PULL_SECRETS, secrets)?;
    Ok(Settings {
        defaults: QueueDefaults {
            image,
            image_pull_policy,
            image_pull_secrets: pull_secrets.unwrap_or_default(),
        },
        watch_namespaces: watch_namespaces(source)?,
        election,
        admin_port: admin_port.unwrap_or(8080),
        log_format: log_format.unwrap_or_default(),
        log_filter: log_filter.unwrap_or_else(|| "info".to_owned()),
    })
}

fn log_filter(filter: &str) -> Option<String> {
    // A space would be part of the name of a target.
    let parts: Vec<&str> = filter.split(',').map(str::trim).collect();
    // A word that is not a level would be a target, and disable all others.
    let mut words = parts.iter().filter(|part| !part.contains('='));
    let are_levels = words.all(|word| word.parse::<LevelFilter>().is_ok());
    let filter = parts.join(",");
    (are_levels && filter.parse::<Targets>().is_ok()).then_some(filter)
}

/// Every setting is checked, even without an election.
fn election(source: &Source<'_>) -> Result<Option<Election>, Error> {
    let is_enabled = source.read(&ELECTION, |word| word.parse().ok())?;
    let namespace = source.read(&LEASE_NAMESPACE, namespace_name)?;
    let pod_namespace = source.read(&POD_NAMESPACE, namespace_name)?;
    let pod = source.read(&POD_NAME, object_name)?;
    if is_enabled != Some(true) {
        return Ok(None);
    }
    let (pod, pod_namespace) = (
        POD_NAME.require(pod)?,
        POD_NAMESPACE.require(pod_namespace)?,
    );
    Ok(Some(Election {
        namespace: namespace.unwrap_or_else(|| "kube-system".to_owned()),
        identity: format!("{pod_namespace}/{pod}"),
    }))
}

/// The namespaces of all flags, else of the variable.
fn watch_namespaces(source: &Source<'_>) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    match source.flags.get_many::<OsString>(WATCH_NAMESPACE.flag) {
        None => all.extend(source.read(&WATCH_NAMESPACE, names)?),
        Some(flags) => {
            for flag in flags {
                all.push(WATCH_NAMESPACE.parse(flag, names)?);
            }
        }
    }
    let mut all = all.concat();
    all.sort();
    all.dedup();
    Ok(all)
}

fn image(name: &str) -> Option<String> {
    let fits = !name.is_empty() && !name.contains(char::is_whitespace);
    fits.then(|| name.to_owned())
}

/// A pod may reference each Secret only once.
fn secrets(list: &str) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in list.split(',').map(str::trim) {
        let name = object_name(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Some(names)
}

/// The names in a comma-separated list; none if one is invalid.
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
