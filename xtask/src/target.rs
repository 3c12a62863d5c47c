//! The cluster that a demo or a test runs on: our own node, or one that is
//! there already.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster;
use crate::image::{self, Image};
use crate::kubernetes::Kubernetes;
use crate::prepare;
use crate::process;
use crate::programs;
use crate::workspace::Workspace;

/// What the command line says about the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// `--kubeconfig FILE`: a cluster that is there.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// `--registry REGISTRY`: where that cluster can pull from, and we push to.
    pub(crate) registry: Option<String>,
}

/// A cluster that has our images, or can pull them.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kubernetes: Kubernetes,
    pub(crate) images: Vec<Image>,
    /// The registry that the images' names begin with.
    pub(crate) registry: Option<String>,
    /// Whether the cluster is our own node.
    pub(crate) own: bool,
}

impl Target {
    /// Brings up our node, or takes the cluster that was named, and gives it
    /// the images.
    ///
    /// # Errors
    /// When there is no such cluster in the end, with the reason.
    pub(crate) fn prepare(workspace: &Workspace, choice: Choice) -> Result<Self> {
        let Choice {
            kubeconfig,
            registry,
        } = choice;
        match kubeconfig {
            None => own(workspace),
            Some(kubeconfig) => foreign(workspace, kubeconfig, registry),
        }
    }

    /// How a pod names the image.
    ///
    /// # Errors
    /// When there is no such image.
    pub(crate) fn reference(&self, name: &str) -> Result<String> {
        let image = self.image(name)?.reference();
        Ok(match &self.registry {
            Some(registry) => format!("{registry}/{image}"),
            None => image,
        })
    }

    /// One of our images.
    ///
    /// # Errors
    /// When there is no such image.
    pub(crate) fn image(&self, name: &str) -> Result<&Image> {
        let image = self.images.iter().find(|image| image.name == name);
        image.with_context(|| format!("no image {name} was built"))
    }
}

fn own(workspace: &Workspace) -> Result<Target> {
    let (cluster, images) = prepare::node_and_images(workspace)?;
    cluster::load(&workspace.progress, &images)?;
    Ok(Target {
        kubernetes: Kubernetes {
            kubectl: cluster.programs.kubectl(),
            helm: cluster.programs.helm(),
            kubeconfig: cluster.kubeconfig,
        },
        images,
        registry: None,
        own: true,
    })
}

fn foreign(workspace: &Workspace, kubeconfig: PathBuf, registry: Option<String>) -> Result<Target> {
    let progress = &workspace.progress;
    let kubeconfig = kubeconfig
        .canonicalize()
        .with_context(|| format!("--kubeconfig {}", kubeconfig.display()))?;
    let images = image::build(workspace)?;
    let kubernetes = access(workspace, kubeconfig)?;
    let identity = kubernetes.identity().context("reaching the cluster")?;
    let own = is_own(&kubernetes, &identity);
    match &registry {
        _ if own => cluster::load(progress, &images)?,
        Some(registry) => image::push(workspace, &images, registry)?,
        None => {
            progress.say("this cluster's nodes must have these images already; if they do not,");
            progress.say("give them the files, or use --registry REGISTRY:");
            for image in &images {
                let file = image.archive.display();
                progress.say(format!("    {} from {file}", image.reference()));
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

/// The user's own kubectl and helm fit the user's own cluster; without them we
/// build ours.
fn access(workspace: &Workspace, kubeconfig: PathBuf) -> Result<Kubernetes> {
    let (kubectl, helm) = match (process::find("kubectl"), process::find("helm")) {
        (Some(kubectl), Some(helm)) => (kubectl, helm),
        _ => {
            let programs = programs::ensure(workspace)?;
            (programs.kubectl(), programs.helm())
        }
    };
    Ok(Kubernetes {
        kubectl,
        helm,
        kubeconfig,
    })
}

fn is_own(kubernetes: &Kubernetes, identity: &str) -> bool {
    let Ok(kubeconfig) = cluster::kubeconfig() else {
        return false;
    };
    let node = Kubernetes {
        kubeconfig,
        ..kubernetes.clone()
    };
    node.identity().is_ok_and(|own| own == identity)
}

/// Our node, as it is.
///
/// # Errors
/// When it is not up.
pub(crate) fn node(workspace: &Workspace) -> Result<Kubernetes> {
    let programs = programs::ensure(workspace)?;
    Ok(Kubernetes {
        kubectl: programs.kubectl(),
        helm: programs.helm(),
        kubeconfig: cluster::kubeconfig()?,
    })
}

/// The text of a file of the checkout.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(workspace: &Workspace, path: &str) -> Result<String> {
    let path: &Path = &workspace.root.join(path);
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
