//! Computes how many clients the process accepts.

use std::fs;
use std::io;
use std::path::Path;

use gateway_queue_core::pacing::{reservations, shard_history};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::serving::cgroup;

/// File descriptors reserved for other purposes than clients.
const OTHER_FILES: u64 = 128;

/// Memory reserved for other purposes than clients and what is remembered of shards.
const OTHER_MEMORY_BYTES: u64 = 32 << 20;

/// Memory reserved for reservations and the history of shards.
const SHARDS_MEMORY_BYTES: u64 = reservations::MAX_RESERVATIONS as u64
    * reservations::RESERVATION_BYTES
    + shard_history::HISTORY_BYTES;

/// Memory of this process and the kernel per connection. One that waits takes a tenth of it, and
/// one that sends the longest head a third; a connection to another process takes all of it.
const CLIENT_MEMORY_BYTES: u64 = 32 << 10;

/// The limits of the system on this process; none if unlimited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemLimits {
    /// Each connection is an open file.
    pub(crate) open_files: Option<u64>,
    /// The memory of its control groups.
    pub(crate) memory_bytes: Option<u64>,
}

impl SystemLimits {
    /// Detects the limits, and raises that on open files as far as allowed.
    pub(crate) fn detect() -> io::Result<Self> {
        let mut files = getrlimit(Resource::Nofile);
        files.current = files.maximum;
        // The soft limit is for programs that use select(2), unlike this one.
        setrlimit(Resource::Nofile, files)?;
        Ok(Self {
            open_files: files.maximum,
            memory_bytes: memory_limit(Path::new("/")),
        })
    }

    /// Returns the maximum number of clients. One more must not cost the others their
    /// connections: the kernel kills a process that is out of memory.
    pub(crate) fn clients(self) -> usize {
        let files = self.open_files.unwrap_or(1 << 20);
        let files = files.saturating_sub(OTHER_FILES);
        let memory = self.memory_bytes.unwrap_or(u64::MAX);
        let memory = memory.saturating_sub(OTHER_MEMORY_BYTES + SHARDS_MEMORY_BYTES);
        let most = files.min(memory / CLIENT_MEMORY_BYTES);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        most.clamp(1, tokio::sync::Semaphore::MAX_PERMITS)
    }
}

/// Returns the smallest memory limit of the control groups of this process, in bytes, on a
/// system whose root folder is `root`; none if unlimited.
fn memory_limit(root: &Path) -> Option<u64> {
    let read = |path: &Path| {
        let path = path.strip_prefix("/").unwrap_or(path);
        fs::read_to_string(root.join(path)).ok()
    };
    let text = |path| read(Path::new(path)).unwrap_or_default();
    cgroup::limit_files(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"))
        .iter()
        // The limit may also be "max".
        .filter_map(|file| read(file)?.trim().parse().ok())
        .min()
}

/// With fewer clients on a port, the limits are probably a mistake.
pub(crate) const FEW: usize = 100;

/// Returns how many connections each port accepts. In the cluster there are two ports, and a
/// client whose request the process `forwards` takes two connections.
pub(crate) fn per_port(clients: usize, forwards: bool) -> usize {
    if forwards {
        (clients / 2).max(1)
    } else {
        clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(open_files: Option<u64>, memory_bytes: Option<u64>) -> usize {
        let limits = SystemLimits {
            open_files,
            memory_bytes,
        };
        limits.clients()
    }

    #[test]
    fn files_and_memory_both_limit_the_clients() {
        let gib = 1 << 30;
        assert_eq!(clients(Some(1024), Some(gib)), 896);
        assert_eq!(clients(Some(1024), None), 896);
        // 256 MiB, less 32 for other purposes, 8 for reservations and 16 for the history.
        assert_eq!(clients(Some(1 << 20), Some(256 << 20)), 6400);
        assert_eq!(clients(Some(1 << 20), Some(64 << 20)), 256);
        assert_eq!(clients(None, None), (1 << 20) - 128);
        assert_eq!(clients(Some(10), Some(gib)), 1);
        assert_eq!(clients(None, Some(1)), 1);
    }

    #[test]
    fn each_port_accepts_a_client_however_small_the_limit_is() {
        let least = clients(None, Some(OTHER_MEMORY_BYTES + SHARDS_MEMORY_BYTES));
        assert_eq!(per_port(least, true), 1);
        assert_eq!(per_port(least, false), 1);
        assert_eq!(per_port(6400, true), 3200);
    }

    /// A system with these files in it.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_counts() {
        let v2 = "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let service = [
            ("proc/self/cgroup", "0::/system.slice/my-bot.service\n"),
            ("proc/self/mountinfo", v2),
        ];
        let own = "sys/fs/cgroup/system.slice/my-bot.service/memory.max";
        let slice = "sys/fs/cgroup/system.slice/memory.max";
        for (own_limit, slice_limit, limit) in [
            ("67108864\n", "max\n", Some(64 << 20)),
            ("67108864\n", "33554432\n", Some(32 << 20)),
            ("max\n", "33554432\n", Some(32 << 20)),
            ("max\n", "max\n", None),
            ("", "99999999999999999999999\n", None),
        ] {
            let limits = [(own, own_limit), (slice, slice_limit)];
            let root = system(&[service, limits].concat());
            assert_eq!(memory_limit(root.path()), limit);
        }
        assert_eq!(memory_limit(system(&[]).path()), None);
    }
}
