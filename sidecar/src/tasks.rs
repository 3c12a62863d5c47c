//! The tasks that run as long as the process. One that exits is reported with its
//! name and the cause.

use std::any::Any;
use std::collections::HashMap;
use std::error::Error;

use gateway_queue_telemetry::chain;
use tokio::task::{Id, JoinError, JoinSet};

type BoxError = Box<dyn Error + Send + Sync>;

/// A task has exited unexpectedly.
#[derive(Debug, thiserror::Error)]
#[error("task {name} exited unexpectedly: {cause}")]
pub struct Exited {
    name: &'static str,
    cause: String,
}

/// Tasks that are aborted when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    set: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Spawns a task that cannot fail: see [`Tasks::spawn`].
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async {
            task.await;
            Ok(())
        });
    }

    /// Spawns a task. Must be called within a tokio runtime.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), BoxError>> + Send + 'static,
    ) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until a task exits, and returns which and why; forever if there is none.
    pub(crate) async fn exited(&mut self) -> Exited {
        let Some(ended) = self.set.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, cause) = match ended {
            Ok((id, Ok(()))) => (id, "it returned".to_owned()),
            Ok((id, Err(error))) => (id, chain(&*error)),
            Err(error) => (error.id(), failure(error)),
        };
        let name = self.names.remove(&id).unwrap_or("unknown");
        Exited { name, cause }
    }

    /// Aborts all tasks, and waits until they have ended.
    pub(crate) async fn shutdown(&mut self) {
        self.set.shutdown().await;
    }
}

fn failure(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("it panicked: {}", message(&*panic)),
        Err(error) => error.to_string(),
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let formatted = panic.downcast_ref::<String>().map(String::as_str);
    let literal = || panic.downcast_ref::<&str>().copied();
    formatted.or_else(literal).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[tokio::test]
    async fn a_task_that_exits_is_named_with_the_cause() {
        let mut tasks = Tasks::default();
        tasks.spawn("idle", std::future::pending());
        let number = 7;
        for (name, cause) in [
            ("returns", "it returned"),
            ("fails", "cannot read the timer: no such device"),
            ("panics", "it panicked: on purpose"),
            ("panics with a number", "it panicked: number 7"),
        ] {
            tasks.spawn(name, async move {
                match name {
                    "fails" => {
                        let source = io::Error::other("no such device");
                        Err(TimerFailed { source }.into())
                    }
                    "panics" => panic!("on purpose"),
                    "panics with a number" => panic!("number {number}"),
                    _ => Ok(()),
                }
            });
            let exited = tasks.exited().await.to_string();
            assert_eq!(exited, format!("task {name} exited unexpectedly: {cause}"));
        }
        tasks.shutdown().await;
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the timer")]
    struct TimerFailed {
        source: io::Error,
    }
}
