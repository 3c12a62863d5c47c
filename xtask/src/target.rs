//! The cluster of a demo or a test: the test node, or an existing cluster.

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use testnode::NetworkSettings;
use testnode::host::{Workspace, files, interrupt, process};
use testnode::image::Image;
use testnode::node;
use testnode::programs;

use crate::image;
use crate::kubernetes::Kubernetes;

/// The cluster that the command line selects.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Choice {
    /// Use an existing cluster instead of the test node
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Push the images to this registry, from which that cluster pulls them
    #[arg(long, requires = "kubeconfig")]
    pub(crate) registry: Option<String>,
}

/// A cluster that has our images, or can pull them.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kubernetes: Kubernetes,
    pub(crate) images: Vec<Image>,
    /// The registry with which the images' names begin.
    pub(crate) registry: Option<String>,
    /// Whether the cluster is the test node.
    pub(crate) own: bool,
}

impl Target {
    /// Starts the test node, or uses the selected cluster, and gives it the images.
    pub(crate) fn prepare(workspace: &Workspace, choice: Choice) -> Result<Self> {
        match choice.kubeconfig {
            None => start(workspace),
            Some(kubeconfig) => existing(workspace, kubeconfig, choice.registry),
        }
    }

    /// Like [`Self::prepare`], with a test node that runs.
    pub(crate) fn prepare_running(workspace: &Workspace, choice: Choice) -> Result<Self> {
        match choice.kubeconfig {
            None => with_images(workspace, image::build(workspace)?),
            Some(_) => Self::prepare(workspace, choice),
        }
    }

    /// Returns the full name of one of our images, for a pod.
    pub(crate) fn reference(&self, name: &str) -> Result<String> {
        let image = self.image(name)?.reference();
        Ok(match &self.registry {
            Some(registry) => format!("{registry}/{image}"),
            None => image,
        })
    }

    /// Returns the environment of the tests and benchmarks on the cluster: `namespace` has the
    /// fake Discord.
    pub(crate) fn variables(
        &self,
        namespace: &str,
        started: SystemTime,
    ) -> [(&'static str, OsString); 5] {
        let kubernetes = &self.kubernetes;
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        [
            ("KUBECONFIG", kubernetes.kubeconfig.clone().into()),
            ("KUBECTL", kubernetes.kubectl.clone().into()),
            ("HELM", kubernetes.helm.clone().into()),
            ("E2E_NAMESPACE", namespace.into()),
            ("E2E_STARTED", started.as_secs().to_string().into()),
        ]
    }

    /// Returns one of our images.
    pub(crate) fn image(&self, name: &str) -> Result<&Image> {
        let image = self.images.iter().find(|image| image.name == name);
        image.with_context(|| format!("no image {name} was built"))
    }
}

/// Starts the node and builds the images at the same time: on a fresh machine, Go and Rust
/// then keep all cores busy. A failure of one stops the other.
fn start(workspace: &Workspace) -> Result<Target> {
    let images = thread::scope(|scope| {
        let images = scope.spawn(|| image::build(workspace).inspect_err(|_| interrupt::request()));
        let node = node::up(workspace, &NetworkSettings::IPV4);
        let node = node.inspect_err(|_| interrupt::request());
        let images = images.join();
        let images = images.map_err(|_| anyhow!("the build of the images panicked"))?;
        match (node, images) {
            (Ok(()), Ok(images)) => Ok(images),
            (Err(first), Err(second)) if interrupt::caused(&first) => Err(second),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    })?;
    with_images(workspace, images)
}

/// Loads the images into the running test node.
fn with_images(workspace: &Workspace, images: Vec<Image>) -> Result<Target> {
    node::load(&workspace.progress, &images)?;
    Ok(Target {
        kubernetes: node(workspace)?,
        images,
        registry: None,
        own: true,
    })
}

fn existing(
    workspace: &Workspace,
    kubeconfig: PathBuf,
    registry: Option<String>,
) -> Result<Target> {
    let progress = &workspace.progress;
    let kubeconfig = kubeconfig
        .canonicalize()
        .with_context(|| format!("--kubeconfig {}", kubeconfig.display()))?;
    let registry = registry.map(|registry| registry.trim_end_matches('/').to_owned());
    let images = image::build(workspace)?;
    let kubernetes = access(workspace, kubeconfig)?;
    let identity = kubernetes.identity().context("reaching the cluster")?;
    let own = is_own(&kubernetes, &identity);
    match &registry {
        _ if own => node::load(progress, &images)?,
        Some(registry) => image::push(workspace, &images, registry)?,
        None => {
            progress.print("the nodes of this cluster must have these images. If they do not,");
            progress.print("load the files, or use --registry REGISTRY:");
            for image in &images {
                let file = image.archive.display();
                progress.print(format!("    {} from {file}", image.reference()));
            }
        }
    }
    Ok(Target {
        kubernetes,
        images,
        registry: registry.filter(|_| !own),
        own,
    })
}

/// Uses the user's kubectl and helm, which fit the user's cluster, or else builds them.
fn access(workspace: &Workspace, kubeconfig: PathBuf) -> Result<Kubernetes> {
    let installed = process::find("kubectl").zip(process::find("helm"));
    let (kubectl, helm) = match installed {
        Some(installed) => installed,
        None => {
            let programs = programs::NODE.build(workspace)?;
            (programs.path("kubectl"), programs.path("helm"))
        }
    };
    Ok(Kubernetes {
        kubectl,
        helm,
        kubeconfig,
    })
}

fn is_own(kubernetes: &Kubernetes, identity: &str) -> bool {
    let Ok(kubeconfig) = node::kubeconfig() else {
        return false;
    };
    let node = Kubernetes {
        kubeconfig,
        ..kubernetes.clone()
    };
    node.identity().is_ok_and(|own| own == identity)
}

/// Returns the test node as it is.
pub(crate) fn node(workspace: &Workspace) -> Result<Kubernetes> {
    let programs = programs::NODE.build(workspace)?;
    Ok(Kubernetes {
        kubectl: programs.path("kubectl"),
        helm: programs.path("helm"),
        kubeconfig: node::kubeconfig()?,
    })
}

/// Returns the text of a file of the checkout.
pub(crate) fn read(workspace: &Workspace, path: &str) -> Result<String> {
    files::read(&workspace.root.join(path))
}
