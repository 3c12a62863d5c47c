//! What the binary says when it cannot start.

use std::net::TcpListener;
use std::process::{Command, Output};

fn run(environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gateway-queue"))
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn a_bad_value_ends_it_at_once_with_one_line() {
    for (name, value) in [
        ("PORT", "eighty"),
        ("HOST", "nowhere"),
        ("IDENTIFY_INTERVAL", "1s"),
        ("RUST_LOG", "loud"),
        ("DISCORD_TOKEN", ""),
        ("LEASE_NAME", "x"),
        ("DISCORD_TOKEN", "sup3r secret"),
    ] {
        let output = run(&[(name, value)]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(name) || name == "LEASE_NAME", "{line}");
        assert!(!line.contains("sup3r"), "{line}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(&[("HOST", "127.0.0.1"), ("PORT", &port), ("ADMIN_PORT", "0")]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(line.contains(&format!("127.0.0.1:{port} (PORT)")), "{line}");
}

#[test]
fn help_and_version_are_printed() {
    for (flag, word) in [
        ("--help", "IDENTIFY_MARGIN"),
        ("--version", "gateway-queue "),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_gateway-queue"))
            .arg(flag)
            .output();
        let output = output.unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(word));
    }
}
