//! The real twilight shards of one pod, which wait for a gateway-queue before they identify.

mod address;
mod events;
pub mod settings;
mod shard;

use std::future::Future;
use std::io;
use std::time::Duration;

use anyhow::Context as _;
use gateway_queue_client::HttpQueue;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use twilight_gateway::{ConfigBuilder, Intents, Shard};

use self::events::LoggedQueue;
use self::settings::Settings;

/// How long Discord has to close its side when the bot stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the shards until `stop_signal` is ready, then closes their sessions.
///
/// # Errors
/// If the queue's URL is invalid, or `stop_signal` fails.
pub async fn run(
    settings: Settings,
    stop_signal: impl Future<Output = io::Result<()>>,
) -> anyhow::Result<()> {
    let queue = HttpQueue::new(&settings.queue_url).context("QUEUE_URL")?;
    let stop = CancellationToken::new();
    let mut shards = JoinSet::new();
    let start = async {
        let url = address::reachable_url(&settings.gateway).await;
        for id in settings.shards {
            let config = ConfigBuilder::new(settings.token.0.clone(), Intents::empty())
                .proxy_url(url.clone())
                .queue(LoggedQueue::new(queue.clone(), stop.clone()))
                .build();
            shards.spawn(shard::run(Shard::with_config(id, config), stop.clone()));
        }
        // A shard that Discord has closed for good stays closed; the others continue.
        std::future::pending().await
    };
    tokio::select! {
        never = start => never,
        stop = stop_signal => stop?,
    }
    stop.cancel();
    // A shard that is between connections has nothing to close; it is dropped.
    let _ = timeout(CLOSE_TIMEOUT, async {
        while shards.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}
