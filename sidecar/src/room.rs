//! How many clients there is room for.

use std::fs;
use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::places;

/// File descriptors that are kept for other things than clients.
const OTHER_FILES: u64 = 128;

/// Memory that is kept for other things than clients and the places of those who
/// went away.
const OTHER_MEMORY: u64 = 32 << 20;

/// Memory that is kept for the places of those who went away.
const PLACES_MEMORY: u64 = places::MOST as u64 * places::MEMORY_EACH;

/// What the worst client makes us and the kernel hold: a head and a pipeline as
/// long as they may be. An honest one takes a third of it.
const MEMORY_EACH: u64 = 32 << 10;

/// What limits the memory of this process and those beside it, in both versions
/// of control groups; a container sees its own.
const MEMORY_LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// As many clients as the system lets us have. Who would be one too many must
/// not cost all the others their places: out of memory, the kernel kills us.
///
/// # Errors
///
/// When the kernel does not let us open as many files as it allows.
pub fn most_clients() -> io::Result<usize> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    // The soft limit is for programs that use select(2); this is none.
    setrlimit(Resource::Nofile, files)?;
    let memory = MEMORY_LIMITS
        .iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    Ok(room(files.maximum, memory))
}

fn room(files: Option<u64>, memory: Option<u64>) -> usize {
    let files = files.unwrap_or(1 << 20).saturating_sub(OTHER_FILES);
    let memory = memory.unwrap_or(u64::MAX);
    let memory = memory.saturating_sub(OTHER_MEMORY + PLACES_MEMORY);
    let most = files.min(memory / MEMORY_EACH);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    most.clamp(1, tokio::sync::Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
