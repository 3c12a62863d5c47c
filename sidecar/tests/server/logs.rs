//! The log for machines: flat JSON with the documented fields.

use std::process::{Command, Stdio};

use gateway_queue_testkit::scripted_server::{ScriptedServer, response};
use serde_json::{Value, json};

use crate::common::{BINARY, Server, granted};

/// Waits for the line with this message, checks these fields, and returns the line.
fn logged(server: &Server, message: &str, fields: &Value) -> Value {
    let line = parse(&server.wait_for_log(&format!(r#""message":"{message}""#)));
    has(&line, fields);
    line
}

fn has(line: &Value, fields: &Value) {
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name}: {line}");
    }
}

fn parse(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    let fields = value.as_object().unwrap();
    for name in ["timestamp", "level", "message", "target"] {
        assert!(value[name].is_string(), "no {name}: {line}");
    }
    let time = fields["timestamp"].as_str().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
    // Flat: neither objects nor lists.
    for (name, value) in fields {
        assert!(!value.is_object() && !value.is_array(), "{name}: {line}");
        if name.ends_with("_ms") || name.ends_with("_us") {
            assert!(value.is_u64(), "{name} is no number: {line}");
        }
    }
    value
}

#[test]
fn a_start_new_limits_and_a_grant_are_logged_with_the_documented_fields() {
    let discord = ScriptedServer::reporting(1, 1000, 60_000);
    let server = Server::with_discord(&discord, &[("REFRESH_INTERVAL", "600ms")]);
    let limits = json!({"level": "INFO", "total": 1000, "max_concurrency": 1});
    logged(&server, "limits fetched", &limits);
    granted(&mut server.ask(4));
    let grant = json!({"level": "DEBUG", "target": "gateway_queue::queue::task",
        "shard": 4, "bucket": 0});
    let grant = logged(&server, "granted", &grant);
    assert!(grant["waited_ms"].is_u64(), "{grant}");
    assert!(grant["late_us"].is_u64(), "{grant}");
    // The same limits are logged for debugging only; a change is not.
    logged(&server, "limits fetched", &json!({"level": "DEBUG"}));
    discord.report(2, 1000, 60_000);
    let changed = json!({"level": "INFO", "previous": 1, "max_concurrency": 2});
    logged(&server, "max_concurrency changed", &changed);
    discord.say(response("500 Oops", ""));
    let failed = json!({"level": "WARN", "error": "Discord answered 500"});
    let failed = logged(&server, "fetch of the limits failed", &failed);
    assert!(failed["retry_in_ms"].is_u64(), "{failed}");
    server.signal("-TERM");
    for line in server.log_to_the_end() {
        parse(&line);
    }
}

/// Returns the first line of the log of this command, and its standard output.
fn first_line(command: &mut Command) -> (Value, String) {
    let mut child = command
        .env_clear()
        .envs([
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("ADMIN_PORT", "0"),
            ("LOG_FORMAT", "json"),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    (parse(&line), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_limit_that_allows_few_clients_is_logged_with_the_limits() {
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n 200 && exec \"$0\"", BINARY]);
    let (warning, _) = first_line(&mut limited);
    has(
        &warning,
        &json!({"level": "WARN", "message": "few clients allowed",
            "open_files": 200, "max_clients": 72}),
    );
    // The machine decides whether memory is limited.
    let memory = warning.get("memory_bytes");
    assert!(memory.is_none_or(Value::is_u64), "{warning}");
}

#[test]
fn the_first_line_has_the_addresses_and_the_version() {
    let (started, output) = first_line(&mut Command::new(BINARY));
    has(
        &started,
        &json!({"level": "INFO", "message": "listening",
            "version": env!("CARGO_PKG_VERSION"), "spacing_ms": 5250}),
    );
    for address in ["queue_address", "admin_address"] {
        let address = started[address].as_str().unwrap();
        assert!(address.starts_with("127.0.0.1:"), "{started}");
    }
    assert_eq!(output, "");
}

#[test]
fn a_client_cannot_fill_the_log() {
    let server = Server::start(&[("RUST_LOG", "info"), ("IDENTIFY_INTERVAL", "1ms")]);
    for _ in 0..50 {
        granted(&mut server.send(b"GET /?shard=x HTTP/1.1\r\nhost: q\r\n\r\n"));
    }
    server.signal("-TERM");
    let lines: Vec<_> = server.log_to_the_end().collect();
    let warnings = lines.iter().filter(|line| line.contains("invalid shard"));
    assert_eq!(warnings.count(), 1, "{lines:#?}");
}
