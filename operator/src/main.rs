//! Turns a GatewayQueue into a running queue server.

fn main() {}
