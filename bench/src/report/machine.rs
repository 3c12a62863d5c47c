//! Where and with which versions the figures were measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// The crates whose versions matter for a comparison with the peer.
const CRATES: [&str; 4] = ["hyper", "hyper-util", "tokio", "twilight-gateway-queue"];

/// The machine and the versions.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The commit of the checkout.
    pub(crate) commit: String,
    /// The date, in UTC.
    pub(crate) date: String,
    /// Names and values.
    pub(crate) facts: Vec<(String, String)>,
}

impl Machine {
    /// Reads all of it, now. What cannot be read is unknown.
    pub(crate) fn read(root: &Path) -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = thread::available_parallelism().map_or(0, usize::from);
        let model = value(&file("/proc/cpuinfo"), "model name");
        let memory = value(&file("/proc/meminfo"), "MemTotal");
        let load = file("/proc/loadavg");
        let load = load.split_whitespace().next().unwrap_or("unknown");
        let mut facts = vec![
            ("processors".to_owned(), format!("{processors} × {model}")),
            ("memory".to_owned(), memory),
            (
                "kernel".to_owned(),
                file("/proc/sys/kernel/osrelease").trim().to_owned(),
            ),
            (
                "load average of the minute before".to_owned(),
                load.to_owned(),
            ),
            ("compiler".to_owned(), output(root, "rustc", &["--version"])),
        ];
        let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
        facts.extend(CRATES.map(|name| (format!("`{name}`"), version(&lock, name))));
        let changes = output(
            root,
            "git",
            &["status", "--porcelain", "--untracked-files=no"],
        );
        let mut commit = output(root, "git", &["rev-parse", "--short=12", "HEAD"]);
        if !changes.is_empty() {
            commit.push_str(" with changes");
        }
        Self {
            commit,
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            facts,
        }
    }
}

/// Returns the value of a name, in lines of `name: value`.
fn value(text: &str, name: &str) -> String {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let mut found = values.filter(|(key, _)| key.trim() == name);
    found
        .next()
        .map_or("unknown", |(_, value)| value.trim())
        .to_owned()
}

/// Returns the versions of a crate in a lock file.
fn version(lock: &str, name: &str) -> String {
    let lines = lock.lines().zip(lock.lines().skip(1));
    let of_name = lines.filter(|(line, _)| *line == format!("name = \"{name}\""));
    let versions = of_name.filter_map(|(_, next)| next.strip_prefix("version = "));
    let versions: Vec<_> = versions.map(|version| version.trim_matches('"')).collect();
    versions.join(", ")
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_versions_are_found_by_their_names() {
        let info = "processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: other\n";
        assert_eq!(value(info, "model name"), "A CPU: fast");
        assert_eq!(value(info, "MemTotal"), "unknown");
        let lock =
            "name = \"hyper-util\"\nversion = \"0.1.0\"\n\nname = \"hyper\"\nversion = \"1.2.3\"\n";
        assert_eq!(version(lock, "hyper"), "1.2.3");
        assert_eq!(version(lock, "tokio"), "");
    }
}
