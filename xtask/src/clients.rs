//! The examples of clients, installed with the libraries that they pin.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use testnode::host::packages::{self, Package};
use testnode::host::process::{self, Logged};
use testnode::host::{Workspace, files};
use testnode::programs::cache;

const PACKAGES: &[Package] = &[
    ("curl", "curl"),
    ("default-jdk-headless", "javac"),
    ("iproute2", "ip"),
    ("maven", "mvn"),
    ("nodejs", "node"),
    ("npm", "npm"),
    ("python3-pip", "pip3"),
];

/// What installs the libraries: a folder, a program and its arguments.
const INSTALLERS: [(&str, &str, &[&str]); 4] = [
    ("go", "go", &["build", "-o", "disgo", "."]),
    (
        "java",
        "mvn",
        &["--batch-mode", "package", "dependency:copy-dependencies"],
    ),
    (
        "javascript",
        "npm",
        &["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    ),
    (
        "python",
        "python3",
        &[
            "-m",
            "pip",
            "install",
            "--require-hashes",
            "--target=site",
            "--requirement=requirements.txt",
        ],
    ),
];

/// Returns the folder of the examples and their libraries, which are installed if they are not
/// cached.
pub(crate) fn install(workspace: &Workspace) -> Result<PathBuf> {
    let progress = &workspace.progress;
    let log = |name: &str| workspace.cache.join(format!("clients-{name}.log"));
    packages::ensure(progress, PACKAGES, &log("apt"))?;
    let node = process::output(process::command("node").arg("--version"))?;
    check_node(&node)?;
    let examples = cache::read_files(&workspace.root.join("examples/clients"))?;
    // Python's libraries are compiled for its version.
    let python = process::output(process::command("python3").arg("--version"))?;
    let parts = examples.iter().filter(|(name, _)| *name != "README.md");
    let parts = parts.flat_map(|(name, content)| [name.as_bytes(), content.as_slice()]);
    let how = format!("{INSTALLERS:?}");
    let key = cache::key(parts.chain([python.as_bytes(), how.as_bytes()]));
    cache::folder(workspace, &key, |folder| {
        for (name, content) in &examples {
            files::replace(&folder.join(name), content, 0o644)?;
        }
        for (language, program, arguments) in INSTALLERS {
            let doing = format!("installing the clients in {language}");
            progress.print(&doing);
            let mut install = process::command(program);
            install.args(arguments).current_dir(folder.join(language));
            Logged::new(&doing, log(language)).run(progress, &install)?;
        }
        Ok(())
    })
}

/// Refuses a Node.js that is older than the libraries need.
fn check_node(version: &str) -> Result<()> {
    let major = version.trim().trim_start_matches('v').split('.').next();
    let major: u32 = major.unwrap_or_default().parse().unwrap_or(0);
    ensure!(
        major >= 20,
        "node is {}, but the clients need Node.js 20 or later. Debian 13 has it",
        version.trim(),
    );
    Ok(())
}

/// Returns the table of the tests' rows, whose columns are separated by tabs.
pub(crate) fn table(rows: &str) -> String {
    let mut rows: Vec<_> = rows.lines().collect();
    rows.sort_unstable();
    rows.insert(
        0,
        "library\tversion\tshards ready\ttoo early\tslots wasted\tseconds",
    );
    let row = |row: &str| {
        let columns: Vec<_> = row.split('\t').collect();
        let (library, rest) = columns.split_first().unwrap_or((&"", &[]));
        let rest: String = rest.iter().map(|column| format!("{column:>14}")).collect();
        format!("{library:<20}{rest}\n")
    };
    rows.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_node_is_refused() {
        for version in ["v20.19.4\n", "v24.0.0"] {
            check_node(version).unwrap();
        }
        for version in ["v18.20.4\n", "", "node"] {
            assert!(check_node(version).is_err(), "{version}");
        }
    }

    #[test]
    fn the_rows_are_sorted_below_their_names() {
        let rows = "hikari\t2.7.0\t4 of 4\t0\t0\t12.1\nJDA\t6.5.0\t3 of 4\t0\t1\t9.8\n";
        assert_eq!(
            table(rows),
            "\
library                    version  shards ready     too early  slots wasted       seconds
JDA                          6.5.0        3 of 4             0             1           9.8
hikari                       2.7.0        4 of 4             0             0          12.1
"
        );
    }
}
