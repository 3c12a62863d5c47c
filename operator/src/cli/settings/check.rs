//! What `gateway-queue-operator check` is told.

use http::Uri;
use lexopt::prelude::*;

use super::{Error, Setting};

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where the operator tells whether it is ready, through its Service.
    pub readyz: Uri,
    /// Where the API server is asked for a GatewayQueue that is not made.
    pub namespace: String,
}

const READYZ: Setting = Setting {
    name: "--readyz",
    variable: "",
    accepted: "an http URL with a host, such as http://operator.default.svc:8080/readyz",
};
const NAMESPACE: Setting = Setting {
    name: "--namespace",
    variable: "",
    accepted: "the name of a namespace",
};

impl Check {
    /// Reads what comes after the word `check`.
    pub(super) fn read(arguments: &mut lexopt::Parser) -> Result<Self, Error> {
        let (mut readyz, mut namespace) = (None, None);
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("readyz") => readyz = Some(arguments.value()?),
                Long("namespace") => namespace = Some(arguments.value()?),
                other => return Err(other.unexpected().into()),
            }
        }
        let nothing = |_: &str| None;
        let url = |text: &str| {
            let url: Uri = text.parse().ok()?;
            let fits = url.scheme_str() == Some("http") && url.host().is_some();
            fits.then_some(url)
        };
        let name = |text: &str| Some(text.to_owned()).filter(|name| !name.is_empty());
        Ok(Self {
            readyz: READYZ.needed(readyz, nothing, url)?,
            namespace: NAMESPACE.needed(namespace, nothing, name)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::Command;
    use super::*;

    fn read(arguments: &[&str]) -> Result<Command, Error> {
        Command::read(arguments.iter().map(OsString::from), |_| None)
    }

    #[test]
    fn a_check_needs_no_setting_of_the_operator() {
        let arguments = [
            "check",
            "--readyz=http://o.a.svc:8080/readyz",
            "--namespace=b",
        ];
        let Command::Check(check) = read(&arguments).unwrap() else {
            panic!("no check");
        };
        assert_eq!(check.readyz.host(), Some("o.a.svc"));
        assert_eq!(check.namespace, "b");
    }

    #[test]
    fn what_a_check_cannot_read_is_named_with_what_is_accepted() {
        let table: [(&[&str], &str); 4] = [
            (&["check", "--namespace=b"], "--readyz is not set"),
            (
                &["check", "--readyz=http://a/readyz"],
                "--namespace is not set",
            ),
            (
                &["check", "--readyz=https://a/readyz", "--namespace=b"],
                "accepted is an http URL",
            ),
            (&["check", "--moon"], "--moon"),
        ];
        for (arguments, words) in table {
            let message = read(arguments).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
