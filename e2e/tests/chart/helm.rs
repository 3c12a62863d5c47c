//! helm 3 and helm 4, with the images that the node has.

use std::process::Command;

use crate::cluster::{Namespace, run, variable};

pub(crate) const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helm {
    Three,
    Four,
}

impl Helm {
    pub(crate) const BOTH: [Self; 2] = [Self::Three, Self::Four];

    /// For names.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Three => 3,
            Self::Four => 4,
        }
    }

    /// What makes it install a definition that is another release's, or was made
    /// by hand. helm 4 knows who wrote which field.
    pub(crate) fn takes_over(self) -> &'static [&'static str] {
        match self {
            Self::Three => &["--take-ownership"],
            Self::Four => &["--take-ownership", "--force-conflicts"],
        }
    }

    fn command(self, namespace: &Namespace) -> Command {
        let mut command = Command::new(match self {
            Self::Three => variable("HELM3"),
            Self::Four => variable("HELM4"),
        });
        command.args(["--namespace", namespace.name()]);
        command
    }

    /// What it prints, or what it complains about.
    pub(crate) fn run(self, namespace: &Namespace, arguments: &[&str]) -> Result<String, String> {
        run(self.command(namespace).args(arguments), "")
    }

    /// Installs our chart for this namespace alone, beside the definition that is
    /// there, or upgrades it, and waits until it works.
    pub(crate) fn install(
        self,
        namespace: &Namespace,
        release: &str,
        more: &[&str],
    ) -> Result<String, String> {
        let watch = format!("--set=watchNamespaces={{{}}}", namespace.name());
        let (chart, beside) = (chart(), "--set=crds.enabled=false");
        let install = ["upgrade", "--install", release, &chart, beside, &watch];
        let wait = ["--wait", "--timeout=5m"];
        self.apply(namespace, &[&install[..], &wait, more].concat())
    }

    /// `install` or `upgrade`, with our images.
    pub(crate) fn apply(self, namespace: &Namespace, arguments: &[&str]) -> Result<String, String> {
        self.apply_below(namespace, "", arguments)
    }

    /// The same, of a chart in which ours is under the values of `prefix`.
    pub(crate) fn apply_below(
        self,
        namespace: &Namespace,
        prefix: &str,
        arguments: &[&str],
    ) -> Result<String, String> {
        let mut command = self.command(namespace);
        command.args(arguments);
        for (value, variable) in [
            ("image.tag", "OPERATOR_TAG"),
            ("queueImage.tag", "QUEUE_TAG"),
        ] {
            let tag = crate::cluster::variable(variable);
            command.arg(format!("--set-string={prefix}{value}={tag}"));
        }
        run(&mut command, "")
    }

    /// `helm test`, which must say what it has looked at.
    pub(crate) fn test(self, namespace: &Namespace, release: &str) {
        let said = self
            .run(namespace, &["test", release, "--timeout=5m"])
            .unwrap();
        assert!(
            said.contains("Phase:") && said.contains("Succeeded"),
            "{said}"
        );
    }
}

/// The chart of this checkout.
pub(crate) fn chart() -> String {
    format!("{CHECKOUT}/charts/gateway-queue-operator")
}

/// The first chart there was.
pub(crate) fn first_chart() -> String {
    format!("{CHECKOUT}/e2e/history/gateway-queue-operator-0.1.0.tgz")
}
