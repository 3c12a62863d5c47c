//! A pod's worth of real twilight shards that get their turns from a
//! gateway-queue.

mod address;
mod notes;
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

use self::notes::NotedQueue;
use self::settings::Settings;

/// How long Discord has to close its side when the bot stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the shards until `told_to_stop` is ready, then closes their sessions.
///
/// # Errors
///
/// When the queue's address cannot be used, or `told_to_stop` fails.
pub async fn run(
    settings: Settings,
    told_to_stop: impl Future<Output = io::Result<()>>,
) -> anyhow::Result<()> {
    let queue = HttpQueue::new(&settings.queue_url).context("QUEUE_URL")?;
    let stop = CancellationToken::new();
    let mut shards = JoinSet::new();
    let start = async {
        let url = address::dialled(&settings.gateway).await;
        for id in settings.shards {
            let config = ConfigBuilder::new(settings.token.reveal().to_owned(), Intents::empty())
                .proxy_url(url.clone())
                .queue(NotedQueue::new(queue.clone(), stop.clone()))
                .build();
            shards.spawn(shard::run(Shard::with_config(id, config), stop.clone()));
        }
        // A shard that Discord will have no more stays away; the others go on.
        std::future::pending().await
    };
    tokio::select! {
        never = start => never,
        told = told_to_stop => told?,
    }
    stop.cancel();
    // A shard that is between connections has nothing to close; it is dropped.
    let _ = timeout(FAREWELL, async {
        while shards.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}
