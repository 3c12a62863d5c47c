//! Every GatewayQueue that we show to people is one that the API server takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::Namespace;
use crate::definition::Shared;
use crate::helm::CHECKOUT;

/// Where people read.
const FOLDERS: [&str; 5] = [
    ".",
    "charts/gateway-queue-operator",
    "client",
    "docs",
    "docs/runbooks",
];

#[test]
fn every_gatewayqueue_in_the_docs_and_the_examples_is_taken() {
    let _shared = Shared::hold();
    let namespace = Namespace::new("examples");
    let mut shown = Vec::new();
    for folder in FOLDERS {
        for file in files(folder, "md") {
            let text = fs::read_to_string(&file).unwrap();
            shown.extend(queues_in(&text).map(|queue| (file.clone(), queue.to_owned())));
        }
    }
    assert!(
        !shown.is_empty(),
        "the docs show none: how are they fenced?"
    );
    let before = shown.len();
    for file in files("examples", "yaml") {
        let text = fs::read_to_string(&file).unwrap();
        if text.contains("kind: GatewayQueue") {
            shown.push((file, text));
        }
    }
    assert!(shown.len() > before, "there are no examples");
    let dry_run = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "--filename",
        "-",
    ];
    for (file, queue) in shown {
        if let Err(error) = namespace.feed(&dry_run, &queue) {
            panic!(
                "{} shows what is not taken: {error}\n{queue}",
                file.display()
            );
        }
    }
}

/// The blocks of YAML that are GatewayQueues.
fn queues_in(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("\n```yaml\n").skip(1);
    blocks
        .filter_map(|rest| Some(rest.split_once("\n```")?.0))
        .filter(|block| block.contains("kind: GatewayQueue"))
}

fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let folder = Path::new(CHECKOUT).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == end))
        .collect()
}
