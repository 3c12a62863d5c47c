//! Where things are: the checkout, its build folder, and the cache that all
//! checkouts of this user share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::progress::Progress;

/// What every command is given.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The checkout's top folder.
    pub(crate) root: PathBuf,
    /// Cargo's build folder.
    pub(crate) target: PathBuf,
    /// What is worth keeping between checkouts.
    pub(crate) cache: PathBuf,
    /// Says what goes on.
    pub(crate) progress: Progress,
}

impl Workspace {
    /// Finds the folders.
    ///
    /// # Errors
    /// When the checkout is gone, or there is neither a home nor a cache folder.
    pub(crate) fn find() -> Result<Self> {
        // Cargo tells where this package is now; the path it was compiled at
        // may have moved since.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let package = PathBuf::from(package);
        let root = package.parent().unwrap_or(&package);
        let root = root
            .canonicalize()
            .with_context(|| format!("finding the checkout at {}", root.display()))?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        let cache = cache_folder(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
            .context("neither XDG_CACHE_HOME nor HOME says where the node's programs may be kept; set one of them")?;
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
    Some(base.join(Path::new("gateway-queue")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_user_keeps_caches_and_else_in_the_home() {
        let text = |s: &str| Some(OsString::from(s));
        assert_eq!(
            cache_folder(text("/c"), text("/h")),
            Some(PathBuf::from("/c/gateway-queue"))
        );
        assert_eq!(
            cache_folder(None, text("/h")),
            Some(PathBuf::from("/h/.cache/gateway-queue"))
        );
        assert_eq!(
            cache_folder(text("relative"), text("/h")),
            Some(PathBuf::from("/h/.cache/gateway-queue"))
        );
        assert_eq!(cache_folder(None, None), None);
    }
}
