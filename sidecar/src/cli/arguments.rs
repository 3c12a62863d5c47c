//! The command lines of `status` and `check`. Pure.

use std::ffi::OsString;

use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt;
use url::Url;

use crate::config::Invalid;

/// What `gateway-queue status --help` prints.
pub const STATUS_HELP: &str = "\
Says how a queue is: who leads, what is left of the session starts, why nothing is
granted when nothing is, and who waits.

Usage: gateway-queue status [URL] [--output text|json]

  URL              its admin port: host:port, or a URL, with or without /state
                   [http://127.0.0.1:9090, or ADMIN_PORT if that is set]
  --output FORMAT  text, or json: /state as it is [text]

Colours are for terminals, and not if NO_COLOR is set.

Exit codes: 0 it grants, 1 it does not, 2 the command cannot be read, 3 no queue
answers. To see it again and again: watch gateway-queue status.
";

/// What `gateway-queue check --help` prints.
pub const CHECK_HELP: &str = "\
Says in order what is wrong: with the settings, the token, the way to Discord, the
session starts, and the leader. It takes the settings of the server, flags and
environment alike, asks Discord once, and uses no session start.

Usage: gateway-queue check [--output text|json] [SETTINGS]

Exit code: that of the first failure.
   0 nothing is wrong                  6 TLS with Discord fails
   2 a setting cannot be read          7 Discord gives no answer that can be used
   3 there is no token                 8 Discord rejects the token
   4 Discord's name is not resolved    9 no session start is left
   5 no connection to Discord         10 nobody leads
";

const ACCEPTED: &str =
    "the URL is not accepted: it must be host:port or http://host:port, with or without /state";

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// What to say of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its /state.
    pub url: Url,
    /// How to print.
    pub output: Output,
}

/// Reads what follows `status`; none when it asks for help.
///
/// # Errors
///
/// When it cannot be read.
pub fn status(
    args: impl IntoIterator<Item = OsString>,
    admin_port: Option<OsString>,
) -> Result<Option<Status>, Invalid> {
    let mut parser = lexopt::Parser::from_args(args);
    let (mut url, mut output) = (None, Output::Text);
    while let Some(arg) = parser.next().map_err(bad)? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Short('o') | Long("output") => output = format(parser.value().map_err(bad)?)?,
            Value(text) if url.is_none() => {
                let text = text.string().map_err(|_| Invalid(ACCEPTED.to_owned()))?;
                url = Some(state_url(&text)?);
            }
            Value(_) => return Err(Invalid("there can be one URL only; see --help".to_owned())),
            flag => return Err(bad(flag.unexpected())),
        }
    }
    let url = match url {
        Some(url) => url,
        None => {
            let port = admin_port.and_then(|port| port.to_str()?.parse().ok());
            state_url(&format!("127.0.0.1:{}", port.unwrap_or(ADMIN_PORT)))?
        }
    };
    Ok(Some(Status { url, output }))
}

/// Where the admin port is unless it is set.
pub const ADMIN_PORT: u16 = 9090;

/// What follows `check`.
#[derive(Debug)]
pub struct Check {
    /// How to print.
    pub output: Output,
    /// Whether it asks for help.
    pub help: bool,
    /// The rest, which is about settings.
    pub settings: Vec<OsString>,
}

/// Takes what is about `check` itself out of what follows it.
///
/// # Errors
///
/// When there is no such output.
pub fn check(args: impl IntoIterator<Item = OsString>) -> Result<Check, Invalid> {
    let mut check = Check {
        output: Output::Text,
        help: false,
        settings: Vec::new(),
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--help" | "-h") => check.help = true,
            Some("--output" | "-o") => check.output = format(args.next().unwrap_or_default())?,
            Some(text) if text.starts_with("--output=") => {
                check.output = format(text["--output=".len()..].into())?;
            }
            _ => check.settings.push(arg),
        }
    }
    Ok(check)
}

fn format(value: OsString) -> Result<Output, Invalid> {
    match value.to_str() {
        Some("text") => Ok(Output::Text),
        Some("json") => Ok(Output::Json),
        _ => Err(Invalid(
            "--output is not accepted: it must be text or json".to_owned(),
        )),
    }
}

fn bad(error: lexopt::Error) -> Invalid {
    Invalid(format!("{error}; see --help"))
}

/// The URL of /state. What is refused is not repeated: it may hold a password.
fn state_url(text: &str) -> Result<Url, Invalid> {
    let refused = || Invalid(ACCEPTED.to_owned());
    let bare = !text.contains("://");
    let mut url = match bare {
        true => Url::parse(&format!("http://{text}")),
        false => Url::parse(text),
    }
    .map_err(|_| refused())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !plain || !matches!(url.scheme(), "http" | "https") {
        return Err(refused());
    }
    if bare && !names_port(text) {
        url.set_port(Some(ADMIN_PORT)).map_err(|()| refused())?;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with("/state") {
        url.set_path(&format!("{path}/state"));
    } else {
        url.set_path(&path);
    }
    Ok(url)
}

/// `Url` does not tell `host:80` from `host`.
fn names_port(text: &str) -> bool {
    let authority = text.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], port: Option<&str>) -> Result<Status, String> {
        match status(args.iter().map(Into::into), port.map(Into::into)) {
            Ok(status) => Ok(status.unwrap()),
            Err(invalid) => Err(invalid.to_string()),
        }
    }

    #[test]
    fn a_queue_may_be_named_as_it_comes_to_hand() {
        for (text, url) in [
            ("127.0.0.1:9090", "http://127.0.0.1:9090/state"),
            ("my-bot.default.svc", "http://my-bot.default.svc:9090/state"),
            ("my-bot:80", "http://my-bot/state"),
            ("[::1]:7", "http://[::1]:7/state"),
            ("[::1]", "http://[::1]:9090/state"),
            ("http://my-bot", "http://my-bot/state"),
            ("http://h:1/state", "http://h:1/state"),
            ("h:1/state/", "http://h:1/state"),
            ("https://h/bots/a/", "https://h/bots/a/state"),
        ] {
            assert_eq!(read(&[text], None).unwrap().url.as_str(), url, "{text}");
        }
    }

    #[test]
    fn without_a_url_it_is_the_admin_port_of_this_machine() {
        for (port, url) in [
            (None, "http://127.0.0.1:9090/state"),
            (Some("7"), "http://127.0.0.1:7/state"),
            (Some("x"), "http://127.0.0.1:9090/state"),
        ] {
            assert_eq!(read(&[], port).unwrap().url.as_str(), url);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_and_not_repeated() {
        for text in [
            "ftp://x",
            "http://u:hunter2@h",
            "h?hunter2",
            "",
            "h:hunter2",
        ] {
            let refusal = read(&[text], None).unwrap_err();
            assert!(refusal.starts_with("the URL is not accepted"), "{refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn flags_may_come_anywhere_and_unknown_ones_are_refused() {
        let status = read(&["--output=json", "h:1"], None).unwrap();
        assert_eq!(status.output, Output::Json);
        for args in [&["--watch"][..], &["--output", "xml"], &["a:1", "b:2"]] {
            assert!(read(args, None).is_err(), "{args:?}");
        }
    }

    #[test]
    fn what_check_does_not_know_is_about_settings() {
        let args = ["--port", "1", "--output", "json", "--host=::"];
        let check = check(args.iter().map(Into::into)).unwrap();
        assert_eq!(check.output, Output::Json);
        assert_eq!(check.settings, ["--port", "1", "--host=::"]);
    }
}
