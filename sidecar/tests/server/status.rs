//! `gateway-queue status`, asked about a running queue.

use std::fs::File;
use std::io::Read;
use std::process::Command;

use gateway_queue_testkit::discord::limits_response;
use gateway_queue_testkit::scripted_server::{ScriptedServer, response};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::common::{BINARY, Server, granted};

fn status(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("status").args(args).env_clear();
    command
}

/// Returns the exit code, the standard output and the standard error.
fn asked(args: &[&str]) -> (i32, String, String) {
    output_of(&mut status(args))
}

fn output_of(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_queue_that_grants_is_a_success_and_shows_its_waiters() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    granted(&mut server.ask(0));
    let _first = server.ask(4);
    server.wait_for_state(r#""shards":[4]"#);
    let _second = server.ask(7);
    server.wait_for_state(r#""shards":[4,7]"#);
    let (code, table, errors) = asked(&[&server.admin.to_string()]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(table.contains("granting        yes\n"), "{table}");
    assert!(table.contains("  none is configured"), "{table}");
    let row = table.lines().last().unwrap();
    assert!(row.starts_with("     0 59 min "), "{table}");
    assert!(row.ends_with("     2  4 7"), "{table}");
    assert!(!table.contains('\x1b'), "{table}");
}

#[test]
fn json_is_the_unchanged_state() {
    let server = Server::start(&[]);
    let (code, json, _) = asked(&[&server.admin.to_string(), "--output", "json"]);
    let printed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let state: serde_json::Value = serde_json::from_str(&server.state()).unwrap();
    assert_eq!(code, 0);
    assert_eq!(printed["role"], state["role"]);
    let keys = |value: &serde_json::Value| {
        let keys = value.as_object().unwrap().keys();
        keys.cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&printed), keys(&state));
}

#[test]
fn a_hostile_server_cannot_control_the_terminal() {
    let evil = "\\u001b]0;x\\u0007\\u001b[31m\\u009b2J\\r\\n\\u202egood\u{9b}1m\u{7f}";
    let body = format!(
        r#"{{"role":"{evil}","pod":"{evil}","version":"{evil}","token":"{evil}","blocked_by":"{evil}",
            "last_error":"{evil}","message":"{evil}","leader_pod":"{evil}","leader":null,"admin_port":1,"waiting":0,"held_requests":0,
            "bucket_count":1,"buckets":[],"last_grants":[],
            "session_starts":{{"total":1,"remaining":1,"reset_time":"{evil}"}}}}"#
    );
    let server = ScriptedServer::saying(response("200 OK", &body));
    let address = server.address().to_string();
    for args in [&[address.as_str()][..], &[&address, "--output", "json"]] {
        let (_, shown, errors) = asked(args);
        let wild = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(wild), "{shown:?}");
        assert!(!errors.contains(wild), "{errors:?}");
        assert!(shown.contains("good"), "{shown:?}");
        if args.len() > 1 {
            let state: serde_json::Value = serde_json::from_str(&shown).unwrap();
            let pod = state["pod"].as_str().unwrap();
            assert!(pod.starts_with("\u{1b}]0;x"), "{shown:?}");
        }
    }
}

#[test]
fn an_unreachable_queue_another_server_and_a_wrong_usage_differ() {
    let down = ScriptedServer::down();
    let (code, table, error) = asked(&[&down.address().to_string()]);
    assert_eq!((code, table.as_str()), (3, ""));
    assert!(error.contains("Connection refused"), "{error}");
    let other = ScriptedServer::saying(limits_response(1, 1, 1));
    let (code, _, error) = asked(&[&other.address().to_string()]);
    assert_eq!(code, 3);
    assert!(error.contains("not the state of a queue"), "{error}");
    let server = Server::start(&[]);
    let (code, _, error) = asked(&[&server.queue.to_string()]);
    assert_eq!(code, 3);
    assert!(error.contains("is it the queue port?"), "{error}");
    server.has_metric("gateway_queue_grants_total 0\n");
    for args in [
        &["--watch"][..],
        &["a:1", "b:1"],
        &["ftp://x"],
        &["--output", "xml"],
    ] {
        let (code, table, error) = asked(args);
        assert_eq!((code, table.as_str()), (2, ""), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn in_the_cluster_a_follower_shows_the_state_of_its_leader() {
    let discord = ScriptedServer::reporting(1, 0, 3_600_000);
    let leader = Server::with_discord(&discord, &[]);
    leader.wait_for_state(r#""blocked_by":"session_starts_exhausted""#);
    let admin_port = leader.admin.port();
    let state = format!(
        r#"{{"role":"follower","leader":"127.0.0.1:9091","pod":"bot-2","admin_port":{admin_port},
            "version":"0","token":"none","waiting":0,"held_requests":0,"bucket_count":0,"buckets":[],"last_grants":[]}}"#
    );
    let follower = ScriptedServer::saying(response("200 OK", &state));
    let address = follower.address().to_string();
    let in_a_pod =
        |args: &[&str]| output_of(status(args).env("KUBERNETES_SERVICE_HOST", "10.96.0.1"));
    let (code, table, _) = in_a_pod(&[&address]);
    assert_eq!(code, 1, "{table}");
    let queried = "queried         bot-2, a follower;";
    assert!(table.starts_with(queried), "{table}");
    assert!(table.contains("granting        NO: "), "{table}");
    // The JSON is that of the pod itself.
    let (code, json, _) = in_a_pod(&[&address, "--output=json"]);
    assert_eq!(code, 1, "{json}");
    assert!(json.starts_with(r#"{"role":"follower""#), "{json}");
    // Outside of the cluster the leader is not asked.
    let (code, table, _) = asked(&[&address]);
    assert_eq!(code, 0, "{table}");
    assert!(table.contains("granting        by the leader"), "{table}");
}

/// Returns what `status` writes to a terminal.
fn on_a_terminal(address: &str, environment: &[(&str, &str)]) -> String {
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&control).unwrap();
    unlockpt(&control).unwrap();
    let name = ptsname(&control, Vec::new()).unwrap();
    let terminal = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    let mut command = status(&[address]);
    command
        .env("TERM", "xterm")
        .envs(environment.iter().copied());
    let mut child = command.stdout(terminal.unwrap()).spawn().unwrap();
    // It has the last copy of the terminal in this process.
    drop(command);
    let mut shown = Vec::new();
    // Reading ends with EIO when the child has closed its side.
    let _ = File::from(control).read_to_end(&mut shown);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    String::from_utf8(shown).unwrap()
}

#[test]
fn a_terminal_shows_colors_unless_they_are_refused() {
    let server = Server::start(&[]);
    let address = server.admin.to_string();
    let shown = on_a_terminal(&address, &[]);
    assert!(shown.contains("\x1b[32mgranting"), "{shown:?}");
    let plain = on_a_terminal(&address, &[("NO_COLOR", "1")]);
    assert!(plain.contains("granting"), "{plain:?}");
    assert!(!plain.contains('\x1b'), "{plain:?}");
}
