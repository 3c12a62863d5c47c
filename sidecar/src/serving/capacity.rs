//! How many clients there is room for.

use std::fs;
use std::io;
use std::path::Path;

use gateway_queue_core::pacing::reservations;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::serving::cgroup;

/// File descriptors that are kept for other things than clients.
const OTHER_FILES: u64 = 128;

/// Memory that is kept for other things than clients and the places of those who
/// went away.
const OTHER_MEMORY: u64 = 32 << 20;

/// Memory that is kept for the places of those who went away.
const PLACES_MEMORY: u64 = reservations::MOST as u64 * reservations::MEMORY_EACH;

/// What the worst client makes us and the kernel hold: a head and a pipeline as
/// long as they may be. An honest one takes a third of it.
const MEMORY_EACH: u64 = 32 << 10;

/// The limits of the system on this process; none where nothing limits it.
#[derive(Clone, Copy, Debug)]
pub struct SystemLimits {
    /// How many files it may have open. Each connection is one.
    pub open_files: Option<u64>,
    /// The memory of its control group, in bytes.
    pub memory_bytes: Option<u64>,
}

impl SystemLimits {
    /// Detects the limits, and raises that on open files as far as allowed.
    ///
    /// # Errors
    ///
    /// When the kernel does not let us open as many files as it allows.
    pub fn detect() -> io::Result<Self> {
        let mut files = getrlimit(Resource::Nofile);
        files.current = files.maximum;
        // The soft limit is for programs that use select(2); this is none.
        setrlimit(Resource::Nofile, files)?;
        Ok(Self {
            open_files: files.maximum,
            memory_bytes: memory_limit(Path::new("/")),
        })
    }

    /// As many clients as the system lets us have. One too many must not cost all the others
    /// their connections: out of memory, the kernel kills us.
    pub fn clients(self) -> usize {
        let files = self.open_files.unwrap_or(1 << 20);
        let files = files.saturating_sub(OTHER_FILES);
        let memory = self.memory_bytes.unwrap_or(u64::MAX);
        let memory = memory.saturating_sub(OTHER_MEMORY + PLACES_MEMORY);
        let most = files.min(memory / MEMORY_EACH);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        most.clamp(1, tokio::sync::Semaphore::MAX_PERMITS)
    }
}

/// The most memory that the control groups of this process allow, in bytes, on a
/// system whose root folder is `root`; none when nothing limits it.
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

/// Below this many clients on a port the limits are taken for a mistake.
pub const FEW: usize = 100;

/// How many connections each port takes. In the cluster there are two ports, and a client
/// that is forwarded takes two connections.
pub fn per_port(room: usize, in_cluster: bool) -> usize {
    if in_cluster { (room / 2).max(1) } else { room }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(open_files: Option<u64>, memory_bytes: Option<u64>) -> usize {
        let limits = SystemLimits {
            open_files,
            memory_bytes,
        };
        limits.clients()
    }

    #[test]
    fn files_and_memory_both_limit_the_clients() {
        let gib = 1 << 30;
        assert_eq!(room(Some(1024), Some(gib)), 896);
        assert_eq!(room(Some(1024), None), 896);
        // 256 MiB, less 32 for other things and 8 for places.
        assert_eq!(room(Some(1 << 20), Some(256 << 20)), 6912);
        assert_eq!(room(Some(1 << 20), Some(64 << 20)), 768);
        assert_eq!(room(None, None), (1 << 20) - 128);
        assert_eq!(room(Some(10), Some(gib)), 1);
        assert_eq!(room(None, Some(1)), 1);
    }

    #[test]
    fn each_port_takes_a_client_however_small_the_limit_is() {
        let least = room(None, Some(OTHER_MEMORY + PLACES_MEMORY));
        assert_eq!(per_port(least, true), 1);
        assert_eq!(per_port(least, false), 1);
        assert_eq!(per_port(6912, true), 3456);
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

    #[test]
    fn in_version_one_no_limit_is_a_number_that_limits_nothing() {
        let root = system(&[
            ("proc/self/cgroup", "9:memory:/bots\n0::/\n"),
            (
                "proc/self/mountinfo",
                "36 32 0:31 / /cg/memory rw - cgroup cgroup rw,memory\n",
            ),
            ("cg/memory/bots/memory.limit_in_bytes", "268435456\n"),
            ("cg/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(memory_limit(root.path()), Some(256 << 20));
    }
}
