//! Real shards that wait for the real queue.

use std::time::Duration;

use serde_json::json;

use crate::fake::Fake;
use crate::process::{Prints, Process, TOKEN};
use crate::queue::Queue;
use crate::unpaced::unpaced;

/// How soon a bot ends after SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(4);

/// The interval that the fake enforces.
const INTERVAL_MS: f64 = 1000.0;
/// The spacing that the queue keeps.
const SPACING_MS: f64 = 2000.0;

/// Starts a queue with an interval of a second, which reads the limits from `fake` every second.
async fn start_queue(fake: &Fake, port: &str) -> Queue {
    Queue::start(&[
        ("PORT", port),
        ("DISCORD_TOKEN", TOKEN),
        ("DISCORD_API", &fake.api()),
        ("IDENTIFY_INTERVAL", "1s"),
        // The processes of all tests start at the same time.
        ("IDENTIFY_MARGIN", "1s"),
        ("ALLOW_UNSAFE_INTERVAL", "true"),
        ("REFRESH_INTERVAL", "1s"),
    ])
    .await
}

fn url(queue: &Queue) -> String {
    format!("http://{}", queue.clients)
}

/// A pod of a bot of six shards, two in each pod.
fn bot(fake: &Fake, queue: &str, token: &str, pod: u32) -> Process {
    Process::start(
        env!("CARGO_BIN_EXE_bot"),
        Prints::ToStdout,
        &[
            ("QUEUE_URL", queue),
            ("GATEWAY_URL", &format!("ws://{}", fake.discord)),
            ("DISCORD_TOKEN", token),
            ("SHARDS_TOTAL", "6"),
            ("POD_NAME", &format!("bot-{pod}")),
            ("SHARDS_PER_POD", "2"),
        ],
    )
}

#[tokio::test]
async fn shards_that_wait_for_the_queue_are_all_ready_and_none_is_too_early() {
    let fake = Fake::start(&[("MAX_CONCURRENCY", "2")]).await;
    let queue = start_queue(&fake, "0").await;
    let bots: Vec<_> = (0..3)
        .map(|pod| bot(&fake, &url(&queue), TOKEN, pod))
        .collect();
    let record = fake.record_when(|record| record.totals.ready == 6).await;
    assert_eq!(record.totals.violations, 0, "{:#?}", record.violations);
    assert_eq!(record.totals.identifies, 6);
    for identify in &record.identifies {
        assert_eq!(identify.bucket, identify.shard % 2);
        if let Some(since) = identify.since_last_ms {
            // Twice the spacing would be a lost slot.
            assert!((INTERVAL_MS..2.0 * SPACING_MS).contains(&since), "{since}");
        }
    }
    for bot in bots {
        assert!(bot.terminate(ENDS_WITHIN).await.success());
    }
    // A shard that was stopped does not reconnect.
    let record = fake.record_when(|_| true).await;
    assert_eq!(record.totals.identifies, 6);
}

#[tokio::test]
async fn shards_that_do_not_wait_are_too_early_and_recorded() {
    let fake = Fake::start(&[]).await;
    let mut bot = bot(&fake, &unpaced().await, TOKEN, 0);
    bot.event("invalid_session").await;
    let record = fake
        .record_when(|record| record.totals.violations > 0)
        .await;
    let violation = &record.violations[0];
    assert!(violation.since_last_ms.unwrap() < INTERVAL_MS);
    assert_ne!(violation.previous_shard, Some(violation.shard));
    assert!(bot.terminate(ENDS_WITHIN).await.success());
}

#[tokio::test]
async fn the_gateway_closes_a_bot_without_session_starts_or_with_another_token() {
    let fake = Fake::start(&[]).await;
    let queue = unpaced().await;
    let mut other_bot = bot(&fake, &queue, "another", 0);
    assert_eq!(other_bot.event("closed").await["code"], 4004);
    let record = fake.record_when(|_| true).await;
    assert_eq!(record.totals.identifies, 0);

    fake.set("limits", json!({"remaining": 0})).await;
    let mut bot = bot(&fake, &queue, TOKEN, 0);
    assert_eq!(bot.event("closed").await["code"], 4004);
    let record = fake.record_when(|record| record.totals.violations > 0);
    let record = record.await;
    // Each of the bot's two shards may have been recorded by now.
    assert_eq!(record.totals.violations, record.totals.identifies);
    assert_eq!(record.totals.ready, 0);
}

#[tokio::test]
async fn the_queue_holds_while_no_session_start_is_left_and_then_grants() {
    let fake = Fake::start(&[]).await;
    let nothing = json!({"remaining": 0, "reset_after_ms": 3_600_000});
    fake.set("limits", nothing).await;
    let queue = start_queue(&fake, "0").await;
    let mut bot = bot(&fake, &url(&queue), TOKEN, 0);
    bot.event("asked").await;
    // By then the start guard is over, and the queue has read the limits several times.
    let record = fake.record_when(|record| record.totals.fetches >= 4).await;
    assert_eq!(record.totals.identifies, 0);
    fake.set("limits", json!({"remaining": 100})).await;
    bot.event("ready").await;
    let record = fake.record_when(|record| record.totals.ready == 1).await;
    assert_eq!(record.totals.violations, 0);
}

#[tokio::test]
async fn a_queue_that_starts_during_an_outage_of_discord_grants_after_it() {
    let fake = Fake::start(&[]).await;
    fake.set("outage", json!({"status": 503})).await;
    let queue = start_queue(&fake, "0").await;
    fake.record_when(|record| record.totals.fetches >= 2).await;
    fake.set("outage", json!({})).await;
    let mut bot = bot(&fake, &url(&queue), TOKEN, 0);
    bot.event("ready").await;
}

#[tokio::test]
async fn a_waiting_shard_survives_a_restart_of_the_queue() {
    let fake = Fake::start(&[]).await;
    let queue = start_queue(&fake, "0").await;
    let mut bot = bot(&fake, &url(&queue), TOKEN, 0);
    // The start guard has just begun, so the shard waits.
    bot.event("asked").await;
    let port = queue.clients.port().to_string();
    queue.end().await;
    let _queue = start_queue(&fake, &port).await;
    bot.event("ready").await;
    let record = fake.record_when(|record| record.totals.ready == 1).await;
    assert_eq!(record.totals.violations, 0);
}
