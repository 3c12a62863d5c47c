//! A bot with four shards. Each waits for its grant before it identifies, and reports what became
//! of it.
//!
//!     DISCORD_TOKEN=… QUEUE_URL=http://127.0.0.1:8080 cargo run --example twilight

use std::error::Error;

use gateway_queue_client::{HttpQueue, Report};
use tokio::task::JoinSet;
use twilight_gateway::{ConfigBuilder, Event, EventTypeFlags, Intents, Shard, StreamExt as _};

const SHARDS: u32 = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let queue = HttpQueue::new(&variable("QUEUE_URL")?)?;
    let config = ConfigBuilder::new(variable("DISCORD_TOKEN")?, Intents::empty())
        .queue(queue.clone())
        .build();
    let mut shards = JoinSet::new();
    for id in twilight_gateway::bucket(0, 1, SHARDS) {
        shards.spawn(run(Shard::with_config(id, config.clone()), queue.clone()));
    }
    shards.join_all().await;
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}"))
}

/// Keeps a shard connected until Discord closes it for good.
async fn run(mut shard: Shard<HttpQueue>, queue: HttpQueue) {
    let id = shard.id().number();
    while let Some(event) = shard.next_event(EventTypeFlags::all()).await {
        let report = match event {
            Ok(Event::Ready(_)) => Report::Ready,
            Ok(Event::Resumed) => Report::Resumed,
            Ok(Event::GatewayInvalidateSession(_)) => Report::InvalidSession,
            Ok(Event::GatewayClose(_)) => Report::Closed,
            // The bot's own work.
            Ok(_) => continue,
            Err(error) => {
                eprintln!("shard {id}: {error}");
                continue;
            }
        };
        println!("shard {id}: {report:?}");
        queue.report(id, report);
    }
}
