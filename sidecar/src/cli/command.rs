//! What the command line asks for. Pure: it and the environment are arguments.

use std::ffi::OsString;

use crate::cli::arguments::{self, CHECK_HELP, Output, STATUS_HELP, Status};
use crate::config::{self, Invalid, Settings};

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Run the queue.
    Run(Box<Settings>),
    /// Say how a queue is.
    Status(Status),
    /// Say what is wrong with the surroundings, or with the settings.
    Check(Result<Box<Settings>, Invalid>, Output),
    /// Print this text and end.
    Print(String),
}

/// A command line that cannot be read.
#[derive(Debug)]
pub struct Refused {
    /// One line about it.
    pub why: Invalid,
    /// What the process says as it ends.
    pub exit_code: u8,
}

impl Command {
    /// Reads flags and environment; a flag wins.
    ///
    /// # Errors
    ///
    /// At the first value that cannot be read.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Refused> {
        let mut args = args.into_iter().peekable();
        let usage = |why| Refused { why, exit_code: 2 };
        match args.peek().and_then(|word| word.to_str()) {
            Some("status") => {
                let status = arguments::status(args.skip(1), environment("ADMIN_PORT"));
                Ok(match status.map_err(usage)? {
                    Some(status) => Self::Status(status),
                    None => Self::Print(STATUS_HELP.to_owned()),
                })
            }
            Some("check") => {
                let check = arguments::check(args.skip(1)).map_err(usage)?;
                if check.help {
                    return Ok(Self::Print(CHECK_HELP.to_owned()));
                }
                let settings = match Settings::read(check.settings, environment) {
                    Ok(config::Command::Run(settings)) => Ok(settings),
                    Ok(config::Command::Print(text)) => return Ok(Self::Print(text)),
                    Err(invalid) => Err(invalid),
                };
                Ok(Self::Check(settings, check.output))
            }
            _ => match Settings::read(args, environment) {
                Ok(config::Command::Run(settings)) => Ok(Self::Run(settings)),
                Ok(config::Command::Print(text)) => Ok(Self::Print(text)),
                Err(why) => Err(Refused { why, exit_code: 1 }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Command, Refused> {
        let port = |name: &str| (name == "ADMIN_PORT").then(|| "7".into());
        Command::read(args.iter().map(Into::into), port)
    }

    #[test]
    fn the_first_word_is_the_command() {
        assert!(matches!(read(&["--port", "1"]), Ok(Command::Run(_))));
        assert!(matches!(
            read(&["check", "--port", "1"]),
            Ok(Command::Check(Ok(_), Output::Text))
        ));
        let Ok(Command::Status(status)) = read(&["status"]) else {
            panic!("no status");
        };
        assert_eq!(status.url.as_str(), "http://127.0.0.1:7/state");
        for help in [["status", "--help"], ["check", "--help"]] {
            let Ok(Command::Print(text)) = read(&help) else {
                panic!("no help");
            };
            assert!(
                text.contains(&format!("gateway-queue {}", help[0])),
                "{text}"
            );
        }
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_found_by_check_and_refused_by_the_server() {
        assert!(matches!(
            read(&["check", "--port", "x"]),
            Ok(Command::Check(Err(_), _))
        ));
        assert_eq!(read(&["--port", "x"]).unwrap_err().exit_code, 1);
        assert_eq!(read(&["status", "--nothing"]).unwrap_err().exit_code, 2);
        assert_eq!(
            read(&["check", "--output", "xml"]).unwrap_err().exit_code,
            2
        );
    }
}
