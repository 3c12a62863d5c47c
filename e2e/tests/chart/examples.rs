//! The GatewayQueues in the docs and the examples.

use std::fs;

use crate::cluster::{Namespace, checkout};
use crate::definition::shared;

/// Folders with documentation and examples.
const FOLDERS: [&str; 6] = [
    ".",
    "charts/gateway-queue-operator",
    "client",
    "docs",
    "docs/runbooks",
    "examples",
];

#[test]
fn the_api_server_accepts_every_gatewayqueue_of_the_docs_and_the_examples() {
    let _shared = shared();
    let namespace = Namespace::new("examples");
    let (mut in_docs, mut in_examples) = (0, 0);
    for folder in FOLDERS {
        for entry in fs::read_dir(checkout(folder)).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().unwrap_or_default();
            let (blocks, count) = if extension == "md" {
                let text = fs::read_to_string(&path).unwrap();
                let blocks = text.split("\n```yaml\n").skip(1);
                let blocks = blocks.filter_map(|rest| Some(rest.split_once("\n```")?.0.to_owned()));
                (blocks.collect(), &mut in_docs)
            } else if folder == "examples" && extension == "yaml" {
                (vec![fs::read_to_string(&path).unwrap()], &mut in_examples)
            } else {
                continue;
            };
            for queue in blocks {
                if queue.contains("kind: GatewayQueue") {
                    *count += 1;
                    accept(&namespace, &queue).unwrap_or_else(|error| {
                        panic!("{}: {error}\n{queue}", path.display());
                    });
                }
            }
        }
    }
    assert!(in_docs > 0, "no block of the docs starts with ```yaml");
    assert!(in_examples > 0, "no example has a GatewayQueue");
}

fn accept(namespace: &Namespace, queue: &str) -> Result<String, String> {
    let apply = ["apply", "--server-side", "--filename", "-"];
    let strictly = ["--dry-run=server", "--validate=strict"];
    namespace.feed(&[&apply[..], &strictly].concat(), queue)
}
