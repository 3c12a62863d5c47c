//! `gateway-queue check`: the message and the exit code of each failure.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use gateway_queue_testkit::discord::limits_response;
use gateway_queue_testkit::scripted_server::{ScriptedServer, response};

use crate::common::{BINARY, Server, TOKEN};

/// Returns the exit code and everything that was printed.
fn check(args: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
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
    (output.status.code().unwrap(), printed)
}

fn line(printed: &str, subject: &str) -> String {
    let mut lines = printed.lines();
    let found = lines.find(|line| line.split_whitespace().nth(1) == Some(subject));
    found
        .unwrap_or_else(|| panic!("no {subject} in:\n{printed}"))
        .to_owned()
}

/// Checks against a Discord that answers this, which is asked once.
fn answered(answer: String, more: &[(&str, &str)]) -> (i32, String) {
    let discord = ScriptedServer::saying(answer);
    let api = discord.api();
    let environment = [("DISCORD_TOKEN", TOKEN), ("DISCORD_API", api.as_str())];
    let checked = check(&[], &[&environment, more].concat());
    let [request] = &discord.received()[..] else {
        panic!("not one request: {}", checked.1);
    };
    assert!(request.head.starts_with("GET /api/v10/gateway/bot "));
    checked
}

#[test]
fn a_bot_that_can_start_passes_with_one_request_to_discord() {
    let (code, printed) = answered(limits_response(16, 993, 60_000), &[]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(printed.lines().count(), 9, "{printed}");
    assert!(!printed.contains("FAIL"), "{printed}");
    let starts = line(&printed, "session_starts");
    assert!(
        starts.starts_with("ok       session_starts  993 of 1000 left, reset in 1 min ("),
        "{starts}"
    );
}

#[test]
fn an_unreadable_token_is_found_before_discord_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let absent = folder.path().join("absent");
    for (path, why) in [
        (&absent, "No such file or directory"),
        (&empty, "holds no token: it is empty"),
        (&folder.path().to_owned(), "Is a directory"),
    ] {
        let (code, printed) = check(&[], &[("DISCORD_TOKEN_FILE", path.to_str().unwrap())]);
        assert_eq!(code, 3, "{printed}");
        let token = line(&printed, "token");
        assert!(token.starts_with("FAIL ") && token.contains(why), "{token}");
        assert!(
            token.contains("the Secret that the GatewayQueue names"),
            "{token}"
        );
        assert!(line(&printed, "tcp").starts_with("skipped "), "{printed}");
    }
}

#[test]
fn an_unreadable_setting_is_found_first() {
    for environment in [
        ("DISCORD_TOKEN", ""),
        ("PORT", "eighty"),
        ("DISCORD_TOKEN", "t0ken x"),
    ] {
        let (code, printed) = check(&[], &[environment]);
        assert_eq!(code, 2, "{printed}");
        let settings = line(&printed, "settings");
        assert!(
            settings.starts_with("FAIL ") && settings.contains(environment.0),
            "{printed}"
        );
    }
    let (code, printed) = check(&["--output", "xml"], &[]);
    assert_eq!((code, printed.lines().count()), (2, 1), "{printed}");
}

#[test]
fn an_unknown_host_name_is_a_failure_of_dns() {
    let api = ("DISCORD_API", "https://discord.invalid/api/v10");
    let (code, printed) = check(&[], &[("DISCORD_TOKEN", TOKEN), api]);
    assert_eq!(code, 4, "{printed}");
    assert!(line(&printed, "dns").starts_with("FAIL "), "{printed}");
    assert!(
        line(&printed, "dns").contains("look at the DNS"),
        "{printed}"
    );
}

#[test]
fn a_refused_connection_is_a_failure_of_tcp() {
    let down = ScriptedServer::down();
    let environment = [("DISCORD_TOKEN", TOKEN), ("DISCORD_API", &down.api())];
    let (code, printed) = check(&[], &environment);
    assert_eq!(code, 5, "{printed}");
    let tcp = line(&printed, "tcp");
    assert!(
        tcp.starts_with("FAIL ") && tcp.contains("Connection refused"),
        "{tcp}"
    );
    assert!(line(&printed, "http").starts_with("skipped "), "{printed}");
}

#[test]
fn a_server_without_tls_is_a_failure_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("https://{}/api/v10", listener.local_addr().unwrap());
    let checked =
        thread::spawn(move || check(&[], &[("DISCORD_TOKEN", TOKEN), ("DISCORD_API", &api)]));
    let (mut stream, _) = listener.accept().unwrap();
    stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .unwrap();
    let (code, printed) = checked.join().unwrap();
    assert_eq!(code, 6, "{printed}");
    assert!(line(&printed, "tcp").starts_with("ok "), "{printed}");
    assert!(line(&printed, "tls").starts_with("FAIL "), "{printed}");
}

#[test]
fn an_answer_that_cannot_be_used_is_a_failure_of_http() {
    for (status, body, why) in [
        ("500 Oops", "", "Discord answered 500"),
        ("404 Not Found", "", "DISCORD_API must be the base URL"),
        (
            "429 Slow Down\r\nretry-after: 90",
            "",
            "ask again in 1 min 30 s",
        ),
        ("200 OK", "<html>", ""),
    ] {
        let (code, printed) = answered(response(status, body), &[]);
        assert_eq!(code, 7, "{printed}");
        let http = line(&printed, "http");
        assert!(http.starts_with("FAIL ") && http.contains(why), "{http}");
        assert!(
            line(&printed, "token_accepted").starts_with("skipped "),
            "{printed}"
        );
    }
}

#[test]
fn a_rejected_token_differs_from_a_missing_one() {
    let (code, printed) = answered(response("401 Unauthorized", ""), &[]);
    assert_eq!(code, 8, "{printed}");
    let accepted = line(&printed, "token_accepted");
    assert!(
        accepted.starts_with("FAIL ") && accepted.contains("401"),
        "{accepted}"
    );
    assert!(line(&printed, "token").starts_with("ok "), "{printed}");
}

#[test]
fn used_up_and_reserved_session_starts_are_a_failure() {
    for (remaining, reserve, code) in [(0, "0", 9), (5, "5", 9), (6, "5", 0)] {
        let reserved = [("SESSION_RESERVE", reserve)];
        let (exit, printed) = answered(limits_response(1, remaining, 60_000), &reserved);
        assert_eq!(exit, code, "{printed}");
        let starts = line(&printed, "session_starts");
        assert!(
            starts.contains(&format!("{remaining} of 1000 left")),
            "{starts}"
        );
    }
}

#[test]
fn the_leader_is_found_at_the_queue_on_this_machine_or_on_the_lease() {
    let server = Server::start(&[]);
    let port = server.admin.port().to_string();
    let (code, printed) = check(&["--host", "127.0.0.1", "--admin-port", &port], &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(line(&printed, "leader").starts_with("ok "), "{printed}");
    let (code, printed) = check(&[], &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(
        line(&printed, "leader").contains("no queue answers at"),
        "{printed}"
    );
    let pod = [
        ("LEASE_NAME", "bot"),
        ("LEASE_NAMESPACE", "default"),
        ("POD_NAME", "bot-1"),
        ("POD_IP", "10.0.0.1"),
    ];
    let (code, printed) = check(&[], &pod);
    assert_eq!(code, 10, "{printed}");
    assert!(
        line(&printed, "leader").contains("KUBERNETES_SERVICE_HOST is not set"),
        "{printed}"
    );
}

#[test]
fn json_is_printed_for_scripts() {
    let (code, printed) = check(&["--output=json"], &[("DISCORD_TOKEN_FILE", "/nowhere")]);
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, &document["exit_code"]), (3, &3.into()));
    let checks = document["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 9, "{printed}");
    assert_eq!(checks[1]["check"], "token");
    assert_eq!(checks[1]["result"], "failed");
}
