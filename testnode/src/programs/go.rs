//! The Go of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host::{Progress, interrupt, process};

/// Returns the path of a Go that is new enough to build `what`.
pub(super) fn find(oldest: (u32, u32), what: &str) -> Result<PathBuf> {
    let advice = format!(
        "{what} are built from source. Install Go {}.{} or later (https://go.dev/doc/install) and add it to PATH",
        oldest.0, oldest.1
    );
    let Some(go) = process::find("go") else {
        bail!("Go is missing: {advice}")
    };
    let found = process::output(isolated(&mut Command::new(&go)).args(["env", "GOVERSION"]))?;
    if version(&found).is_none_or(|version| version < oldest) {
        bail!("{} is {}, too old: {advice}", go.display(), found.trim());
    }
    Ok(go)
}

/// Ignores the user's settings that would change what is built.
pub(super) fn isolated(go: &mut Command) -> &mut Command {
    go.env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
}

/// Returns the folder of the sources of `module`, which the go.mod in `folder` requires,
/// and downloads them if they are not cached.
pub(super) fn sources(go: &Path, folder: &Path, module: &str) -> Result<PathBuf> {
    let mut download = Command::new(go);
    isolated(&mut download)
        .args(["mod", "download", "-json", module])
        .current_dir(folder);
    let downloaded = process::output(&mut download)?;
    let downloaded: Value =
        serde_json::from_str(&downloaded).context("parsing the output of `go mod download`")?;
    let folder = downloaded["Dir"].as_str();
    Ok(folder
        .context("`go mod download` printed no folder")?
        .into())
}

/// Tries `work`, which may download modules, up to three times. Go gives up at the first
/// download that breaks off, but keeps the complete ones. Any other failure repeats soon.
///
/// # Errors
/// The last error.
pub(super) fn with_retries<T>(
    progress: &Progress,
    mut work: impl FnMut() -> Result<T>,
) -> Result<T> {
    for _ in 0..2 {
        match work() {
            Err(error) if !interrupt::is_requested() => {
                progress.print(format!("retrying: {error:#}"));
            }
            done => return done,
        }
    }
    work()
}

/// Parses `go1.26.8`, or the version of a development build.
fn version(text: &str) -> Option<(u32, u32)> {
    let text = text.trim().trim_start_matches("devel ");
    let mut parts = text.strip_prefix("go")?.split(['.', '-', ' ']);
    let mut number = || parts.next()?.split("rc").next()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_compared_as_numbers() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("go1.25"), Some((1, 25)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("devel go1.28-abc123"), Some((1, 28)));
        assert_eq!(version("gccgo"), None);
        assert!(version("go1.9.7") < Some((1, 25)));
    }
}
