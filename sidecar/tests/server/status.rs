//! `gateway-queue status`, asked of a running queue: once, and again and again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::common::fake::{Port, limits, response};
use crate::common::{BINARY, Discord, LONG, Server, granted};

fn status(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("status").args(args).env_clear();
    command
}

/// The exit code, and what was printed to where.
fn asked(args: &[&str]) -> (i32, String, String) {
    let output = status(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_queue_that_grants_is_a_success_and_shows_who_waits() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    granted(&mut server.ask(0));
    let _first = server.ask(4);
    server.wait_for_state(r#""waiting":[4]"#);
    let _second = server.ask(7);
    server.wait_for_state(r#""waiting":[4,7]"#);
    let (code, table, errors) = asked(&[&server.admin.to_string()]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(table.contains("granting        yes\n"), "{table}");
    assert!(
        table.contains("token           none is configured"),
        "{table}"
    );
    let row = table.lines().last().unwrap();
    assert!(
        row.starts_with("     0 59 min ") && row.ends_with("     2  4 7"),
        "{table}"
    );
    assert!(!table.contains('\x1b'), "{table}");
}

#[test]
fn a_queue_that_holds_is_a_failure_that_says_why() {
    let discord = Discord::start();
    discord.say_limits(1, 0, 3_600_000);
    let server = Server::start(&[("DISCORD_API", &discord.url), ("DISCORD_TOKEN", "t0ken")]);
    server.wait_for_state(r#""hold":"session_starts_exhausted""#);
    let url = format!("http://{}/state", server.admin);
    let (code, table, _) = asked(&[&url]);
    assert_eq!(code, 1, "{table}");
    assert!(table.contains("granting        NO: "), "{table}");
    assert!(
        table.contains("session starts  0 of 1000 left, reset in "),
        "{table}"
    );
    assert!(!table.contains("t0ken"), "{table}");
}

#[test]
fn json_is_the_state_as_it_is() {
    let server = Server::start(&[]);
    let (code, json, _) = asked(&[&server.admin.to_string(), "--output", "json"]);
    let printed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let state: serde_json::Value = serde_json::from_str(&server.page("/state").1).unwrap();
    assert_eq!(code, 0);
    assert_eq!(printed["role"], state["role"]);
    let keys = |value: &serde_json::Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&printed), keys(&state));
}

#[test]
fn what_a_hostile_server_says_cannot_drive_the_terminal() {
    let evil = "\\u001b]0;x\\u0007\\u001b[31m\\u009b2J\\r\\n\\u202egood\u{9b}1m\u{7f}";
    let body = format!(
        r#"{{"role":"{evil}","pod":"{evil}","version":"{evil}","token":"{evil}","hold":"{evil}",
            "trouble":"{evil}","why":"{evil}","leader_pod":"{evil}","leader":"{evil}",
            "session_starts":{{"total":1,"remaining":1,"reset_time":"{evil}"}}}}"#
    );
    let port = Port::take();
    let _server = port.listen(move |_, mut stream| {
        let _ = stream.write_all(response("200 OK", &body).as_bytes());
    });
    let address = port.address.to_string();
    for args in [&[address.as_str()][..], &[&address, "--output", "json"]] {
        let (_, shown, errors) = asked(args);
        let wild = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(
            !shown.contains(wild) && !errors.contains(wild),
            "{shown:?} {errors:?}"
        );
        assert!(shown.contains("good"), "{shown:?}");
        if args.len() > 1 {
            let one: serde_json::Value = serde_json::from_str(&shown).unwrap();
            assert!(
                one["pod"].as_str().unwrap().starts_with("\u{1b}]0;x"),
                "{shown:?}"
            );
        }
    }
}

#[test]
fn what_cannot_be_asked_and_what_cannot_be_read_differ() {
    let nobody = Port::take();
    let (code, table, error) = asked(&[&nobody.address.to_string()]);
    assert_eq!((code, table.as_str()), (3, ""));
    assert!(error.contains("Connection refused"), "{error}");
    let other = Port::take();
    let _other = other.listen(|_, mut stream| {
        let _ = stream.write_all(response("200 OK", &limits(1, 1, 1)).as_bytes());
    });
    let (code, _, error) = asked(&[&other.address.to_string()]);
    assert_eq!(code, 3);
    assert!(error.contains("no queue's admin port"), "{error}");
    for args in [
        &["--watsh"][..],
        &["a:1", "b:1"],
        &["ftp://x"],
        &["--output", "xml"],
    ] {
        let (code, table, error) = asked(args);
        assert_eq!(
            (code, table.as_str(), error.lines().count()),
            (2, "", 1),
            "{error}"
        );
    }
}

#[test]
fn in_the_cluster_a_pod_that_follows_shows_what_its_leader_says() {
    let discord = Discord::start();
    discord.say_limits(1, 0, 3_600_000);
    let leader = Server::start(&[("DISCORD_API", &discord.url), ("DISCORD_TOKEN", "t0ken")]);
    leader.wait_for_state(r#""hold":"session_starts_exhausted""#);
    let follower = Port::take();
    let admin_port = leader.admin.port();
    let _follower = follower.listen(move |_, mut stream| {
        let state = format!(
            r#"{{"role":"follows","leader":"127.0.0.1:9091","pod":"bot-2","admin_port":{admin_port}}}"#
        );
        let _ = stream.write_all(response("200 OK", &state).as_bytes());
    });
    let address = follower.address.to_string();
    let in_a_pod = |args: &[&str]| {
        let mut command = status(args);
        let output = command
            .env("KUBERNETES_SERVICE_HOST", "10.96.0.1")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, table) = in_a_pod(&[&address]);
    assert_eq!(code, Some(1), "{table}");
    assert!(
        table.starts_with("asked           bot-2, which follows;"),
        "{table}"
    );
    assert!(table.contains("granting        NO: "), "{table}");
    // The document is that of who was asked.
    let (code, json) = in_a_pod(&[&address, "--output=json"]);
    assert!(
        code == Some(1) && json.starts_with(r#"{"role":"follows""#),
        "{json}"
    );
    // Elsewhere nobody else is asked.
    let (code, table, _) = asked(&[&address]);
    assert_eq!(code, 0, "{table}");
    assert!(table.contains("granting        the leader does"), "{table}");
}

/// A `status --watch` under way, killed when dropped.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(args: &[&str]) -> Self {
        let mut command = status(args);
        command.arg("--watch").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        Self::follow(child, output)
    }

    /// Its standard output is a terminal.
    fn on_a_terminal(address: &str, environment: &[(&str, &str)]) -> Self {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&control, size).unwrap();
        let name = ptsname(&control, Vec::new()).unwrap();
        let terminal = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        let child = status(&[address, "--watch"])
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .stdout(Stdio::from(terminal.unwrap()))
            .spawn();
        Self::follow(child.unwrap(), File::from(control))
    }

    fn follow(child: Child, output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                println!("status: {line:?}");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that holds this.
    fn wait_for(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let left = LONG.saturating_sub(start.elapsed());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("it never said {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LONG, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_adds_each_change_where_there_is_no_terminal_and_ends_on_a_signal() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    let mut watch = Watch::start(&[&server.admin.to_string()]);
    watch.wait_for("waiting         0 in the buckets");
    granted(&mut server.ask(0));
    let _waiting = server.ask(42);
    let row = watch.wait_for("  42");
    assert!(!row.contains('\x1b'), "{row}");
    watch.signal("-INT");
    assert_eq!(watch.ended().code(), Some(0));
}

#[test]
fn a_watch_shows_that_the_queue_is_lost_and_goes_on_when_it_is_back() {
    let port = Port::take();
    let answer = |_: &str, mut stream: std::net::TcpStream| {
        let state = r#"{"role":"leads","hold":null,"buckets":[]}"#;
        let _ = stream.write_all(response("200 OK", state).as_bytes());
    };
    let queue = port.listen(answer);
    let mut watch = Watch::start(&[&port.address.to_string()]);
    watch.wait_for("granting        yes");
    drop(queue);
    watch.wait_for("; trying again");
    let _queue = port.listen(answer);
    watch.wait_for("granting        yes");
    watch.signal("-TERM");
    assert_eq!(watch.ended().code(), Some(0));
}

#[test]
fn a_watch_of_json_is_one_document_a_line() {
    let server = Server::start(&[]);
    let address = server.admin.to_string();
    let watch = Watch::start(&[&address, "--output", "json"]);
    for _ in 0..2 {
        let line = watch.wait_for("role");
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(document["role"], "leads");
    }
}

#[test]
fn a_watch_ends_with_its_reader_also_when_it_has_nothing_new_to_say() {
    let server = Server::start(&[]);
    let address = server.admin.to_string();
    for output in ["json", "text"] {
        let mut command = status(&[&address, "--watch", "--output", output]);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut watch = Watch::follow(child, std::io::empty());
        let mut first = [0];
        let mut reader = watch.child.stdout.take().unwrap();
        reader.read_exact(&mut first).unwrap();
        drop(reader);
        assert_eq!(watch.ended().code(), Some(0), "{output}");
    }
}

#[test]
fn a_terminal_is_drawn_anew_and_painted_unless_that_is_refused() {
    let server = Server::start(&[("IDENTIFY_INTERVAL", "1h")]);
    let address = server.admin.to_string();
    let mut watch = Watch::on_a_terminal(&address, &[]);
    let granting = watch.wait_for("granting");
    assert!(granting.starts_with("\x1b[32mgranting"), "{granting:?}");
    // The next frame begins at the top, where the first one did.
    let top = watch.wait_for("leader");
    assert!(top.contains("\x1b[J\x1b[H"), "{top:?}");
    granted(&mut server.ask(0));
    let _waiting = server.ask(42);
    watch.wait_for("  42\x1b[K");
    watch.signal("-INT");
    assert_eq!(watch.ended().code(), Some(0));
    let plain = Watch::on_a_terminal(&address, &[("NO_COLOR", "1")]);
    assert!(plain.wait_for("granting").starts_with("granting"));
}
