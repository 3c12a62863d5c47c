//! What a signal does to the program while a call to the API server is under way.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod api_server;

use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use api_server::ApiServer;

/// Nothing here takes this long.
const SOON: Duration = Duration::from_secs(10);

/// The program, at work with an API server. It is killed when this is dropped.
struct Operator {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    _kubeconfig: tempfile::NamedTempFile,
}

impl Operator {
    fn start(server: &ApiServer) -> Self {
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": server.url}}],
            "users": [{"name": "here", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        });
        std::fs::write(kubeconfig.path(), text.to_string()).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin_port = free.local_addr().unwrap().port();
        drop(free);
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway-queue-operator"))
            .env_clear()
            .env("KUBECONFIG", kubeconfig.path())
            .args(["--queue-image", "gateway-queue:1", "--admin-port"])
            .arg(admin_port.to_string())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            log,
            _kubeconfig: kubeconfig,
        }
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    }

    /// Reads the log up to a line with `words`.
    async fn says(&mut self, words: &str) {
        let mut before = String::new();
        let reading = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(words) {
                    return true;
                }
                before += &(line + "\n");
            }
            false
        };
        let said = timeout(SOON, reading).await;
        assert_eq!(said, Ok(true), "{words:?} is not said after\n{before}");
    }

    async fn ends(&mut self) -> ExitStatus {
        let ended = timeout(SOON, self.child.wait()).await;
        ended.expect("it goes on").unwrap()
    }
}

#[tokio::test]
async fn what_is_under_way_at_the_first_signal_is_brought_to_its_end() {
    let mut server = ApiServer::start().await;
    let mut operator = Operator::start(&server);
    let held = timeout(SOON, server.write()).await.unwrap();
    assert!(held.contains("my-bot"), "{held}");

    operator.terminate();
    operator.says("a second signal ends at once").await;
    server.answer_all();

    operator.says("stopped").await;
    assert!(operator.ends().await.success());
    let mut after = Vec::new();
    while let Some(write) = server.written() {
        after.push(write);
    }
    // The rest of the children, and what is said of them.
    let wrote = |part: &str| after.iter().any(|write| write.contains(part));
    assert!(wrote("/deployments/my-bot"), "{after:?}");
    assert!(wrote("/my-bot/status"), "{after:?}");
}

#[tokio::test]
async fn a_second_signal_waits_for_nothing() {
    let mut server = ApiServer::start().await;
    let mut operator = Operator::start(&server);
    timeout(SOON, server.write()).await.unwrap();

    operator.terminate();
    operator.says("a second signal ends at once").await;
    operator.terminate();

    // The call was never answered.
    assert_eq!(operator.ends().await.code(), Some(1));
}
