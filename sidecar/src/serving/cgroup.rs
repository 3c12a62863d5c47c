//! Finds the files with the memory limits of this process. Pure.
//!
//! A control group limits its processes and all groups within it, so the smallest limit from
//! the group of this process up to the root counts. Groups above the mount are not visible:
//! in a container, those of the host.

use std::path::{Component, Path, PathBuf};

/// Returns the files that may contain a limit, in both versions of control groups, for the
/// contents of `/proc/self/cgroup` and `/proc/self/mountinfo`.
pub(crate) fn limit_files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let group = groups
            .lines()
            .filter_map(Group::parse)
            .find(|group| group.limit_file == mount.limit_file);
        // A group that the mount does not show is above it, as is an unknown one.
        let below = group
            .and_then(|group| group.path.strip_prefix(&mount.root).ok())
            .filter(|path| path.components().all(|c| matches!(c, Component::Normal(_))))
            .unwrap_or(Path::new(""));
        let groups = below.ancestors();
        files.extend(groups.map(|group| mount.point.join(group).join(mount.limit_file)));
    }
    files
}

/// The file with the limit of a group in version 1.
const V1: &str = "memory.limit_in_bytes";

/// The file with the limit of a group in version 2.
const V2: &str = "memory.max";

/// A control group of this process: `ID:CONTROLLERS:PATH`.
struct Group<'a> {
    limit_file: &'static str,
    path: &'a Path,
}

impl<'a> Group<'a> {
    /// Returns none if the group does not limit memory.
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let limit_file = match (id, controllers) {
            ("0", "") => V2,
            (_, names) if names.split(',').any(|name| name == "memory") => V1,
            _ => return None,
        };
        let path = Path::new(path);
        Some(Self { limit_file, path })
    }
}

/// A mount of control groups: `ID PARENT DEVICE ROOT POINT OPTIONS [TAGS] - TYPE
/// SOURCE OPTIONS`.
struct Mount {
    limit_file: &'static str,
    /// The mounted group.
    root: PathBuf,
    /// The mount point.
    point: PathBuf,
}

impl Mount {
    /// Returns none for another type of mount.
    fn parse(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let limit_file = match (system.next()?, system.nth(1)) {
            ("cgroup2", _) => V2,
            ("cgroup", Some(options)) if options.split(',').any(|o| o == "memory") => V1,
            _ => return None,
        };
        let mut paths = mount.split(' ').skip(3);
        Some(Self {
            limit_file,
            root: unescape(paths.next()?).into(),
            point: unescape(paths.next()?).into(),
        })
    }
}

/// Decodes the octal escapes of the kernel: space, tab, line feed and backslash.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOUNT: &str =
        "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn files(groups: &str, mounts: &str) -> Vec<String> {
        limit_files(groups, mounts)
            .into_iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_container_with_a_namespace_of_its_own_sees_one_group() {
        let mounts = format!("22 1 0:20 / /proc rw - proc proc rw\n{MOUNT}");
        let one = ["/sys/fs/cgroup/memory.max"];
        assert_eq!(files("0::/\n", &mounts), one);
        // Outside of its namespace, or unknown.
        assert_eq!(files("0::/../other\n", &mounts), one);
        assert_eq!(files("", &mounts), one);
        assert_eq!(files("0::/\n", ""), [""; 0]);
    }

    #[test]
    fn a_service_of_systemd_is_limited_by_each_slice_above_it() {
        let files = files("0::/system.slice/bots.slice/my bot.service\n", MOUNT);
        let expected = [
            "/sys/fs/cgroup/system.slice/bots.slice/my bot.service/memory.max",
            "/sys/fs/cgroup/system.slice/bots.slice/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn in_version_one_the_controller_of_memory_counts() {
        let groups = "11:cpuset:/a\n9:cpu,memory:/docker/abc/inner\n1:name=systemd:/b\n0::/c\n";
        let mounts = "\
            36 32 0:31 /docker/abc /sys/fs/cgroup/memory ro master:15 - cgroup cgroup rw,cpu,memory\n\
            37 32 0:32 / /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n\
            38 32 0:33 / /sys/fs/cgroup/uni\\040fied ro - cgroup2 cgroup2 rw\n";
        let expected = [
            "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/uni fied/c/memory.max",
            "/sys/fs/cgroup/uni fied/memory.max",
        ];
        assert_eq!(files(groups, mounts), expected);
    }

    proptest! {
        #[test]
        fn no_file_is_outside_of_the_mount_whatever_the_input(
            groups in "(0::/|9:memory:/|\\.\\./|a/|\n|\\PC){0,40}",
            mounts in "(0|/|\\.\\.| |\n|\\PC){0,40}",
        ) {
            let _ = limit_files(&groups, &mounts);
            for file in files(&groups, MOUNT) {
                prop_assert!(file.starts_with("/sys/fs/cgroup/") && !file.contains("/../"));
            }
        }
    }
}
