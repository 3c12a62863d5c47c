//! What surrounds the clients of a test: Discord, and queues one after the other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::fake::{Fake, http};
use crate::namespace::Namespace;
use crate::process::{PATIENCE, Prints, Process, TOKEN};
use crate::program::program;
use crate::queue::Queue;
use crate::tls;

pub(crate) struct Scene {
    pub(crate) fake: Fake,
    variables: Vec<(&'static str, String)>,
    _authority: TempDir,
    // Last, after the programs in it.
    pub(crate) namespace: Arc<Namespace>,
}

impl Scene {
    /// Starts a Discord with two buckets, which reports this URL of its gateway. This thread is in a
    /// namespace of its own from now on.
    pub(crate) async fn start(name: &str, gateway_url: &str) -> Self {
        // The namespace has no network to build it in.
        program().await;
        let namespace = Namespace::enter(name);
        let fake = Fake::start(&[
            ("GATEWAY_URL", gateway_url),
            ("IDENTIFY_INTERVAL", "5s"),
            ("MAX_CONCURRENCY", "2"),
            ("SHARDS", "4"),
        ])
        .await;
        let (authority, mut variables) = tls::serve(fake.discord.clone()).await;
        variables.push(("DISCORD_TOKEN", TOKEN.to_owned()));
        Self {
            fake,
            variables,
            _authority: authority,
            namespace: Arc::new(namespace),
        }
    }

    /// Lets no session start be left for so long.
    pub(crate) async fn exhaust(&self, reset_after: Duration) {
        let reset_after_ms = u64::try_from(reset_after.as_millis()).unwrap();
        let limits = json!({"remaining": 0, "reset_after_ms": reset_after_ms});
        self.fake.set("limits", limits).await;
    }

    /// Starts the queue `my-bot`, with Discord's interval.
    pub(crate) async fn queue(&self, margin: &str) -> Queue {
        Queue::start(&[
            ("PORT", "80"),
            ("DISCORD_TOKEN", TOKEN),
            ("DISCORD_API", &self.fake.api()),
            ("IDENTIFY_MARGIN", margin),
        ])
        .await
    }

    /// Starts a client.
    pub(crate) fn client(&self, command: &[&str], variables: &[(&str, &str)]) -> Process {
        let mut client = self.namespace.command(command[0]);
        client
            .args(&command[1..])
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .envs(variables.iter().copied());
        Process::spawn(&command.join(" "), &mut client, Prints::ToStdout)
    }
}

/// How many grants a queue has made.
pub(crate) async fn grants(queue: &Queue) -> usize {
    let metrics = get(queue, "/metrics").await;
    let mut lines = metrics.lines();
    let grants = lines.find_map(|line| line.strip_prefix("gateway_queue_grants_total "));
    grants.unwrap().parse().unwrap()
}

/// Waits until so many clients wait.
pub(crate) async fn wait_for_waiters(queue: &Queue, count: u64) {
    let counted = async {
        loop {
            let state: Value = serde_json::from_str(&get(queue, "/state").await).unwrap();
            if state["waiting"] == count {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let counted = timeout(PATIENCE, counted).await;
    counted.unwrap_or_else(|_| panic!("not {count} clients wait"));
}

async fn get(queue: &Queue, path: &str) -> String {
    let url = format!("http://{}{path}", queue.admin);
    let response = http().get(url).send().await.unwrap();
    response.text().await.unwrap()
}
