//! What a signal does to the program while a call to the API server is under way.

mod api_server;

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::operator::Operator;

use api_server::ApiServer;

/// Nothing here takes this long.
const SOON: Duration = Duration::from_secs(10);

impl Operator {
    fn terminate(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    }

    /// Reads the log up to a line with `words`.
    async fn says(&mut self, words: &str) {
        let mut before = String::new();
        let reading = async {
            while let Some(line) = self.log.recv().await {
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
    let mut operator = Operator::start(&server.url);
    let held = timeout(SOON, server.write()).await.unwrap();
    assert!(held.contains("my-bot"), "{held}");

    operator.terminate();
    operator.says("stopping").await;
    server.answer_all();

    operator.says("stopped").await;
    assert!(operator.ends().await.success());
    let mut after = Vec::new();
    while let Some(write) = server.written() {
        after.push(write);
    }
    // The other children, and the status.
    let wrote = |part: &str| after.iter().any(|write| write.contains(part));
    assert!(wrote("/deployments/my-bot"), "{after:?}");
    assert!(wrote("/my-bot/status"), "{after:?}");
}

#[tokio::test]
async fn a_second_signal_waits_for_nothing() {
    let mut server = ApiServer::start().await;
    let mut operator = Operator::start(&server.url);
    timeout(SOON, server.write()).await.unwrap();

    operator.terminate();
    operator.says("stopping").await;
    operator.terminate();

    // The call was never answered.
    assert_eq!(operator.ends().await.code(), Some(1));
}
