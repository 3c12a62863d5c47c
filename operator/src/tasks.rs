//! The tasks of the operator that run side by side. One that exits is reported with its
//! name and the cause.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tokio::task::JoinSet;

/// Tasks that run until this is dropped.
#[derive(Default)]
pub(crate) struct Tasks(JoinSet<String>);

impl Tasks {
    /// Runs one more.
    pub(crate) fn run(
        &mut self,
        name: impl Into<String>,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        // What a panic has left half done is not looked at any more.
        let part = AssertUnwindSafe(part).catch_unwind();
        self.0.spawn(async move {
            match part.await {
                Ok(()) => exited(&name, "it returned"),
                Err(panic) => exited(&name, &format!("it panicked: {}", message(&*panic))),
            }
        });
    }

    /// Runs one that is many tasks, and ends with the first of them.
    pub(crate) fn run_all(&mut self, name: impl Into<String>, mut tasks: JoinSet<()>) {
        self.run(name, async move {
            let Some(Err(error)) = tasks.join_next().await else {
                return;
            };
            if let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    /// What to say of the next that ends. None when all have.
    pub(crate) async fn next_end(&mut self) -> Option<String> {
        let ended = self.0.join_next().await?;
        Some(ended.unwrap_or_else(|error| error.to_string()))
    }

    /// Ends all, wherever they are.
    pub(crate) async fn end(&mut self) {
        self.0.shutdown().await;
    }
}

fn exited(name: &str, cause: &str) -> String {
    format!("task {name} exited unexpectedly: {cause}")
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let formatted = panic.downcast_ref::<String>().map(String::as_str);
    let literal = || panic.downcast_ref::<&str>().copied();
    formatted.or_else(literal).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_or_panics_is_named() {
        let mut parts = Tasks::default();
        assert_eq!(parts.next_end().await, None);
        parts.run("watch of Services", std::future::pending());
        parts.run("admin port", std::future::ready(()));
        let ended = Some("task admin port exited unexpectedly: it returned".to_owned());
        assert_eq!(parts.next_end().await, ended);
        parts.run("election", async { panic!("on purpose") });
        let ended = "task election exited unexpectedly: it panicked: on purpose";
        assert_eq!(parts.next_end().await.as_deref(), Some(ended));
        parts.end().await;
    }

    #[tokio::test]
    async fn the_first_of_many_tasks_ends_their_part() {
        for panics in [false, true] {
            let mut tasks = JoinSet::new();
            tasks.spawn(std::future::pending());
            tasks.spawn(async move { assert!(!panics, "on purpose") });
            let mut parts = Tasks::default();
            parts.run_all("watch", tasks);
            let cause = if panics {
                "it panicked: on purpose"
            } else {
                "it returned"
            };
            let exited = format!("task watch exited unexpectedly: {cause}");
            assert_eq!(parts.next_end().await, Some(exited));
        }
    }
}
