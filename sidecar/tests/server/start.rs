//! What the binary says when it cannot start.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::process::{Command, Output};

use crate::common::{Server, granted};

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
        ("ALLOW_UNSAFE_INTERVAL", "perhaps"),
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
fn without_a_host_every_port_answers_in_both_families() {
    let server = Server::start(&[("HOST", "")]);
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let mut client = server.send_to(ip, b"GET /?shard=0 HTTP/1.1\r\nhost: q\r\n\r\n");
        granted(&mut client);
        assert_eq!(server.page_at(ip, "/readyz").0, 200, "{ip}");
    }
}

#[test]
fn the_admin_port_answers_in_both_families_unless_the_host_is_this_machine() {
    for (host, other) in [
        ("0.0.0.0", Ipv6Addr::LOCALHOST),
        ("127.0.0.1", Ipv6Addr::LOCALHOST),
    ] {
        let server = Server::start(&[("HOST", host)]);
        assert_eq!(server.page("/readyz").0, 200);
        let elsewhere = TcpStream::connect((other, server.admin.port()));
        assert_eq!(elsewhere.is_ok(), host == "0.0.0.0", "{host}");
        // The queue listens where it was told to.
        assert!(TcpStream::connect((other, server.queue.port())).is_err());
    }
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
