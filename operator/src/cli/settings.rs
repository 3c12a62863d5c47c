//! The settings of the operator, from flags and the environment. A flag takes precedence over its
//! variable.

mod check;

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::api::{ImagePullPolicy, LogFormat};
use crate::desired::QueueDefaults;
use crate::leader_election::{Candidacy, LEASE, NAMESPACE_LEASE};

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
        name: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        accepted: &'static str,
    },
    /// A required value that is not set.
    #[error("{name} is not set; accepted is {accepted}")]
    Unset {
        /// The flag and its variable.
        name: &'static str,
        /// What is accepted.
        accepted: &'static str,
    },
}

/// A setting.
struct Setting {
    /// Its flag and its variable.
    name: &'static str,
    /// Its flag, if it has one.
    flag: &'static str,
    /// Its variable, if it has one.
    variable: &'static str,
    accepted: &'static str,
    help: &'static str,
}

const QUEUE_IMAGE: Setting = Setting {
    name: "--queue-image (QUEUE_IMAGE)",
    flag: "queue-image",
    variable: "QUEUE_IMAGE",
    accepted: "the name of an image, such as gateway-queue:0.1.0",
    help: "The default image of queues; required [env: QUEUE_IMAGE]",
};
const PULL_POLICY: Setting = Setting {
    name: "--queue-image-pull-policy (QUEUE_IMAGE_PULL_POLICY)",
    flag: "queue-image-pull-policy",
    variable: "QUEUE_IMAGE_PULL_POLICY",
    accepted: "Always, IfNotPresent or Never",
    help: "The default pull policy: Always, IfNotPresent or Never [env: QUEUE_IMAGE_PULL_POLICY]",
};
const PULL_SECRETS: Setting = Setting {
    name: "QUEUE_IMAGE_PULL_SECRETS",
    flag: "",
    variable: "QUEUE_IMAGE_PULL_SECRETS",
    accepted: "names of Secrets, comma-separated",
    help: "",
};
const WATCH_NAMESPACE: Setting = Setting {
    name: "--watch-namespace (WATCH_NAMESPACE)",
    flag: "watch-namespace",
    variable: "WATCH_NAMESPACE",
    accepted: "names of namespaces, comma-separated, such as bots,shop",
    help: "The namespaces to serve, comma-separated or by repeated flags; all if absent [env: WATCH_NAMESPACE]",
};
const ELECTION: Setting = Setting {
    name: "--leader-election (LEADER_ELECTION)",
    flag: "leader-election",
    variable: "LEADER_ELECTION",
    accepted: "true or false",
    help: "Whether operators of the same namespaces elect a leader: true or false [env: LEADER_ELECTION] [default: false]",
};
const LEASE_NAMESPACE: Setting = Setting {
    name: "--leader-election-namespace (LEADER_ELECTION_NAMESPACE)",
    flag: "leader-election-namespace",
    variable: "LEADER_ELECTION_NAMESPACE",
    accepted: "the name of a namespace, such as kube-system",
    help: "The namespace of the Lease of operators that serve all namespaces [env: LEADER_ELECTION_NAMESPACE] [default: kube-system]",
};
const POD_NAME: Setting = Setting {
    name: "POD_NAME",
    flag: "",
    variable: "POD_NAME",
    accepted: "the name of this operator's pod",
    help: "",
};
const POD_NAMESPACE: Setting = Setting {
    name: "POD_NAMESPACE",
    flag: "",
    variable: "POD_NAMESPACE",
    accepted: "the namespace of this operator's pod",
    help: "",
};
const ADMIN_PORT: Setting = Setting {
    name: "--admin-port (ADMIN_PORT)",
    flag: "admin-port",
    variable: "ADMIN_PORT",
    accepted: "a port from 1 to 65535",
    help: "The port of /livez, /readyz and /metrics [env: ADMIN_PORT] [default: 8080]",
};
const LOG_FORMAT: Setting = Setting {
    name: "--log-format (LOG_FORMAT)",
    flag: "log-format",
    variable: "LOG_FORMAT",
    accepted: "text or json",
    help: "The format of log lines: text or json [env: LOG_FORMAT] [default: text]",
};
const LOG_FILTER: Setting = Setting {
    name: "RUST_LOG",
    flag: "",
    variable: "RUST_LOG",
    accepted: "a level (error, warn, info, debug, trace), or target=level, comma-separated",
    help: "",
};

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
            None => settings(&matches, variable).map(Self::Run),
        }
    }
}

fn settings(
    flags: &ArgMatches,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Settings, Error> {
    let flag = |setting: &Setting| flags.get_one::<OsString>(setting.flag).cloned();
    let image = QUEUE_IMAGE.needed(flag(&QUEUE_IMAGE), &variable, image)?;
    let image_pull_policy = PULL_POLICY.read(flag(&PULL_POLICY), &variable, |name| {
        let mut all = ImagePullPolicy::ALL.iter().copied();
        all.find(|policy| policy.as_str() == name)
    })?;
    let election = self::election(flag(&ELECTION), flag(&LEASE_NAMESPACE), &variable)?;
    let admin_port = ADMIN_PORT.read(flag(&ADMIN_PORT), &variable, |port| {
        port.parse().ok().filter(|port| *port != 0)
    })?;
    let log_format = LOG_FORMAT.read(flag(&LOG_FORMAT), &variable, |name| {
        let mut all = LogFormat::ALL.into_iter();
        all.find(|format| format.as_str() == name)
    })?;
    let log_filter = LOG_FILTER.read(None, &variable, log_filter)?;
    let pull_secrets = PULL_SECRETS.read(None, &variable, secrets)?;
    let namespaces = flags.get_many::<OsString>(WATCH_NAMESPACE.flag);
    let namespaces = namespaces.into_iter().flatten().cloned().collect();
    Ok(Settings {
        defaults: QueueDefaults {
            image,
            image_pull_policy,
            image_pull_secrets: pull_secrets.unwrap_or_default(),
        },
        watch_namespaces: watch_namespaces(namespaces, &variable)?,
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

impl Setting {
    fn arg(&self) -> Arg {
        let action = match self.flag {
            "watch-namespace" => ArgAction::Append,
            _ => ArgAction::Set,
        };
        Arg::new(self.flag)
            .long(self.flag)
            .value_name(match self.variable {
                "" => "VALUE",
                variable => variable,
            })
            .value_parser(value_parser!(OsString))
            .action(action)
            .help(self.help)
    }

    /// As [`Setting::read`], for a required setting.
    fn needed<T>(
        &self,
        flag: Option<OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let read = self.read(flag, variable, parse)?;
        self.set(read)
    }

    /// The value of a required setting.
    fn set<T>(&self, read: Option<T>) -> Result<T, Error> {
        read.ok_or(Error::Unset {
            name: self.name,
            accepted: self.accepted,
        })
    }

    /// Reads the flag, else the variable. An empty variable counts as not set.
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

/// Every setting is checked, even without an election.
fn election(
    flag: Option<OsString>,
    namespace: Option<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Election>, Error> {
    let is_enabled = ELECTION.read(flag, &variable, |word| word.parse().ok())?;
    let namespace = LEASE_NAMESPACE.read(namespace, &variable, namespace_name)?;
    let pod_namespace = POD_NAMESPACE.read(None, &variable, namespace_name)?;
    let pod = POD_NAME.read(None, &variable, object_name)?;
    if is_enabled != Some(true) {
        return Ok(None);
    }
    let (pod, pod_namespace) = (POD_NAME.set(pod)?, POD_NAMESPACE.set(pod_namespace)?);
    Ok(Some(Election {
        namespace: namespace.unwrap_or_else(|| "kube-system".to_owned()),
        identity: format!("{pod_namespace}/{pod}"),
    }))
}

/// The namespaces of all flags, else of the variable.
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
        // A pod may reference each Secret only once.
        if fits(name) && !names.iter().any(|before| before == name) {
            names.push(name.to_owned());
        } else if !fits(name) {
            return None;
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
