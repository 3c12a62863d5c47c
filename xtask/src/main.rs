//! The developer's commands: demo, test, cluster, image, crd.

fn main() {}
