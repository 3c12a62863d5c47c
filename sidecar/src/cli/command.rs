//! The command line. Pure: arguments and environment are parameters.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches};
use url::Url;

use super::state_url;
use crate::config::{self, Invalid, Settings, default_of};

const ABOUT: &str =
    "Paces the identifies of Discord shards. Runs the queue server unless a command is given.";

const STATUS_ABOUT: &str = "Prints the state of a queue: its leader, the session starts left, \
the waiting shards, and, if nothing is granted, the reason.";

const STATUS_EXIT_CODES: &str = "\
Exit codes:
  0  the queue grants, or forwards to a leader or an upstream that responds
  1  it does not: there is no leader, or it holds requests; the line `granting` says why
  2  the command line is invalid
  3  the state of a queue cannot be read at the URL

Output is colored on a terminal unless NO_COLOR is set. To repeat the command, use
`watch gateway-queue status`.";

const CHECK_ABOUT: &str = "Checks the settings, the token, the connection to Discord, the session \
starts and the leader, in this order. It reads the server's settings, sends one request to Discord, \
and uses no session start.";

const CHECK_EXIT_CODES: &str = "\
Exit codes, of the first failure:
   0  none
   1  the checks cannot run: the message says why
   2  settings: one is invalid, so the server would not start
   3  token: missing, empty or unreadable
   4  dns: Discord's name cannot be resolved
   5  tcp: no connection to Discord
   6  tls: no encrypted connection to Discord
   7  http: no usable response from Discord
   8  token_accepted: Discord rejects the token
   9  session_starts: none is left above SESSION_RESERVE
  10  leader: no pod holds the Lease, or it cannot be read";

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Run the server.
    Serve(Box<Settings>),
    /// Print the state of the queue whose `/state` is at this URL.
    Status(Url, Output),
    /// Print what is wrong with the surroundings, or with the settings.
    Check(Result<Box<Settings>, Invalid>, Output),
    /// Print this text and exit.
    Print(String),
}

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

impl Command {
    /// Reads arguments and environment. A flag takes precedence over its variable.
    ///
    /// # Errors
    ///
    /// States in one line what is not accepted, and what is.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Invalid> {
        let program = OsString::from("gateway-queue");
        let args = std::iter::once(program).chain(args);
        let matches = match clap_command().try_get_matches_from(args) {
            Ok(matches) => matches,
            Err(error) if error.exit_code() == 0 => return Ok(Self::Print(error.to_string())),
            Err(error) => return Err(one_line(&error)),
        };
        Ok(match matches.subcommand() {
            Some(("status", matches)) => {
                let url = match matches.get_one::<String>("URL") {
                    Some(url) => url.clone(),
                    None => format!("127.0.0.1:{}", admin_port(environment)),
                };
                Self::Status(state_url::parse(&url)?, output(matches))
            }
            Some(("check", matches)) => {
                let settings = Settings::read(matches, environment).map(Box::new);
                Self::Check(settings, output(matches))
            }
            _ => Self::Serve(Box::new(Settings::read(&matches, environment)?)),
        })
    }
}

fn clap_command() -> clap::Command {
    let format = Arg::new("output")
        .long("output")
        .short('o')
        .value_name("FORMAT")
        .value_parser(["text", "json"])
        .default_value("text")
        .help("format of the output");
    clap::Command::new("gateway-queue")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .args_override_self(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .args(config::arguments())
        .after_help(config::WITHOUT_FLAG)
        .subcommand(
            clap::Command::new("status")
                .about(STATUS_ABOUT)
                .after_help(STATUS_EXIT_CODES)
                .args_override_self(true)
                .arg(Arg::new("URL").help(
                    "the admin port, as host:port or http://host:port, with or without /state \
                     [default: http://127.0.0.1 with the port of ADMIN_PORT]",
                ))
                .arg(format.clone().help("json prints /state as it is")),
        )
        .subcommand(
            clap::Command::new("check")
                .about(CHECK_ABOUT)
                .after_help(format!("{}\n\n{CHECK_EXIT_CODES}", config::WITHOUT_FLAG))
                .args_override_self(true)
                .arg(format)
                .args(config::arguments()),
        )
}

fn output(matches: &ArgMatches) -> Output {
    match matches.get_one::<String>("output").map(String::as_str) {
        Some("json") => Output::Json,
        _ => Output::Text,
    }
}

/// The admin port of the server on this machine. An invalid one is for `check` to report.
fn admin_port(environment: impl Fn(&str) -> Option<OsString>) -> String {
    let set = environment("ADMIN_PORT").and_then(|port| port.into_string().ok());
    let set = set.filter(|port| port.parse::<u16>().is_ok());
    set.unwrap_or_else(|| default_of("ADMIN_PORT").to_owned())
}

/// clap's error without its usage and hints. A value is not repeated where it may be a
/// token that was passed as an argument.
fn one_line(error: &clap::Error) -> Invalid {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => arg.starts_with('-'),
        _ => false,
    };
    let text = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            "only flags and the commands status and check are accepted".to_owned()
        }
        ErrorKind::UnknownArgument if !flag => "too many arguments".to_owned(),
        ErrorKind::TooManyValues => "a flag has a value that it does not accept".to_owned(),
        _ => {
            let text = error.to_string();
            let cause = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<_> = cause.split_whitespace().collect();
            words.join(" ").trim_start_matches("error: ").to_owned()
        }
    };
    Invalid(format!("{text}; see --help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], admin_port: Option<&str>) -> Result<Command, String> {
        let environment = |name: &str| admin_port.filter(|_| name == "ADMIN_PORT").map(Into::into);
        Command::read(args.iter().map(Into::into), environment).map_err(|error| error.to_string())
    }

    fn printed(args: &[&str]) -> String {
        match read(args, None) {
            Ok(Command::Print(text)) => text,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn the_command_may_be_followed_by_flags() {
        assert!(matches!(
            read(&["--port", "1", "--port=2"], None),
            Ok(Command::Serve(settings)) if settings.port == 2
        ));
        assert!(matches!(
            read(&["check", "--port", "1", "--output", "json", "--host=::"], None),
            Ok(Command::Check(Ok(settings), Output::Json)) if settings.port == 1
        ));
        assert!(matches!(
            read(&["check", "--port", "x"], None),
            Ok(Command::Check(Err(_), Output::Text))
        ));
        assert!(matches!(
            read(&["status", "--output=json", "h:1"], None),
            Ok(Command::Status(url, Output::Json)) if url.as_str() == "http://h:1/state"
        ));
    }

    #[test]
    fn status_without_a_url_uses_the_admin_port_of_this_machine() {
        for (port, url) in [
            (None, "http://127.0.0.1:9090/state"),
            (Some("7"), "http://127.0.0.1:7/state"),
            (Some("x"), "http://127.0.0.1:9090/state"),
        ] {
            let Ok(Command::Status(read, Output::Text)) = read(&["status"], port) else {
                panic!("no status");
            };
            assert_eq!(read.as_str(), url);
        }
    }

    #[test]
    fn an_invalid_command_line_is_refused_in_one_line_that_repeats_no_token() {
        for (args, expected) in [
            (&["--prot", "1"][..], "unexpected argument '--prot' found"),
            (
                &["--discord-token", "hunter2"],
                "unexpected argument '--discord-token' found",
            ),
            (
                &["--discord-token=hunter2"],
                "unexpected argument '--discord-token' found",
            ),
            (
                &["--version=hunter2"],
                "a flag has a value that it does not accept",
            ),
            (
                &["hunter2"],
                "only flags and the commands status and check are accepted",
            ),
            (
                &["--port"],
                "a value is required for '--port <PORT>' but none was supplied",
            ),
            (&["check", "hunter2"], "too many arguments"),
            (&["status", "a:1", "hunter2"], "too many arguments"),
            (
                &["status", "--output", "xml"],
                "invalid value 'xml' for '--output <FORMAT>' [possible values: text, json]",
            ),
        ] {
            let expected = format!("{expected}; see --help");
            assert_eq!(read(args, None).unwrap_err(), expected, "{args:?}");
        }
        let refusal = "PORT=\"x\" is not accepted: it must be a port, 0 to 65535";
        assert_eq!(read(&["--port", "x"], None).unwrap_err(), refusal);
    }

    #[test]
    fn help_names_every_setting_and_every_exit_code() {
        for help in [printed(&["--help"]), printed(&["check", "-h"])] {
            for (name, ..) in config::TABLE {
                assert!(help.contains(name), "{name}: {help}");
            }
        }
        for (command, codes) in [("status", 0..=3), ("check", 0..=10)] {
            let help = printed(&[command, "--help"]);
            for code in codes {
                assert!(help.contains(&format!(" {code}  ")), "{code}: {help}");
            }
        }
        assert!(printed(&["--version"]).starts_with("gateway-queue "));
    }
}
