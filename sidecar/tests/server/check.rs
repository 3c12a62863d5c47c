//! `gateway-queue check`: the message and the exit code of each failure.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use gateway_queue_testkit::certificates::Authority;
use gateway_queue_testkit::discord::limits_response;
use gateway_queue_testkit::scripted_server::{ScriptedServer, response};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::common::{BINARY, Server, TOKEN};

/// The exit code of `check`, and everything that it printed.
struct Checked {
    code: i32,
    printed: String,
}

impl Checked {
    /// Checks the exit code, and the result and the message of some lines.
    fn has(&self, code: i32, lines: &[(&str, &str, &str)]) {
        let printed = &self.printed;
        assert_eq!(self.code, code, "{printed}");
        for (check, result, message) in lines {
            let is_line = |line: &&str| line.split_whitespace().nth(1) == Some(check);
            let line = printed.lines().find(is_line).unwrap_or_default();
            let right = line.starts_with(&format!("{result} ")) && line.contains(message);
            assert!(right, "no {result} {check} {message} in:\n{printed}");
        }
    }
}

fn check(args: &[&str], environment: &[(&str, &str)]) -> Checked {
    let output = Command::new(BINARY)
        .arg("check")
        .args(args)
        .env_clear()
        // Nothing listens there.
        .env("ADMIN_PORT", "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    assert!(!printed.contains("t0ken"), "{printed}");
    let code = output.status.code().unwrap();
    Checked { code, printed }
}

fn check_at(api: &str) -> Checked {
    check(&[], &[("DISCORD_TOKEN", TOKEN), ("DISCORD_API", api)])
}

/// Checks with a Discord that answers this, which is asked once.
fn answered(answer: String, more: &[(&str, &str)]) -> Checked {
    let discord = ScriptedServer::saying(answer);
    let api = discord.api();
    let environment = [("DISCORD_TOKEN", TOKEN), ("DISCORD_API", api.as_str())];
    let checked = check(&[], &[&environment, more].concat());
    let [request] = &discord.received()[..] else {
        panic!("not one request: {}", checked.printed);
    };
    assert!(request.head.starts_with("GET /api/v10/gateway/bot "));
    checked
}

#[test]
fn a_bot_that_can_start_passes_with_one_request_to_discord() {
    let checked = answered(limits_response(16, 993, 60_000), &[]);
    let starts = "  993 of 1000 left, reset in 1 min (";
    checked.has(0, &[("session_starts", "ok", starts)]);
    let printed = checked.printed;
    assert_eq!(printed.lines().count(), 9, "{printed}");
    assert!(!printed.contains("FAIL"), "{printed}");
}

#[test]
fn an_unreadable_token_is_found_before_discord_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    for (path, error) in [
        (&folder.path().join("absent"), "No such file or directory"),
        (&empty, "contains no token: it is empty"),
        (&folder.path().to_owned(), "Is a directory"),
    ] {
        let hint = "the Secret that the GatewayQueue names";
        let token = |message| ("token", "FAIL", message);
        let file = ("DISCORD_TOKEN_FILE", path.to_str().unwrap());
        check(&[], &[file]).has(3, &[token(error), token(hint), ("tcp", "skipped", "")]);
    }
}

#[test]
fn an_unreadable_setting_is_found_first() {
    for (name, value) in [
        ("DISCORD_TOKEN", ""),
        ("PORT", "eighty"),
        ("DISCORD_TOKEN", "t0ken x"),
    ] {
        check(&[], &[(name, value)]).has(2, &[("settings", "FAIL", name)]);
    }
    let checked = check(&["--output", "xml"], &[]);
    checked.has(2, &[]);
    assert_eq!(checked.printed.lines().count(), 1, "{}", checked.printed);
}

#[test]
fn an_unknown_host_name_is_a_failure_of_dns() {
    let checked = check_at("https://discord.invalid/api/v10");
    checked.has(4, &[("dns", "FAIL", "check the DNS")]);
}

#[test]
fn a_refused_connection_is_a_failure_of_tcp() {
    let down = ScriptedServer::down();
    let refused = ("tcp", "FAIL", "Connection refused");
    check_at(&down.api()).has(5, &[refused, ("http", "skipped", "")]);
}

/// Starts a proxy that opens a tunnel to a Discord with this certificate.
fn proxy(certificate: Arc<ServerConfig>) -> ScriptedServer {
    ScriptedServer::scripted(move |head, stream| {
        assert!(head.starts_with("CONNECT discord.test:443 "), "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let connection = ServerConnection::new(Arc::clone(&certificate)).unwrap();
        let mut tunnel = BufReader::new(StreamOwned::new(connection, stream));
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            tunnel.read_line(&mut line)?;
        }
        let answer = limits_response(1, 900, 60_000);
        tunnel.get_mut().write_all(answer.as_bytes())
    })
}

#[test]
fn discord_is_reached_through_a_proxy_that_presents_a_certificate_of_its_own() {
    let authority = Authority::new("company");
    let proxy = proxy(authority.certify_as(&["discord.test"]));
    let address = format!("http://{}", proxy.address());
    let ca = tempfile::NamedTempFile::new().unwrap();
    let check_with = |more: &[(&str, &str)]| {
        let environment = [
            ("DISCORD_TOKEN", TOKEN),
            ("DISCORD_API", "https://discord.test/api/v10"),
            ("HTTPS_PROXY", &address),
        ];
        check(&[], &[&environment, more].concat())
    };
    check_with(&[]).has(6, &[("tls", "FAIL", "set DISCORD_CA_FILE")]);
    let file = ca.path().to_str().unwrap();
    let unusable = "the CA certificates cannot be used: ";
    for (file, problem) in [(file, "no usable certificate"), ("/none", "No such file")] {
        let checked = check_with(&[("DISCORD_CA_FILE", file)]);
        checked.has(6, &[("tls", "FAIL", unusable), ("tls", "FAIL", problem)]);
    }
    fs::write(&ca, authority.pem()).unwrap();
    check_with(&[("DISCORD_CA_FILE", file)]).has(
        0,
        &[
            ("dns", "skipped", "left to the proxy 127.0.0.1:"),
            ("tcp", "ok", "connects to discord.test on port 443"),
            ("tls", "ok", "trusted"),
            ("token_accepted", "ok", "accepts"),
        ],
    );
}

#[test]
fn a_server_without_tls_is_a_failure_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("https://{}/api/v10", listener.local_addr().unwrap());
    let checked = thread::spawn(move || check_at(&api));
    let (mut stream, _) = listener.accept().unwrap();
    stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .unwrap();
    let checked = checked.join().unwrap();
    checked.has(6, &[("tcp", "ok", ""), ("tls", "FAIL", "")]);
}

#[test]
fn an_unusable_answer_is_a_failure_of_http() {
    let rate_limited = "429 Slow Down\r\nretry-after: 90";
    for (status, body, error) in [
        ("500 Oops", "", "Discord answered 500"),
        ("404 Not Found", "", "DISCORD_API must be the base URL"),
        (rate_limited, "", "retry in 1 min 30 s"),
        ("200 OK", "<html>", ""),
    ] {
        let skipped = ("token_accepted", "skipped", "");
        answered(response(status, body), &[]).has(7, &[("http", "FAIL", error), skipped]);
    }
}

#[test]
fn a_rejected_token_differs_from_a_missing_one() {
    let rejected = ("token_accepted", "FAIL", "401");
    answered(response("401 Unauthorized", ""), &[]).has(8, &[("token", "ok", ""), rejected]);
}

#[test]
fn used_up_and_reserved_session_starts_are_a_failure() {
    for (remaining, reserve, code, result) in
        [(0, "0", 9, "FAIL"), (5, "5", 9, "FAIL"), (6, "5", 0, "ok")]
    {
        let answer = limits_response(1, remaining, 60_000);
        let left = format!("{remaining} of 1000 left");
        let starts = ("session_starts", result, left.as_str());
        answered(answer, &[("SESSION_RESERVE", reserve)]).has(code, &[starts]);
    }
}

#[test]
fn the_leader_is_found_at_the_queue_on_this_machine_or_on_the_lease() {
    let server = Server::start(&[]);
    let port = server.admin.port().to_string();
    check(&["--host", "127.0.0.1", "--admin-port", &port], &[]).has(0, &[("leader", "ok", "")]);
    check(&[], &[]).has(0, &[("leader", "skipped", "no queue responds at")]);
    let pod = [
        ("LEASE_NAME", "bot"),
        ("LEASE_NAMESPACE", "default"),
        ("POD_NAME", "bot-1"),
        ("POD_IP", "10.0.0.1"),
    ];
    let outside = ("leader", "FAIL", "KUBERNETES_SERVICE_HOST is not set");
    check(&[], &pod).has(10, &[outside]);
}

#[test]
fn json_is_printed_for_scripts() {
    let file = ("DISCORD_TOKEN_FILE", "/nowhere");
    let Checked { code, printed } = check(&["--output=json"], &[file]);
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, &document["exit_code"]), (3, &3.into()));
    let checks = document["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 9, "{printed}");
    assert_eq!(checks[1]["check"], "token");
    assert_eq!(checks[1]["result"], "failed");
}
