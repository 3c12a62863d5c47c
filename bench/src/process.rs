//! What the kernel reports about another process.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a process is looked at.
const POLL: Duration = Duration::from_millis(25);

/// A process is at rest if it ran no longer than [`AT_REST`] within this time.
const REST_WINDOW: Duration = Duration::from_millis(250);
const AT_REST: Duration = Duration::from_millis(1);

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Another process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// Returns the resident memory in KiB.
    pub(crate) fn rss_kib(self) -> Result<u64> {
        let status = fs::read_to_string(self.path("status")).context("reading VmRSS")?;
        field(&status, "VmRSS:").context("no VmRSS")
    }

    /// Returns how long all threads together have run, in user and system mode.
    pub(crate) fn cpu(self) -> Result<Duration> {
        // The first number: the time on a processor, in nanoseconds.
        let nanos = self.of_threads("schedstat", |text| {
            text.split_whitespace().next()?.parse().ok()
        })?;
        Ok(Duration::from_nanos(nanos))
    }

    /// Returns how often a thread has waited, and so was woken or will be.
    pub(crate) fn wake_ups(self) -> Result<u64> {
        self.of_threads("status", |text| field(text, "voluntary_ctxt_switches:"))
    }

    /// Returns the number of open files.
    pub(crate) fn open_files(self) -> Result<usize> {
        Ok(fs::read_dir(self.path("fd"))
            .context("reading open files")?
            .count())
    }

    /// Waits until this condition on the number of open files holds.
    pub(crate) fn wait_for_files(self, holds: impl Fn(usize) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            let files = self.open_files()?;
            if holds(files) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "the server does not accept or close all connections: it has {files} open files"
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until the process does nothing.
    pub(crate) fn wait_for_rest(self) -> Result<()> {
        let started = Instant::now();
        loop {
            let before = self.cpu()?;
            thread::sleep(REST_WINDOW);
            if self.cpu()?.saturating_sub(before) <= AT_REST {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                bail!("the server stays busy");
            }
        }
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0)
    }

    /// Returns the sum of a number of each thread.
    fn of_threads(self, file: &str, number: impl Fn(&str) -> Option<u64>) -> Result<u64> {
        let threads = fs::read_dir(self.path("task")).context("reading the threads")?;
        let mut sum = 0;
        for thread in threads {
            let path = thread?.path().join(file);
            // A thread may have ended since.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let number = number(&text);
            sum += number.with_context(|| format!("{} has another format", path.display()))?;
        }
        Ok(sum)
    }
}

/// Returns the number behind this name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_at_the_beginning_of_a_line() {
        let status =
            "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\nVmRSS:\t  5132 kB\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(field(status, "VmRSS:"), Some(5132));
        assert_eq!(field(status, "VmHWM:"), None);
    }

    #[test]
    fn this_process_has_memory_time_and_files() {
        let this = Process(std::process::id());
        assert!(this.rss_kib().unwrap() > 0 && this.open_files().unwrap() > 2);
        let before = this.cpu().unwrap();
        while this.cpu().unwrap() == before {}
        this.wake_ups().unwrap();
    }
}
