//! The node's processes, as /proc lists them.
//!
//! The node has a process namespace of its own: its first process is all that must be
//! found, because the kernel ends the others with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::layout::MARK;

/// How long the kernel may take to end the node's processes.
const END: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

/// The programs that the node's first process is during its start.
const STAGES: [&str; 5] = ["setsid", "nsenter", "unshare", "sh", "pause"];

/// Identifies a process even after its number was reused.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Identity {
    /// The process id on the host.
    pub(crate) pid: i32,
    /// Clock ticks from the start of the machine to the start of the process.
    pub(crate) started: u64,
}

/// The node's first process.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) identity: Identity,
    namespace: PathBuf,
}

impl Init {
    /// Returns the command lines of all processes of the node, without those of pods.
    pub(crate) fn family(&self) -> Vec<Vec<String>> {
        let is_ours = |pid: &i32| namespace(*pid).as_ref() == Some(&self.namespace);
        pids().filter(is_ours).map(command_line).collect()
    }
}

/// Returns the node's first process once it has started.
pub(crate) fn init() -> Option<Init> {
    let is_pause = |pid: &i32| {
        let command_line = command_line(*pid);
        command_line
            .first()
            .is_some_and(|name| name.ends_with("/pause"))
    };
    let pid = marked().into_iter().find(is_pause)?;
    Some(Init {
        identity: identity(pid)?,
        namespace: namespace(pid)?,
    })
}

/// Returns whether a first process of a node exists, even if it is still starting.
pub(crate) fn any() -> bool {
    !marked().is_empty()
}

/// Kills every node's first process, and thereby all its processes, and waits for its end.
pub(crate) fn end_all() -> Result<()> {
    // Twice: the first round may miss a process that is becoming another program.
    for _ in 0..2 {
        marked().into_iter().try_for_each(end)?;
    }
    Ok(())
}

fn end(pid: i32) -> Result<()> {
    let handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(handle) = handle else {
        return Ok(());
    };
    // The handle stays with this process. Checking what it is only after opening the handle
    // means that no other process can be killed.
    if !is_marked(&command_line(pid)) {
        return Ok(());
    }
    // It fails if the process has ended.
    let _ = pidfd_send_signal(&handle, Signal::KILL);
    let mut watched = [PollFd::new(&handle, PollFlags::IN)];
    let ended = poll(&mut watched, Some(&END));
    if ended.with_context(|| format!("waiting for process {pid} to end"))? == 0 {
        bail!("process {pid}, the node's first, was killed but does not end");
    }
    // Its parent ends a moment later.
    thread::sleep(Duration::from_millis(20));
    Ok(())
}

/// Returns the identity of a process, if it exists.
fn identity(pid: i32) -> Option<Identity> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let started = started(&stat)?;
    Some(Identity { pid, started })
}

/// Returns the 22nd field of /proc/PID/stat. The second one is the program's name in
/// parentheses, which may contain spaces and parentheses.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn marked() -> Vec<i32> {
    pids()
        .filter(|pid| is_marked(&command_line(*pid)))
        .collect()
}

fn is_marked(command_line: &[String]) -> bool {
    let program = command_line
        .first()
        .and_then(|path| Path::new(path).file_name());
    program.is_some_and(|program| STAGES.iter().any(|stage| program == *stage))
        && command_line.iter().any(|word| word == MARK)
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_behind_a_name_with_parentheses_and_spaces() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 1 0 987654 1000 20 18446744073709551615";
        assert_eq!(started(stat), Some(987_654));
        assert_eq!(started("12 (cut"), None);
        let this = i32::try_from(std::process::id()).unwrap();
        assert!(identity(this).is_some_and(|it| identity(this) == Some(it)));
    }

    #[test]
    fn only_the_stages_of_the_first_process_are_recognized() {
        let unshare = "unshare --mount --pid sh -c x sh /cache/pause gateway-queue-node-init";
        for (text, expected) in [
            ("/cache/pause gateway-queue-node-init", true),
            (unshare, true),
            ("grep gateway-queue-node-init", false),
            ("/pause", false),
            ("", false),
        ] {
            let words: Vec<_> = text.split_terminator(' ').map(str::to_owned).collect();
            assert_eq!(is_marked(&words), expected, "{text}");
        }
    }
}
