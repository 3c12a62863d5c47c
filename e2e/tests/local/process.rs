//! A program that ends with the test that started it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Some libraries decode the bot's ID from the first part; this is 1.
pub(crate) const TOKEN: &str = "MQ.not-a.token";

/// Long enough for anything on loopback, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running program that prints one JSON object per line.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

/// The stream to which a program prints its lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prints {
    ToStdout,
    ToStderr,
}

impl Process {
    /// Starts a program with nothing but `variables` in its environment.
    pub(crate) fn start(program: &str, prints: Prints, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.env_clear().envs(variables.iter().copied());
        Self::spawn(program, &mut command, prints)
    }

    pub(crate) fn spawn(name: &str, command: &mut Command, prints: Prints) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let stdout = lines_of(child.stdout.take().unwrap());
        let stderr = lines_of(child.stderr.take().unwrap());
        let lines = match prints {
            Prints::ToStdout => stdout,
            Prints::ToStderr => stderr,
        };
        Self {
            name: name.to_owned(),
            child,
            lines,
        }
    }

    /// Returns the next line that `wanted` accepts.
    pub(crate) async fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        timeout(PATIENCE, async {
            loop {
                let line = self.lines.recv().await;
                let line = line.unwrap_or_else(|| panic!("{} ended", self.name));
                let line: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|e| panic!("{} printed {line:?}: {e}", self.name));
                if wanted(&line) {
                    return line;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{} did not print the line within {PATIENCE:?}", self.name))
    }

    /// Waits for the line about `event`.
    pub(crate) async fn event(&mut self, event: &str) -> Value {
        self.line(|line| line["event"] == event).await
    }

    /// Waits for something. The program must not end before.
    pub(crate) async fn during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            output = wait => output,
            status = self.child.wait() => panic!("{} ended: {status:?}", self.name),
        }
    }

    /// Sends SIGTERM, and waits until the program has ended.
    pub(crate) async fn terminate(mut self, within: Duration) -> ExitStatus {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(pid.expect("the program runs"), Signal::TERM).unwrap();
        timeout(within, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("{} did not end in {within:?}", self.name))
            .unwrap()
    }
}

/// Reads the lines immediately, so that a full pipe never stalls the program, and repeats them
/// on standard error, for the report of a failed test.
fn lines_of(output: impl AsyncRead + Send + Unpin + 'static) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            eprintln!("{line}");
            // The pipe is emptied even if the test has stopped reading.
            let _ = sender.send(line);
        }
    });
    receiver
}
