//! Which processes are the node's, as the kernel tells.
//!
//! The node has a process namespace of its own, so its first process is all that
//! has to be found: the kernel ends the others with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::layout::MARK;

/// How long the kernel may take to end the node's processes.
const END: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};
/// What our first process is called at one moment of its start or another.
const STAGES: [&str; 5] = ["setsid", "nsenter", "unshare", "sh", "pause"];

/// A process that stays the same one: its number may be given to another
/// process after its end, its number together with its start may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The process id, as the host counts.
    pub(crate) pid: i32,
    /// Clock ticks from the start of the machine to the start of the process.
    pub(crate) started: u64,
}

/// The node's first process.
#[derive(Debug)]
pub(crate) struct Init {
    /// Which process it is.
    pub(crate) identity: Identity,
    namespace: PathBuf,
}

impl Init {
    /// The command lines of all processes of the node, pods' left out.
    pub(crate) fn family(&self) -> Vec<Vec<String>> {
        let same = |pid: &i32| namespace(*pid).is_some_and(|found| found == self.namespace);
        pids().into_iter().filter(same).map(command_line).collect()
    }
}

/// The node's first process, once it is past its start.
pub(crate) fn init() -> Option<Init> {
    let pid = marked().into_iter().find(|pid| {
        command_line(*pid)
            .first()
            .is_some_and(|name| name.ends_with("/pause"))
    })?;
    Some(Init {
        identity: identity(pid)?,
        namespace: namespace(pid)?,
    })
}

/// Whether any first process of a node is there, also one that is half-started.
pub(crate) fn any() -> bool {
    !marked().is_empty()
}

/// Ends every node's first process, and with it all that it holds, and waits
/// until they are gone.
///
/// # Errors
/// When one does not end within 20 seconds.
pub(crate) fn end_all() -> Result<()> {
    // Once more, for a process that the first round caught between two stages.
    for _ in 0..2 {
        for pid in marked() {
            end(pid)?;
        }
    }
    Ok(())
}

fn end(pid: i32) -> Result<()> {
    let Some(number) = Pid::from_raw(pid) else {
        return Ok(());
    };
    // The handle stays with this very process; what it is must be asked for
    // again after opening it, and then no other process can be hit.
    let Ok(handle) = pidfd_open(number, PidfdFlags::empty()) else {
        return Ok(());
    };
    if !is_marked(&command_line(pid)) {
        return Ok(());
    }
    // A process that is gone already is what we want.
    let _ = pidfd_send_signal(&handle, Signal::KILL);
    let mut watched = [PollFd::new(&handle, PollFlags::IN)];
    let ended = poll(&mut watched, Some(&END))
        .with_context(|| format!("waiting for process {pid} to end"))?;
    if ended == 0 {
        bail!("process {pid}, the node's first, was killed but does not end");
    }
    // Its parent outlives it by a moment.
    std::thread::sleep(Duration::from_millis(20));
    Ok(())
}

/// Who a process is, or nothing when it is gone.
pub(crate) fn identity(pid: i32) -> Option<Identity> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Identity {
        pid,
        started: started(&stat)?,
    })
}

/// The 22nd field of /proc/PID/stat. The second one is the program's name in
/// parentheses, and may hold both spaces and parentheses.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn marked() -> Vec<i32> {
    pids()
        .into_iter()
        .filter(|pid| is_marked(&command_line(*pid)))
        .collect()
}

fn is_marked(command_line: &[String]) -> bool {
    let name = command_line
        .first()
        .and_then(|word| Path::new(word).file_name());
    name.is_some_and(|name| STAGES.iter().any(|stage| name == *stage))
        && command_line.iter().any(|word| word == MARK)
}

fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_start_is_read_past_a_name_with_parentheses_and_spaces() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 1 0 987654 1000 20 18446744073709551615";
        assert_eq!(started(stat), Some(987_654));
        assert_eq!(started("12 (cut"), None);
    }

    #[test]
    fn a_number_that_was_given_to_another_process_is_another_identity() {
        let this = i32::try_from(std::process::id()).unwrap();
        let identity = identity(this).unwrap();
        assert_eq!(super::identity(this), Some(identity));
        assert_ne!(
            Identity {
                started: identity.started + 1,
                ..identity
            },
            identity
        );
    }

    #[test]
    fn only_the_stages_of_our_first_process_are_taken_for_it() {
        assert!(is_marked(&words("/cache/pause gateway-queue-node-init")));
        assert!(is_marked(&words(
            "unshare --mount --pid sh -c x sh /cache/pause gateway-queue-node-init"
        )));
        assert!(!is_marked(&words("grep gateway-queue-node-init")));
        assert!(!is_marked(&words("/pause")));
        assert!(!is_marked(&[]));
    }
}
