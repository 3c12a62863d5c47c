//! The folders of a command: the checkout, cargo's build folder, and the cache.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Progress;

/// The folders of a command, and its progress.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The top folder of the checkout.
    pub root: PathBuf,
    /// Cargo's build folder.
    pub target: PathBuf,
    /// The folder that all checkouts of this user share, for what is slow to build.
    pub cache: PathBuf,
    /// Prints progress.
    pub progress: Progress,
}

impl Workspace {
    /// Finds the folders.
    pub fn find() -> Result<Self> {
        // Cargo sets this at run time: the checkout may have moved since it was compiled.
        let package =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let package = PathBuf::from(package);
        let root = package.parent().unwrap_or(&package);
        let root = root
            .canonicalize()
            .with_context(|| format!("finding the checkout at {}", root.display()))?;
        let target = root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()));
        let cache = cache_folder(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
            .context("neither XDG_CACHE_HOME nor HOME is an absolute path; set one of them")?;
        Ok(Self {
            root,
            target,
            cache,
            progress: Progress::start(),
        })
    }
}

fn cache_folder(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    let base = xdg
        .and_then(absolute)
        .or_else(|| Some(home.and_then(absolute)?.join(".cache")))?;
    Some(base.join("gateway-queue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_in_the_users_cache_folder_or_else_in_the_home() {
        for (xdg, home, expected) in [
            (Some("/c"), Some("/h"), Some("/c/gateway-queue")),
            (None, Some("/h"), Some("/h/.cache/gateway-queue")),
            (
                Some("relative"),
                Some("/h"),
                Some("/h/.cache/gateway-queue"),
            ),
            (None, None, None),
        ] {
            let folder = cache_folder(xdg.map(OsString::from), home.map(OsString::from));
            assert_eq!(folder, expected.map(PathBuf::from));
        }
    }
}
