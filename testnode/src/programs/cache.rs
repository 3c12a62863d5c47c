//! Folders in the cache, each of which is filled once. Its key is a hash of everything it is made
//! of, and it gets its name only once it is complete.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::host::Workspace;
use crate::host::files::{self, hex};

/// How long the folders of older checkouts are kept: they take half a gigabyte each.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How the name of an unfinished folder begins.
const UNFINISHED: &str = ".building-";

/// Reads the files below `folder`, by their paths in it.
pub fn read_files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    add_files(folder, "", &mut files).with_context(|| format!("reading {}", folder.display()))?;
    Ok(files)
}

/// Returns the key of a folder that is made of `parts`.
pub fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths are hashed, too, so that text cannot move from one part to the next.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())[..16].to_owned()
}

/// Returns the path of the folder `key`. If it does not exist, `fill` fills it, under another name.
pub fn folder(
    workspace: &Workspace,
    key: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let Workspace {
        cache, progress, ..
    } = workspace;
    let folder = cache.join(format!("programs-{key}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    files::create_folder(cache)?;
    // Two builds at a time would only slow each other down.
    let _lock = files::lock(progress, &cache.join("lock"), "builds programs")?;
    if folder.is_dir() {
        return Ok(folder);
    }
    remove_old(cache);
    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(cache)
        .context("creating a folder in the cache")?;
    fill(unfinished.path())?;
    // Unlike a temporary folder, the others are readable for everyone.
    fs::set_permissions(unfinished.path(), Permissions::from_mode(0o755))
        .and_then(|()| fs::rename(unfinished.path(), &folder))
        .with_context(|| format!("moving the programs to {}", folder.display()))?;
    Ok(folder)
}

fn add_files(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().display();
        if path.is_dir() {
            add_files(&path, &format!("{prefix}{name}/"), files)?;
        } else {
            files.insert(format!("{prefix}{name}"), fs::read(&path)?);
        }
    }
    Ok(())
}

/// Removes unfinished folders and those that were filled more than a month ago. What cannot be
/// removed only takes space.
fn remove_old(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let modified = entry.metadata().and_then(|data| data.modified());
        let age = modified.ok().and_then(|at| at.elapsed().ok());
        let is_old = name.starts_with("programs-") && age.is_some_and(|age| age > KEPT);
        if name.starts_with(UNFINISHED) || is_old {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
