//! Prints the CustomResourceDefinition that the types say, for `cargo xtask crd`.

use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = gateway_queue_operator::api::crd_yaml()?;
    Ok(std::io::stdout().write_all(yaml.as_bytes())?)
}
