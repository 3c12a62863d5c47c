//! `cargo xtask image`: static binaries, and the images made of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::archive::{self, Contents};
use crate::packages;
use crate::process::{self, Logged, WhenStopped};
use crate::workspace::Workspace;

/// An image as a file.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Its name, without a tag.
    pub(crate) name: String,
    /// The beginning of its id: it changes exactly when the image does.
    pub(crate) tag: String,
    /// The file, in the format of `docker save`.
    pub(crate) archive: PathBuf,
}

impl Image {
    /// How a pod names it.
    pub(crate) fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

struct Recipe {
    /// Names of the package and of the image.
    name: &'static str,
    binaries: &'static [&'static str],
    entrypoint: Option<&'static str>,
    /// Whether users of the project run it, and it must be small; the others are
    /// for tests.
    product: bool,
}

/// The most bytes that a product's archive may have, as it is: not compressed.
const SMALL: u64 = 10_000_000;

const RECIPES: [Recipe; 3] = [
    Recipe {
        name: "gateway-queue",
        binaries: &["gateway-queue"],
        entrypoint: Some("/gateway-queue"),
        product: true,
    },
    Recipe {
        name: "gateway-queue-operator",
        binaries: &["gateway-queue-operator"],
        entrypoint: Some("/gateway-queue-operator"),
        product: true,
    },
    Recipe {
        name: "gateway-queue-e2e",
        binaries: &["fake-discord", "bot"],
        entrypoint: None,
        product: false,
    },
];

/// Builds the binaries and the images. Archives are in `images` of the build
/// folder; when nothing changed, neither do they.
///
/// # Errors
/// When a build fails, or an image is larger than it may be.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<Image>> {
    let binaries = compile(workspace)?;
    RECIPES
        .iter()
        .map(|recipe| pack(workspace, recipe, &binaries))
        .collect()
}

/// The images that users of the project run.
pub(crate) fn products(images: &[Image]) -> Vec<Image> {
    let product = |image: &&Image| {
        let mut recipes = RECIPES.iter();
        recipes.any(|recipe| recipe.product && recipe.name == image.name)
    };
    images.iter().filter(product).cloned().collect()
}

/// Pushes images to REGISTRY/NAME:TAG.
///
/// # Errors
/// When skopeo is missing and cannot be installed, or a push fails.
pub(crate) fn push(workspace: &Workspace, images: &[Image], registry: &str) -> Result<()> {
    let progress = &workspace.progress;
    let logs = workspace.target.join("images");
    packages::ensure(progress, packages::PUSH, &logs.join("apt.log"))?;
    for image in images {
        let to = format!("docker://{registry}/{}", image.reference());
        progress.say(format!("pushing {to}"));
        let mut copy = process::command("skopeo");
        copy.args(["--insecure-policy", "copy"]);
        if is_loopback(registry) {
            copy.arg("--dest-tls-verify=false");
        }
        copy.arg(format!("docker-archive:{}", image.archive.display()))
            .arg(&to);
        Logged {
            doing: "pushing an image",
            log: logs.join("push.log"),
            when_stopped: WhenStopped::End,
        }
        .run(progress, &copy)?;
    }
    Ok(())
}

/// Whether a registry is on this machine, where plain HTTP is usual.
fn is_loopback(registry: &str) -> bool {
    let host = registry.split(['/', ':']).next().unwrap_or(registry);
    host == "localhost" || host.starts_with("127.")
}

/// Returns the folder of the binaries.
fn compile(workspace: &Workspace) -> Result<PathBuf> {
    let progress = &workspace.progress;
    let triple = host_triple()?;
    progress.say("building the images' binaries");
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--bins", "--target", &triple]);
    // Whatever cargo was configured to: this is where the binaries are looked for.
    cargo.arg("--target-dir").arg(&workspace.target);
    for recipe in &RECIPES {
        cargo.args(["--package", recipe.name]);
    }
    // The explicit target keeps the flags away from build scripts and macros,
    // which cannot be static.
    cargo
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(&workspace.root);
    let log = workspace.target.join("images/build.log");
    Logged {
        doing: "building the images' binaries",
        log,
        when_stopped: WhenStopped::End,
    }
    .run(progress, &cargo)?;
    Ok(workspace.target.join(triple).join("release"))
}

fn host_triple() -> Result<String> {
    let said = process::output(process::command("rustc").arg("-vV"))?;
    let triple = said
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    Ok(triple.to_owned())
}

fn pack(workspace: &Workspace, recipe: &Recipe, folder: &Path) -> Result<Image> {
    let archive = workspace.target.join(format!("images/{}.tar", recipe.name));
    let binaries: Vec<(String, PathBuf)> = recipe
        .binaries
        .iter()
        .map(|name| (format!("/{name}"), folder.join(name)))
        .collect();
    let contents = Contents {
        name: recipe.name,
        binaries: &binaries,
        entrypoint: recipe.entrypoint,
    };
    let tag = archive::write(&contents, &archive)?;
    let image = Image {
        name: recipe.name.to_owned(),
        tag,
        archive,
    };
    let size = fs::metadata(&image.archive)
        .context("measuring an image")?
        .len();
    let line = format!(
        "image {} {} (not compressed)",
        image.reference(),
        megabytes(size)
    );
    if recipe.product && size > SMALL {
        bail!(
            "{line}: more than the {} that it may have",
            megabytes(SMALL)
        );
    }
    workspace.progress.say(line);
    Ok(image)
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_millions_of_bytes() {
        assert_eq!(megabytes(9_449_999), "9.4 MB");
        assert_eq!(megabytes(SMALL), "10.0 MB");
    }

    #[test]
    fn only_a_registry_on_this_machine_may_be_without_tls() {
        assert!(is_loopback("localhost:5000") && is_loopback("127.0.0.1:5000/team"));
        assert!(
            !is_loopback("localhost.example.com:5000") && !is_loopback("example.com/127.0.0.1")
        );
    }
}
