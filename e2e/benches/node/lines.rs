//! The lines that kubectl prints while it runs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::Kind;
use crate::kubectl::command;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running kubectl, killed when dropped.
pub(crate) struct Lines {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Lines {
    /// Starts kubectl. Each line is taken as soon as it is printed.
    pub(crate) fn of(arguments: &str) -> Self {
        let mut command = command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send((Instant::now(), line));
            }
        });
        Self { child, lines }
    }

    /// Watches the objects of a kind: each line is an event, first of those that exist.
    pub(crate) fn watch(kind: Kind, namespace: &str) -> Self {
        let path = kind.path(namespace, "");
        Self::of(&format!("get --raw {path}?watch=true"))
    }

    /// Waits for an event with an object of which this holds. Returns when it was received.
    pub(crate) fn find(&self, mut holds: impl FnMut(&Value) -> bool) -> Instant {
        loop {
            let (at, line) = self.lines.recv_timeout(PATIENCE).expect("no such event");
            let event: Value = serde_json::from_str(&line).unwrap();
            if holds(&event["object"]) {
                return at;
            }
        }
    }

    /// Returns the lines that were printed since the last call.
    pub(crate) fn printed(&self) -> impl Iterator<Item = String> {
        self.lines.try_iter().map(|(_, line)| line)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
