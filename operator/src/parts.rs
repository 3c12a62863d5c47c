//! The parts of the operator that run side by side. One that ends, or panics, is
//! never missed: it says so by its name.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tokio::task::JoinSet;

/// Parts that run until this is dropped.
#[derive(Default)]
pub(crate) struct Parts(JoinSet<String>);

impl Parts {
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
                Ok(()) => format!("{name} ended by itself"),
                Err(_) => format!("{name} panicked"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_or_panics_is_named() {
        let mut parts = Parts::default();
        assert_eq!(parts.next_end().await, None);
        parts.run("the watch of Services", std::future::pending());
        parts.run("the admin port", std::future::ready(()));
        let ended = Some("the admin port ended by itself".to_owned());
        assert_eq!(parts.next_end().await, ended);
        parts.run("the election", async { panic!("on purpose") });
        let ended = Some("the election panicked".to_owned());
        assert_eq!(parts.next_end().await, ended);
        parts.end().await;
    }

    #[tokio::test]
    async fn the_first_of_many_tasks_ends_their_part() {
        for panics in [false, true] {
            let mut tasks = JoinSet::new();
            tasks.spawn(std::future::pending());
            tasks.spawn(async move { assert!(!panics, "on purpose") });
            let mut parts = Parts::default();
            parts.run_all("a watch", tasks);
            let how = if panics {
                "panicked"
            } else {
                "ended by itself"
            };
            assert_eq!(parts.next_end().await, Some(format!("a watch {how}")));
        }
    }
}
