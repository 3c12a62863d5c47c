//! Container images as files, in the format of `docker save`: FROM scratch, with one layer
//! of static binaries. Writing them needs neither root nor a build tool, and the same
//! binaries give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::host::files::{self, sha256};

/// The user of the containers, which owns nothing in the image. A number, so that
/// Kubernetes can verify that it is not root.
const USER: &str = "65532:65532";

/// An image as a file.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name, without a tag.
    pub name: String,
    /// The beginning of the image's id: it changes exactly when the image does.
    pub tag: String,
    /// The file, in the format of `docker save`.
    pub archive: PathBuf,
}

impl Image {
    /// Writes an image of binaries, each with its path in the image and its file, to
    /// `archive`.
    pub fn write(
        name: &str,
        binaries: &[(String, PathBuf)],
        entrypoint: Option<&str>,
        archive: &Path,
    ) -> Result<Self> {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, file) in binaries {
            let bytes = fs::read(file);
            let bytes = bytes.with_context(|| format!("reading {}", file.display()))?;
            add(&mut layer, path.trim_start_matches('/'), 0o755, &bytes)?;
        }
        let layer = layer.into_inner().context("completing a layer")?;
        let layer_id = sha256(&layer);
        let config = config(entrypoint, &layer_id, std::env::consts::ARCH).to_string();
        let id = sha256(config.as_bytes());
        let tag = id[..12].to_owned();
        let (config_name, layer_name) = (format!("{id}.json"), format!("{layer_id}/layer.tar"));
        let manifest = json!([{
            "Config": config_name, "RepoTags": [format!("{name}:{tag}")], "Layers": [layer_name],
        }]);
        let manifest = manifest.to_string();

        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, &layer_name, 0o644, &layer)?;
        add(&mut tar, &config_name, 0o644, config.as_bytes())?;
        add(&mut tar, "manifest.json", 0o644, manifest.as_bytes())?;
        let bytes = tar.into_inner().context("completing an image")?;
        files::replace(archive, &bytes, 0o644)?;
        Ok(Self {
            name: name.to_owned(),
            tag,
            archive: archive.to_owned(),
        })
    }

    /// Returns `NAME:TAG`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

/// Adds a file without time and owner, so that only its content changes the archive.
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
    // Go's names.
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
        let binary = folder.path().join("binary");
        fs::write(&binary, content).unwrap();
        let binaries = [("/queue".to_owned(), binary)];
        let archive = folder.path().join("image.tar");
        let image = Image::write("queue", &binaries, entrypoint, &archive).unwrap();
        (image.tag, fs::read(archive).unwrap())
    }

    #[test]
    fn the_same_binary_gives_the_same_bytes_and_another_one_another_tag() {
        let (tag, bytes) = image("one", Some("/queue"));
        assert_eq!((tag.clone(), bytes), image("one", Some("/queue")));
        assert_ne!(tag, image("two", Some("/queue")).0);
        assert_ne!(tag, image("one", None).0);
    }

    #[test]
    fn an_image_runs_as_a_numeric_user_without_rights() {
        let config = config(Some("/queue"), "abc", "x86_64");
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/queue"]));
        assert_eq!(config["architecture"], "amd64");
        assert_eq!(config["rootfs"]["diff_ids"], json!(["sha256:abc"]));
    }

    #[test]
    fn the_manifest_names_the_tag_and_files_of_the_archive() {
        let (tag, bytes) = image("one", None);
        let (mut names, mut manifest) = (Vec::new(), String::new());
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
