//! A queue task in this process.

use std::sync::Arc;
use std::time::Duration;

use gateway_queue::discord::api::Discord;
use gateway_queue::discord::token_source::Current;
use gateway_queue::metrics::Metrics;
use gateway_queue::queue::handle::Handle;
use gateway_queue::queue::task::QueueTask;
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::lease_state::last_known::PublishedState;
use gateway_queue_core::pacing::scheduler::Config;
use gateway_queue_core::testing::story;
use tokio::sync::watch;

/// A running queue task, and its channels.
pub(crate) struct Queue {
    pub(crate) handle: Handle,
    pub(crate) metrics: Arc<Metrics>,
    /// Decides whether it leads.
    pub(crate) leadership: Arc<watch::Sender<LeadershipState>>,
    /// What it would write to the Lease.
    pub(crate) published: watch::Receiver<PublishedState>,
}

impl Queue {
    /// Starts a queue task with one bucket and no token, that does not lead.
    pub(crate) fn start(pod: &str, spacing: Duration, start_guard: bool) -> Self {
        let nothing = "http://127.0.0.1:1";
        Self::start_with(pod, spacing, start_guard, Current::None, nothing)
    }

    /// The same, with this token and API of Discord.
    pub(crate) fn start_with(
        pod: &str,
        spacing: Duration,
        start_guard: bool,
        token: Current,
        discord_api: &str,
    ) -> Self {
        let config = Config {
            spacing,
            start_guard,
            ..story::config(Duration::from_secs(60))
        };
        let (leadership, state) = watch::channel(LeadershipState::UNKNOWN);
        let (_, tokens) = watch::channel(token);
        let (publisher, published) = watch::channel(PublishedState::new(pod));
        let discord = Discord::new(discord_api, None).unwrap();
        let metrics = Arc::new(Metrics::new(0));
        let counted = Arc::clone(&metrics);
        let (task, handle) =
            QueueTask::new(config, 100, state, tokens, discord, publisher, counted).unwrap();
        // It ends with the runtime of the test.
        tokio::spawn(task.run());
        Self {
            handle,
            metrics,
            leadership: Arc::new(leadership),
            published,
        }
    }
}
