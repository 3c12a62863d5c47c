//! What a signal does while a request to the API server is in progress.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::api_server::ApiServer;
use crate::operator::Operator;

/// The longest time that a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(10);

impl Operator {
    fn terminate(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    }

    /// Reads the log up to a line that contains `text`.
    async fn until_logged(&mut self, text: &str) {
        let mut before = String::new();
        let reading = async {
            while let Some(line) = self.log.recv().await {
                if line.contains(text) {
                    return true;
                }
                before += &(line + "\n");
            }
            false
        };
        let logged = timeout(PATIENCE, reading).await;
        assert_eq!(logged, Ok(true), "{text:?} was not logged after\n{before}");
    }

    async fn until_exit(&mut self) -> ExitStatus {
        let exited = timeout(PATIENCE, self.child.wait()).await;
        exited.expect("it has not exited").unwrap()
    }
}

/// An operator that has received SIGTERM while its first write waits for the response.
async fn terminated() -> (ApiServer, Operator) {
    let mut server = ApiServer::start().await;
    server.delay_writes(true);
    let mut operator = Operator::start(&server.url);
    let first = timeout(PATIENCE, server.writes.recv()).await.unwrap();
    assert!(first.unwrap().contains("my-bot"));
    operator.terminate();
    operator.until_logged("stopping").await;
    (server, operator)
}

#[tokio::test]
async fn a_running_reconcile_is_completed_after_the_first_signal() {
    let (mut server, mut operator) = terminated().await;
    server.delay_writes(false);

    operator.until_logged("stopped").await;
    assert!(operator.until_exit().await.success());
    let writes: Vec<_> = std::iter::from_fn(|| server.writes.try_recv().ok()).collect();
    // The other children, and the status.
    for part in ["/deployments/my-bot-queue", "/my-bot/status"] {
        let is_written = writes.iter().any(|path| path.contains(part));
        assert!(is_written, "{part} is not in {writes:?}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_program_while_a_request_hangs() {
    let (_server, mut operator) = terminated().await;
    operator.terminate();
    assert_eq!(operator.until_exit().await.code(), Some(1));
}
