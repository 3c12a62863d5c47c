//! A kubectl command that serves a local port.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Stdio};

use crate::kubectl::command;

/// A running command, killed when dropped.
pub(crate) struct Background {
    kubectl: Child,
    /// kubectl prints a line for each connection, and exits if it cannot.
    _stdout: BufReader<ChildStdout>,
}

impl Background {
    /// Starts `kubectl proxy` or `kubectl port-forward`. Returns the address that it prints.
    pub(crate) fn start(arguments: &str) -> (Self, String) {
        let mut kubectl = command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(kubectl.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let address = words.find(|word| word.parse::<SocketAddr>().is_ok());
        let address = address.unwrap_or_else(|| panic!("{arguments:?} printed {line:?}"));
        let address = address.to_owned();
        let background = Self {
            kubectl,
            _stdout: stdout,
        };
        (background, address)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
