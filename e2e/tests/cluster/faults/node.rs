//! Faults of the node: a partition of a pod's network, and an outage of the API server. Each
//! ends when its guard is dropped.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::process::{Process, command, proc, words};
use crate::kubectl::Namespace;
use crate::wait::wait_for;

/// A pod that drops packets, as in a partitioned network.
pub(crate) struct Partition {
    process: Process,
    rules: Vec<Vec<String>>,
}

impl Partition {
    /// Drops the packets between the pod and the API server.
    pub(crate) fn from_api_server(namespace: &Namespace, process: Process) -> Self {
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

    /// Drops the packets to the pod's peer port.
    pub(crate) fn from_peers(process: Process) -> Self {
        let rule = ["INPUT", "--protocol", "tcp", "--dport", "9091"];
        Self::new(process, &[&rule])
    }

    fn new(process: Process, rules: &[&[&str]]) -> Self {
        let rules = rules.iter();
        let partition = Self {
            process,
            rules: rules
                .map(|rule| rule.iter().map(|word| (*word).to_owned()).collect())
                .collect(),
        };
        for rule in &partition.rules {
            let output = partition.firewall("-I", rule).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{rule:?}: {error}");
        }
        partition
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

impl Drop for Partition {
    fn drop(&mut self) {
        for rule in &self.rules {
            // The rules end with the pod.
            let _ = self.firewall("-D", rule).output();
        }
    }
}

/// The restarts of the API server: when it was started, and when it was ready.
static STARTS: Mutex<Vec<(Timestamp, Timestamp)>> = Mutex::new(Vec::new());

/// Whether the API server was starting at that time, or had just started. It may serve before
/// it has read the RBAC rules, and refuses everything meanwhile.
pub(crate) fn api_server_was_starting(at: Timestamp) -> bool {
    let starts = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut starts = starts.iter();
    starts.any(|(started, ready)| (*started..*ready + Duration::from_secs(1)).contains(&at))
}

/// An outage of the node's API server.
pub(crate) struct Outage {
    /// The first process of the node, the parent of all others.
    parent: String,
    command: Vec<String>,
    environment: Vec<String>,
    log: PathBuf,
}

impl Outage {
    /// Kills the API server, and waits until it has ended.
    pub(crate) fn begin(namespace: &Namespace) -> Self {
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
        let outage = Self {
            parent: parent.unwrap().trim().to_owned(),
            command: command(pid),
            environment: words(pid, "environ"),
            log: fs::read_link(proc(pid, "fd/1")).unwrap(),
        };
        process.kill();
        wait_for("the API server to end", Duration::from_secs(10), || {
            process.is_gone().then_some(())
        });
        outage
    }

    /// Starts the API server with the same arguments, and waits until it is ready.
    pub(crate) fn end(self, namespace: &Namespace) {
        let started = Timestamp::now();
        drop(self);
        wait_for(
            "the API server to be ready",
            Duration::from_secs(60),
            || namespace.kubectl(&["get", "--raw=/readyz"]).ok(),
        );
        let mut starts = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        starts.push((started, Timestamp::now()));
    }
}

impl Drop for Outage {
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
        // A panic while a test fails would abort the process.
        if !started {
            eprintln!("cannot restart the API server: {status:?}");
        }
    }
}
