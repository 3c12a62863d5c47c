//! The list of the examples.

use crate::examples::LIBRARIES;

const README: &str = include_str!("../../../examples/clients/README.md");
const README_OF_THE_PROJECT: &str = include_str!("../../../README.md");

/// Returns the URL for Sandwich-Daemon.
pub(crate) fn sandwich_url() -> &'static str {
    let (_, url) = README.split_once("NewIdentifyViaURL(\"").unwrap();
    url.split('"').next().unwrap()
}

#[test]
fn the_readmes_list_the_tested_versions() {
    for library in LIBRARIES {
        let version = library.version().unwrap();
        let row = format!("| {} | {version} |", library.library);
        for readme in [README, README_OF_THE_PROJECT] {
            assert!(readme.contains(&row), "{row}");
        }
    }
}
