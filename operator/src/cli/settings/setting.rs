//! A setting, and how its value is read from a flag or a variable.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::Error;

/// A setting.
pub(super) struct Setting {
    /// Its flag, or an empty string.
    pub(super) flag: &'static str,
    /// Its variable, or an empty string.
    pub(super) variable: &'static str,
    pub(super) accepted: &'static str,
    /// The help of the flag, without its variable.
    pub(super) help: &'static str,
    pub(super) default: &'static str,
}

impl Setting {
    /// A setting without a flag. The help lists it under the environment.
    pub(super) const fn variable(variable: &'static str, accepted: &'static str) -> Self {
        Self {
            flag: "",
            variable,
            accepted,
            help: "",
            default: "",
        }
    }

    pub(super) fn arg(&self) -> Arg {
        let action = match self.flag {
            "watch-namespace" => ArgAction::Append,
            _ => ArgAction::Set,
        };
        let mut help = self.help.to_owned();
        if !self.variable.is_empty() {
            help += &format!(" [env: {}]", self.variable);
        }
        if !self.default.is_empty() {
            help += &format!(" [default: {}]", self.default);
        }
        Arg::new(self.flag)
            .long(self.flag)
            .value_name(match self.variable {
                "" => "VALUE",
                variable => variable,
            })
            .value_parser(value_parser!(OsString))
            .action(action)
            .help(help)
    }

    /// Its flag and its variable.
    fn name(&self) -> String {
        match (self.flag, self.variable) {
            ("", variable) => variable.to_owned(),
            (flag, "") => format!("--{flag}"),
            (flag, variable) => format!("--{flag} ({variable})"),
        }
    }

    pub(super) fn parse<T>(
        &self,
        value: &OsStr,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        value.to_str().and_then(parse).ok_or_else(|| Error::Value {
            name: self.name(),
            value: value.to_string_lossy().into_owned(),
            accepted: self.accepted,
        })
    }

    /// The value of a required setting.
    pub(super) fn require<T>(&self, read: Option<T>) -> Result<T, Error> {
        read.ok_or_else(|| Error::Unset {
            name: self.name(),
            accepted: self.accepted,
        })
    }
}

/// The command line and the environment.
pub(super) struct Source<'a> {
    pub(super) flags: &'a ArgMatches,
    /// Returns the value of an environment variable.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Source<'_> {
    /// Reads the flag, else the variable. An empty variable counts as not set.
    pub(super) fn read<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let flag = match setting.flag {
            "" => None,
            flag => self.flags.get_one::<OsString>(flag).cloned(),
        };
        let set = |value: &OsString| !value.is_empty();
        let value = flag.or_else(|| (self.variable)(setting.variable).filter(set));
        value.map(|value| setting.parse(&value, parse)).transpose()
    }

    pub(super) fn required<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        setting.require(self.read(setting, parse)?)
    }
}
