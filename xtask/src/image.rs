//! `cargo xtask image`: static binaries, and the images made of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testnode::host::process::{self, Logged};
use testnode::host::{Workspace, packages};
use testnode::image::Image;

use crate::cargo;

struct Recipe {
    /// The name of the package and of the image.
    name: &'static str,
    binaries: &'static [&'static str],
    /// Whether the image is for users: then it has an entrypoint, and its size is limited.
    is_product: bool,
}

/// The limit of the uncompressed size of a product's archive.
const MAX_PRODUCT_BYTES: u64 = 10_000_000;

const RECIPES: [Recipe; 3] = [
    Recipe {
        name: "gateway-queue",
        binaries: &["gateway-queue"],
        is_product: true,
    },
    Recipe {
        name: "gateway-queue-operator",
        binaries: &["gateway-queue-operator"],
        is_product: true,
    },
    Recipe {
        name: "gateway-queue-e2e",
        binaries: &["fake-discord", "bot"],
        is_product: false,
    },
];

/// What `image --push` needs.
const PUSH: &[packages::Package] = &[("skopeo", "skopeo")];

/// Builds the binaries, and writes the images to `images` in the build folder. Without a
/// change to the binaries, the images do not change.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<Image>> {
    let packages = RECIPES.map(|recipe| recipe.name);
    let binaries = compile(workspace, "building the images' binaries", &packages)?;
    let pack = |recipe| pack(workspace, recipe, &binaries);
    RECIPES.iter().map(pack).collect()
}

/// Keeps only the images for users.
pub(crate) fn products(mut images: Vec<Image>) -> Vec<Image> {
    images.retain(|image| {
        let mut recipes = RECIPES.iter();
        recipes.any(|recipe| recipe.is_product && recipe.name == image.name)
    });
    images
}

/// Pushes images to REGISTRY/NAME:TAG.
pub(crate) fn push(workspace: &Workspace, images: &[Image], registry: &str) -> Result<()> {
    let progress = &workspace.progress;
    let registry = registry.trim_end_matches('/');
    if registry.contains("://") {
        bail!("{registry} is not accepted: a registry is HOST[:PORT][/PATH], without a scheme");
    }
    let logs = workspace.target.join("images");
    packages::ensure(progress, PUSH, &logs.join("apt.log"))?;
    for image in images {
        let to = format!("docker://{registry}/{}", image.reference());
        progress.print(format!("pushing {to}"));
        let mut copy = process::command("skopeo");
        copy.args(["--insecure-policy", "copy"]);
        if is_loopback(registry) {
            copy.arg("--dest-tls-verify=false");
        }
        copy.arg(format!("docker-archive:{}", image.archive.display()))
            .arg(&to);
        Logged::new("pushing an image", logs.join("push.log")).run(progress, &copy)?;
    }
    println!("--set global.imageRegistry={registry}");
    for image in images {
        let value = match image.name.as_str() {
            "gateway-queue" => "queueImage.tag",
            _ => "image.tag",
        };
        println!("--set-string {value}={}", image.tag);
    }
    Ok(())
}

/// Returns whether a registry is on this machine, where plain HTTP is usual.
fn is_loopback(registry: &str) -> bool {
    let host = registry.split(['/', ':']).next().unwrap_or(registry);
    host == "localhost" || host.starts_with("127.")
}

/// Builds the static binaries of these packages and returns their folder.
pub(crate) fn compile(workspace: &Workspace, doing: &str, packages: &[&str]) -> Result<PathBuf> {
    build_static(workspace, doing, packages, &["--bins"])?;
    Ok(workspace.target.join(host_triple()?).join("release"))
}

/// Builds a benchmark of a package in the same way, and returns its path.
pub(crate) fn compile_benchmark(
    workspace: &Workspace,
    package: &str,
    name: &str,
) -> Result<PathBuf> {
    let doing = format!("building the benchmark {name}");
    let format = "--message-format=json-render-diagnostics";
    let log = build_static(workspace, &doing, &[package], &["--bench", name, format])?;
    let messages = fs::read_to_string(&log).context("reading a log")?;
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let executable = messages
        .filter(|message: &Value| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.with_context(|| format!("cargo reports no benchmark {name}"))
}

/// Static and, with packed relocations, 0.2 MB smaller.
const STATIC: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";

/// Builds static programs, and returns the path of cargo's output.
fn build_static(
    workspace: &Workspace,
    doing: &str,
    packages: &[&str],
    arguments: &[&str],
) -> Result<PathBuf> {
    let progress = &workspace.progress;
    progress.print(doing);
    let mut cargo = cargo(workspace);
    cargo.args(["build", "--release", "--target", &host_triple()?]);
    cargo.args(arguments);
    // Whatever cargo's configuration is, the binaries are read from this folder.
    cargo.arg("--target-dir").arg(&workspace.target);
    for package in packages {
        cargo.args(["--package", package]);
    }
    // The explicit target keeps the flags away from build scripts and macros, which cannot
    // be static.
    cargo.env("RUSTFLAGS", STATIC);
    let log = workspace.target.join("images/build.log");
    Logged::new(doing, &log).run(progress, &cargo)?;
    Ok(log)
}

fn host_triple() -> Result<String> {
    let version = process::output(process::command("rustc").arg("-vV"))?;
    let mut lines = version.lines();
    let triple = lines.find_map(|line| line.strip_prefix("host: "));
    Ok(triple.context("`rustc -vV` prints no host")?.to_owned())
}

fn pack(workspace: &Workspace, recipe: &Recipe, folder: &Path) -> Result<Image> {
    let Recipe {
        name,
        binaries,
        is_product,
    } = recipe;
    let archive = workspace.target.join(format!("images/{name}.tar"));
    let file = |binary: &&str| (format!("/{binary}"), folder.join(binary));
    let files: Vec<_> = binaries.iter().map(file).collect();
    let entrypoint = format!("/{name}");
    let entrypoint = is_product.then_some(entrypoint.as_str());
    let image = Image::write(name, &files, entrypoint, &archive)?;
    let size = fs::metadata(&archive).context("reading an image")?.len();
    let line = format!(
        "image {}: {}, uncompressed",
        image.reference(),
        megabytes(size)
    );
    if *is_product && size > MAX_PRODUCT_BYTES {
        bail!("{line}; the limit is {}", megabytes(MAX_PRODUCT_BYTES));
    }
    workspace.progress.print(line);
    Ok(image)
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_on_this_machine_is_used_without_tls() {
        assert!(is_loopback("localhost:5000") && is_loopback("127.0.0.1:5000/team"));
        assert!(
            !is_loopback("localhost.example.com:5000") && !is_loopback("example.com/127.0.0.1")
        );
    }
}
