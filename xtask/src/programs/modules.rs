//! The Go modules of ours whose programs are built.

/// A folder of xtask with a go.mod, and what is built of it.
pub(super) struct Module {
    pub(super) folder: &'static str,
    /// What is built, as the end of "building …".
    pub(super) what: &'static str,
    /// What a person may want to know before they wait.
    pub(super) notice: &'static str,
    /// The oldest Go that builds it.
    pub(super) oldest_go: (u32, u32),
    /// Flags of the build.
    pub(super) flags: &'static [&'static str],
    /// `tool` is every program that go.mod lists; the others are our own.
    pub(super) packages: &'static [&'static str],
    /// What the programs are made from, in the folder.
    pub(super) sources: &'static [&'static str],
    /// What a program calls itself, and what it is called here.
    pub(super) renamed: &'static [(&'static str, &'static str)],
}

/// What a node consists of, and what is used with it.
pub(super) const NODE: Module = Module {
    folder: "node",
    what: "the node's programs",
    notice: "Kubernetes, etcd, CoreDNS, helm (about 6 minutes on 2 cores, once)",
    // As Kubernetes 1.35 asks.
    oldest_go: (1, 25),
    flags: &[
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        NODE_LINKER_FLAGS,
    ],
    packages: &["tool", "./certs", "./coredns", "./pause"],
    sources: &[
        "certs/main.go",
        "coredns/main.go",
        "go.mod",
        "go.sum",
        "pause/main.go",
    ],
    renamed: &[("server", "etcd")],
};

/// Without the version the API server calls itself v0.0.0-master, and clients
/// that look at the version go wrong.
const NODE_LINKER_FLAGS: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.35.4 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=35";

/// What the chart is checked with.
pub(super) const TOOLS: Module = Module {
    folder: "tools",
    what: "the chart's tools",
    notice: "helm 3, helm-unittest, helm-docs, kubeconform (about 3 minutes on 2 cores, once)",
    // As helm-unittest asks.
    oldest_go: (1, 26),
    flags: &[
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        TOOLS_LINKER_FLAGS,
    ],
    packages: &["tool"],
    sources: &["go.mod", "go.sum"],
    renamed: &[("helm", "helm3")],
};

/// Without its version helm says nothing that a person could look for.
const TOOLS_LINKER_FLAGS: &str = "-s -w -X helm.sh/helm/v3/internal/version.version=v3.21.3";
