//! The Go of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::interrupt;
use crate::process;
use crate::progress::Progress;

/// A Go that is new enough.
///
/// # Errors
/// When there is none, with what to install; `what` is what it was wanted for.
pub(super) fn find(oldest: (u32, u32), what: &str) -> Result<PathBuf> {
    let wanted = format!("{}.{}", oldest.0, oldest.1);
    let advice = format!(
        "{what} are built from source: install Go {wanted} or newer (https://go.dev/doc/install) and put it in PATH"
    );
    let Some(go) = process::find("go") else {
        bail!("there is no Go here; {advice}")
    };
    let mut asked = Command::new(&go);
    let said = process::output(clean(&mut asked).args(["env", "GOVERSION"]))?;
    match version(&said) {
        Some(found) if found >= oldest => Ok(go),
        _ => bail!(
            "{} is {}, which is too old; {advice}",
            go.display(),
            said.trim()
        ),
    }
}

/// Nothing of the user's settings may change what is built.
pub(super) fn clean(go: &mut Command) -> &mut Command {
    go.env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
}

/// The folder with the sources of the one module that `folder`'s go.mod asks for,
/// as its go.sum pins them. Downloads them first when they are not there.
///
/// # Errors
/// When they cannot be had, or are not what go.sum says.
pub(super) fn sources(go: &Path, folder: &Path, module: &str) -> Result<PathBuf> {
    let mut download = Command::new(go);
    clean(&mut download)
        .args(["mod", "download", "-json", module])
        .current_dir(folder);
    let said = process::output(&mut download)?;
    let said: Value = serde_json::from_str(&said).context("reading what Go downloaded")?;
    let folder = said["Dir"].as_str().context("Go names no folder")?;
    Ok(folder.into())
}

/// Does what may download modules up to three times: Go itself gives up at the first
/// download that breaks off, and keeps what it has. What fails for another reason
/// fails again soon.
///
/// # Errors
/// The last one.
pub(super) fn again<T>(progress: &Progress, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..2 {
        match work() {
            Err(error) if !interrupt::requested() => {
                progress.say(format!("once more, since it failed: {error:#}"));
            }
            done => return done,
        }
    }
    work()
}

/// Reads `go1.26.8`, or what a build of Go from its repository calls itself.
fn version(said: &str) -> Option<(u32, u32)> {
    let text = said
        .trim()
        .trim_start_matches("devel ")
        .strip_prefix("go")?;
    let mut parts = text.split(['.', '-', ' ']);
    let mut number = || {
        parts
            .next()?
            .trim_end_matches(|c: char| !c.is_ascii_digit())
            .split("rc")
            .next()?
            .parse()
            .ok()
    };
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read_and_compared_as_numbers() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("go1.25"), Some((1, 25)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("devel go1.28-abc123"), Some((1, 28)));
        assert_eq!(version("gccgo"), None);
        assert!(version("go1.9.7") < Some((1, 25)));
    }
}
