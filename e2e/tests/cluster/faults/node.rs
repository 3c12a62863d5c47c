//! Faults of the node: a partition of a pod's network, and an outage of the API server. Each
//! ends when its guard is dropped.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::common::namespace::run;
use crate::common::wait::retry;
use crate::kubectl::kubectl;
use crate::process::{Process, command, proc, words};
use crate::wait::wait_until;

/// A pod that drops packets, as in a partitioned network.
pub(crate) struct Partition {
    process: Process,
    rules: Vec<String>,
}

impl Partition {
    /// Drops the packets between the pod and the API server.
    pub(crate) fn from_api_server(process: Process) -> Self {
        let service = "get service kubernetes --namespace=default";
        let ip = kubectl(&format!("{service} --output=jsonpath={{.spec.clusterIP}}")).unwrap();
        let rules = [
            format!("OUTPUT --destination {ip}"),
            format!("INPUT --source {ip}"),
        ];
        Self::new(process, rules.into())
    }

    /// Drops the packets to the pod's peer port.
    pub(crate) fn from_peers(process: Process) -> Self {
        let rule = "INPUT --protocol tcp --dport 9091";
        Self::new(process, vec![rule.to_owned()])
    }

    fn new(process: Process, rules: Vec<String>) -> Self {
        let partition = Self { process, rules };
        for rule in &partition.rules {
            partition.firewall("-I", rule).unwrap();
        }
        partition
    }

    fn firewall(&self, action: &str, rule: &str) -> Result<String, String> {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.process.pid.to_string(), "--net"]);
        let iptables = format!("iptables --wait {action} {rule} --jump DROP");
        run(nsenter.args(iptables.split(' ')), "")
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        for rule in &self.rules {
            // The rules end with the pod.
            let _ = self.firewall("-D", rule);
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
    pub(crate) fn begin() -> Self {
        let path = "jsonpath={.clusters[0].cluster.server}";
        let url = kubectl(&format!("config view --minify --output={path}")).unwrap();
        let host = url.trim_start_matches("https://").split(':').next();
        let address = format!("--advertise-address={}", host.unwrap());
        let is = |pid: i32| {
            let words = command(pid);
            let program = words.first();
            program.is_some_and(|word| word.ends_with("/kube-apiserver"))
                && words.contains(&address)
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
        wait_until("the API server to end", Duration::from_secs(10), || {
            process.is_gone()
        });
        outage
    }

    /// Starts the API server with the same arguments, and waits until it is ready.
    pub(crate) fn end(self) {
        let started = Timestamp::now();
        drop(self);
        let patience = Duration::from_secs(60);
        retry("the API server to be ready", patience, || {
            kubectl("get --raw=/readyz")
        });
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
