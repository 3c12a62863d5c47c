//! The arguments of `gateway-queue-operator check`.

use clap::ArgMatches;
use http::Uri;

use super::Error;
use super::setting::{Setting, Source};

/// What to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The readiness URL of the operator's Service.
    pub readyz: Uri,
    /// The namespace in which a GatewayQueue is created as a dry run.
    pub namespace: String,
}

const READYZ: Setting = Setting {
    flag: "readyz",
    variable: "",
    accepted: "an http URL with a host, such as http://operator.default.svc:8080/readyz",
    help: "The readiness URL of the operator's Service; required",
    default: "",
};
const NAMESPACE: Setting = Setting {
    flag: "namespace",
    variable: "",
    accepted: "the name of a namespace",
    help: "The namespace in which a GatewayQueue is created as a dry run; required",
    default: "",
};

impl Check {
    pub(super) fn command() -> clap::Command {
        clap::Command::new("check")
            .about("Checks an installation, as `helm test` does: the operator is ready, and the API server accepts a GatewayQueue")
            .args([READYZ.arg(), NAMESPACE.arg()])
    }

    pub(super) fn read(flags: &ArgMatches) -> Result<Self, Error> {
        let source = Source {
            flags,
            variable: &|_| None,
        };
        let url = |text: &str| {
            let url: Uri = text.parse().ok()?;
            let is_valid = url.scheme_str() == Some("http") && url.host().is_some();
            is_valid.then_some(url)
        };
        let name = |text: &str| Some(text.to_owned()).filter(|name| !name.is_empty());
        Ok(Self {
            readyz: source.required(&READYZ, url)?,
            namespace: source.required(&NAMESPACE, name)?,
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
    fn check_needs_no_setting_of_the_operator() {
        let arguments = [
            "check",
            "--readyz=http://o.a.svc:8080/readyz",
            "--namespace=b",
        ];
        let Command::Check(check) = read(&arguments).unwrap() else {
            panic!("not a check");
        };
        assert_eq!(check.readyz.host(), Some("o.a.svc"));
        assert_eq!(check.namespace, "b");
    }

    #[test]
    fn an_invalid_argument_is_reported_with_what_is_accepted() {
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
        for (arguments, text) in table {
            let message = read(arguments).unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
    }
}
