//! What of the node is taken away: a pod's way to the API server or to other pods, and the
//! API server. Each comes back when its guard is dropped.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::process::{Process, command, proc, words};
use crate::kubectl::{Namespace, wait_for};

/// A pod that drops some packets, as they vanish where a network is cut.
pub(crate) struct Cut {
    process: Process,
    rules: Vec<Vec<String>>,
}

impl Cut {
    /// The pod reaches all but the API server, which does not reach it either.
    pub(crate) fn off(namespace: &Namespace, process: Process) -> Self {
        let path = "jsonpath={.spec.clusterIP}";
        let service = ["get", "service", "kubernetes", "--namespace=default"];
        let api_server = namespace
            .kubectl(&[&service[..], &["--output", path]].concat())
            .unwrap();
        let rules = [
            &["OUTPUT", "--destination", &*api_server][..],
            &["INPUT", "--source", &*api_server],
        ];
        Self::new(process, &rules)
    }

    /// No other pod reaches the port at which the queue's pods ask each other.
    pub(crate) fn off_from_peers(process: Process) -> Self {
        let rule = ["INPUT", "--protocol", "tcp", "--dport", "9091"];
        Self::new(process, &[&rule])
    }

    fn new(process: Process, rules: &[&[&str]]) -> Self {
        let rules = rules.iter();
        let cut = Self {
            process,
            rules: rules
                .map(|rule| rule.iter().map(|word| (*word).to_owned()).collect())
                .collect(),
        };
        for rule in &cut.rules {
            let output = cut.firewall("-I", rule).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{rule:?}: {said}");
        }
        cut
    }

    fn firewall(&self, action: &str, rule: &[String]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.process.pid.to_string(), "--net"])
            .args(["iptables", "--wait", action])
            .args(rule)
            .args(["--jump", "DROP"]);
        command
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        for rule in &self.rules {
            // The rules go with the pod, if it went first.
            let _ = self.firewall("-D", rule).output();
        }
    }
}

/// When the API server was started again, and when it was ready after that.
static STARTS: Mutex<Vec<(Timestamp, Timestamp)>> = Mutex::new(Vec::new());

/// Whether the API server was starting then, or had just started. It may serve before
/// it has read who may do what, and says no to everybody meanwhile.
pub(crate) fn api_server_was_starting(at: Timestamp) -> bool {
    let starts = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut starts = starts.iter();
    starts.any(|(started, ready)| (*started..*ready + Duration::from_secs(1)).contains(&at))
}

/// The node's API server, killed.
pub(crate) struct Down {
    /// The first process of the node, which adopts all others.
    parent: String,
    command: Vec<String>,
    environment: Vec<String>,
    log: PathBuf,
}

impl Down {
    /// Kills it, and returns when it is gone.
    pub(crate) fn take(namespace: &Namespace) -> Self {
        let view = ["config", "view", "--minify", "--output"];
        let path = "jsonpath={.clusters[0].cluster.server}";
        let url = namespace.kubectl(&[&view[..], &[path]].concat()).unwrap();
        let host = url
            .trim_start_matches("https://")
            .split(':')
            .next()
            .unwrap();
        let address = format!("--advertise-address={host}");
        let is = |pid: i32| {
            let words = command(pid);
            let program = words
                .first()
                .is_some_and(|word| word.ends_with("/kube-apiserver"));
            program && words.contains(&address)
        };
        let process =
            Process::that(&is).unwrap_or_else(|| panic!("no API server of {url} on this machine"));
        let pid = process.pid;
        let status = fs::read_to_string(proc(pid, "status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let down = Self {
            parent: parent.unwrap().trim().to_owned(),
            command: command(pid),
            environment: words(pid, "environ"),
            log: fs::read_link(proc(pid, "fd/1")).unwrap(),
        };
        process.kill();
        wait_for("the API server to end", Duration::from_secs(10), || {
            process.is_gone().then_some(())
        });
        down
    }

    /// Starts it as it was, and returns when it serves.
    pub(crate) fn back(self, namespace: &Namespace) {
        let started = Timestamp::now();
        drop(self);
        wait_for("the API server to be back", Duration::from_secs(60), || {
            namespace.kubectl(&["get", "--raw=/readyz"]).ok()
        });
        let mut starts = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        starts.push((started, Timestamp::now()));
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        let log = OpenOptions::new().append(true).open(&self.log).unwrap();
        let variables = self.environment.iter().filter_map(|v| v.split_once('='));
        let status = Command::new("nsenter")
            .args(["--target", &self.parent, "--mount", "--net", "--pid", "--"])
            .args(["setsid", "--fork"])
            .args(&self.command)
            .env_clear()
            .envs(variables)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status();
        let started = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        // Nobody can be told otherwise while a test fails.
        if !started {
            eprintln!("the API server was not started again: {status:?}");
        }
    }
}
