//! helm 3 and helm 4, with the images that the node has.

use std::process::Command;

use crate::cluster::{Namespace, checkout, run, variable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helm {
    Three,
    Four,
}

impl Helm {
    pub(crate) const BOTH: [Self; 2] = [Self::Three, Self::Four];

    /// Appends the version to a name.
    pub(crate) fn name(self, name: &str) -> String {
        match self {
            Self::Three => format!("{name}-3"),
            Self::Four => format!("{name}-4"),
        }
    }

    /// The flags that take over a CRD of another release. helm 4 also respects who owns a field.
    pub(crate) fn takes_over(self) -> &'static str {
        match self {
            Self::Three => "--take-ownership",
            Self::Four => "--take-ownership --force-conflicts",
        }
    }

    /// Returns the output of helm, or its error. No argument contains a space.
    pub(crate) fn run(self, namespace: &Namespace, arguments: &str) -> Result<String, String> {
        let mut command = Command::new(match self {
            Self::Three => variable("HELM3"),
            Self::Four => variable("HELM4"),
        });
        command.args(["--namespace", namespace.name()]);
        run(command.args(arguments.split_whitespace()), "")
    }

    /// Installs or upgrades the chart without the CRD, for one namespace, and waits until the
    /// operator is ready.
    pub(crate) fn install(self, namespace: &Namespace, release: &str, more: &str) {
        let (chart, watch) = (chart(), watch("", namespace));
        let options = format!("--set=crds.enabled=false {watch} {WAIT} {more}");
        let install = format!("upgrade --install {release} {chart} {options}");
        self.apply(namespace, "", &install).unwrap();
    }

    /// Runs `install` or `upgrade` with the images of the node. The values of the chart have this
    /// prefix.
    pub(crate) fn apply(
        self,
        namespace: &Namespace,
        prefix: &str,
        arguments: &str,
    ) -> Result<String, String> {
        let mut all = arguments.to_owned();
        for (image, repository, tag) in [
            ("image", "gateway-queue-operator", "OPERATOR_TAG"),
            ("queueImage", "gateway-queue", "QUEUE_TAG"),
        ] {
            let tag = variable(tag);
            all += &format!(" --set={prefix}{image}.repository={repository}");
            all += &format!(" --set-string={prefix}{image}.tag={tag}");
        }
        self.run(namespace, &all)
    }

    /// Runs `helm test`, which must report its result.
    pub(crate) fn test(self, namespace: &Namespace, release: &str) {
        let output = self.run(namespace, &format!("test {release} --timeout=5m"));
        let output = output.unwrap();
        assert!(output.contains("Phase:"), "{output}");
        assert!(output.contains("Succeeded"), "{output}");
    }
}

pub(crate) const WAIT: &str = "--wait --timeout=5m";

/// The flag that limits a release to a namespace.
pub(crate) fn watch(prefix: &str, namespace: &Namespace) -> String {
    format!("--set={prefix}watchNamespaces={{{}}}", namespace.name())
}

/// The chart of this checkout.
pub(crate) fn chart() -> String {
    checkout("charts/gateway-queue-operator")
}
