//! How the binary starts, and what it prints when it cannot.

use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::{Command, Output};

use crate::common::{BINARY, Server, granted};

fn run(environment: &[(&str, &str)]) -> Output {
    Command::new(BINARY)
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
fn the_host_decides_which_families_the_ports_answer_in() {
    // The host, and whether the queue and the admin port also answer by IPv6.
    for (host, queue, admin) in [
        ("", true, true),
        ("0.0.0.0", false, true),
        ("127.0.0.1", false, false),
    ] {
        let server = Server::start(&[("HOST", host)]);
        granted(&mut server.ask(0));
        assert_eq!(server.page("/readyz").0, 200, "{host}");
        let answers = |port| TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok();
        assert_eq!(answers(server.queue.port()), queue, "{host}");
        assert_eq!(answers(server.admin.port()), admin, "{host}");
    }
}

#[test]
fn help_and_version_are_printed() {
    for (flag, word) in [
        ("--help", "IDENTIFY_MARGIN"),
        ("--version", "gateway-queue "),
    ] {
        let output = Command::new(BINARY).arg(flag).output();
        let output = output.unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(word));
    }
}
