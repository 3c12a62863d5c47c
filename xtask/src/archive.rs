//! Container images as files: FROM scratch, one layer of static binaries.
//!
//! Such an image is two small tar files and two pieces of JSON, in the format
//! that `docker save` writes and everything reads. Written here, it needs
//! neither root nor a build tool, and the same binaries give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::digest::sha256;
use crate::files;

/// Nobody: a user that owns nothing in the image, as a number, so that
/// Kubernetes can see that it is not root.
const USER: &str = "65532:65532";

/// What goes into an image.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    /// The image's name, without a tag.
    pub(crate) name: &'a str,
    /// Binaries: the path in the image, and where to read it.
    pub(crate) binaries: &'a [(String, PathBuf)],
    /// What runs when a pod names no command.
    pub(crate) entrypoint: Option<&'a str>,
}

/// Writes the image to `path`, and returns its tag: the beginning of its id, so
/// that the tag changes exactly when the image does.
///
/// # Errors
/// When a binary cannot be read, or the archive not be written.
pub(crate) fn write(contents: &Contents<'_>, path: &Path) -> Result<String> {
    let layer = layer(contents.binaries)?;
    let layer_id = sha256(&layer);
    let config = config(contents.entrypoint, &layer_id, std::env::consts::ARCH).to_string();
    let id = sha256(config.as_bytes());
    let tag = id[..12].to_owned();
    let config_name = format!("{id}.json");
    let layer_name = format!("{layer_id}/layer.tar");
    let manifest = json!([{ "Config": config_name, "RepoTags": [format!("{}:{tag}", contents.name)], "Layers": [layer_name] }]);

    let mut archive = tar::Builder::new(Vec::new());
    add(&mut archive, &layer_name, 0o644, &layer)?;
    add(&mut archive, &config_name, 0o644, config.as_bytes())?;
    add(
        &mut archive,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    )?;
    let bytes = archive.into_inner().context("ending an archive")?;
    files::replace(path, &bytes, 0o644)?;
    Ok(tag)
}

fn layer(binaries: &[(String, PathBuf)]) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for (name, source) in binaries {
        let bytes =
            fs::read(source).with_context(|| format!("reading the binary {}", source.display()))?;
        add(&mut layer, name.trim_start_matches('/'), 0o755, &bytes)?;
    }
    layer.into_inner().context("ending a layer")
}

/// Adds a file with no time and no owner, so that nothing but its content counts.
fn add(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive
        .append_data(&mut header, name, bytes)
        .with_context(|| format!("adding {name} to an archive"))
}

fn config(entrypoint: Option<&str>, layer_id: &str, architecture: &str) -> Value {
    // Images use the names of Go.
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut run = json!({ "User": USER, "WorkingDir": "/" });
    if let Some(entrypoint) = entrypoint {
        run["Entrypoint"] = json!([entrypoint]);
    }
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": run,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_id}")] },
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn image(content: &str, entrypoint: Option<&str>) -> (String, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let (binary, path) = (
            folder.path().join("binary"),
            folder.path().join("image.tar"),
        );
        fs::write(&binary, content).unwrap();
        let binaries = [("/queue".to_owned(), binary)];
        let tag = write(
            &Contents {
                name: "queue",
                binaries: &binaries,
                entrypoint,
            },
            &path,
        )
        .unwrap();
        (tag, fs::read(path).unwrap())
    }

    #[test]
    fn the_same_binary_gives_the_same_bytes_and_another_one_another_tag() {
        let (tag, bytes) = image("one", Some("/queue"));
        assert_eq!((tag.clone(), bytes), image("one", Some("/queue")));
        assert_ne!(tag, image("two", Some("/queue")).0);
        assert_ne!(tag, image("one", None).0);
    }

    #[test]
    fn an_image_runs_as_nobody_by_number() {
        let config = config(Some("/queue"), "abc", "x86_64");
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/queue"]));
        assert_eq!(config["architecture"], "amd64");
        assert_eq!(config["rootfs"]["diff_ids"], json!(["sha256:abc"]));
    }

    #[test]
    fn the_manifest_names_the_tag_and_files_that_are_there() {
        let (tag, bytes) = image("one", None);
        let mut names = Vec::new();
        let mut manifest = String::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            if names.last().unwrap() == "manifest.json" {
                entry.read_to_string(&mut manifest).unwrap();
            }
        }
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!([format!("queue:{tag}")]));
        for named in [&manifest[0]["Config"], &manifest[0]["Layers"][0]] {
            assert!(names.contains(&named.as_str().unwrap().to_owned()));
        }
    }
}
