//! The process of a pod, on the node's machine.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process, also identified by a handle in case its PID is reused.
pub(crate) struct Process {
    pub(crate) pid: i32,
    handle: OwnedFd,
}

impl Process {
    /// The process of a program in the pod of this UID.
    pub(crate) fn in_pod(uid: &str, program: &str) -> Self {
        let is = |pid: i32| {
            let group = fs::read_to_string(proc(pid, "cgroup")).unwrap_or_default();
            let words = command(pid);
            group.contains(&format!("pod{uid}")) && words.first().is_some_and(|w| w == program)
        };
        Self::that(&is).unwrap_or_else(|| {
            panic!("no process {program} of pod {uid}: run the tests on the node, as root")
        })
    }

    /// Finds a process.
    pub(crate) fn that(is: &dyn Fn(i32) -> bool) -> Option<Self> {
        let pid = pids().into_iter().find(|pid| is(*pid))?;
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // The PID may have been reused before the handle was opened.
        is(pid).then_some(Self { pid, handle })
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Whether the process has ended.
    pub(crate) fn is_gone(&self) -> bool {
        pidfd_send_signal(&self.handle, Signal::CONT).is_err()
    }

    /// Suspends it until the guard is dropped.
    pub(crate) fn freeze(self) -> Frozen {
        self.signal(Signal::STOP);
        Frozen(self)
    }

    fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal)
            .unwrap_or_else(|e| panic!("{signal:?} to process {}: {e}", self.pid));
    }
}

/// A suspended process, which resumes when this is dropped.
pub(crate) struct Frozen(Process);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = pidfd_send_signal(&self.0.handle, Signal::CONT);
    }
}

/// The arguments of a process; none if it has ended.
pub(crate) fn command(pid: i32) -> Vec<String> {
    words(pid, "cmdline")
}

/// The strings in a file of the process, which are separated by zeros.
pub(crate) fn words(pid: i32, file: &str) -> Vec<String> {
    let bytes = fs::read(proc(pid, file)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

pub(crate) fn proc(pid: i32, file: &str) -> PathBuf {
    format!("/proc/{pid}/{file}").into()
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
