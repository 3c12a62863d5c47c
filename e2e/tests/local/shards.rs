//! Real shards that get their turns from the real queue.

use std::time::Duration;

use serde_json::json;

use crate::fake::Fake;
use crate::process::{Prints, Process, TOKEN};
use crate::queue::{Queue, hasty};

/// The most that a bot may need to end.
const AT_ONCE: Duration = Duration::from_secs(4);

/// The interval that the tests' fake enforces, and what the queue keeps.
const INTERVAL_MS: f64 = 1000.0;
const SPACING_MS: f64 = 2000.0;

/// A bot of `count` shards of 6, from `from` on.
fn bot(fake: &Fake, queue: &str, token: &str, from: u32, count: u32) -> Process {
    Process::start(
        env!("CARGO_BIN_EXE_bot"),
        Prints::ToStdout,
        &[
            ("QUEUE_URL", queue),
            ("GATEWAY_URL", &format!("ws://{}", fake.discord)),
            ("DISCORD_TOKEN", token),
            ("SHARDS_TOTAL", "6"),
            ("SHARD_FROM", &from.to_string()),
            ("SHARD_COUNT", &count.to_string()),
        ],
    )
}

#[tokio::test]
async fn shards_that_wait_their_turn_are_all_ready_and_none_is_too_early() {
    let fake = Fake::start(&[("MAX_CONCURRENCY", "2")]).await;
    let queue = Queue::start(&fake).await;
    let bots: Vec<_> = (0..3)
        .map(|pod| bot(&fake, &queue.url, TOKEN, pod * 2, 2))
        .collect();
    let record = fake.record_when(|record| record.totals.ready == 6).await;
    assert_eq!(record.totals.violations, 0, "{:#?}", record.violations);
    assert_eq!(record.totals.identifies, 6);
    for identify in &record.identifies {
        assert_eq!(identify.bucket, identify.shard % 2);
        if let Some(since) = identify.since_last_ms {
            // Twice the spacing would be a slot that nobody got.
            assert!((INTERVAL_MS..2.0 * SPACING_MS).contains(&since), "{since}");
        }
    }
    for bot in bots {
        assert!(bot.terminate(AT_ONCE).await.success());
    }
    // A shard that was told to end does not come back.
    let record = fake.record_when(|_| true).await;
    assert_eq!(record.totals.identifies, 6);
}

#[tokio::test]
async fn shards_that_do_not_wait_are_too_early_and_recorded() {
    let fake = Fake::start(&[]).await;
    let mut bot = bot(&fake, &hasty().await, TOKEN, 0, 2);
    bot.event("invalid_session").await;
    let record = fake
        .record_when(|record| record.totals.violations > 0)
        .await;
    let violation = &record.violations[0];
    assert!(violation.since_last_ms.unwrap() < INTERVAL_MS);
    assert_ne!(violation.previous_shard, Some(violation.shard));
    assert!(violation.previous_t.unwrap() <= violation.t);
    assert!(bot.terminate(AT_ONCE).await.success());
}

#[tokio::test]
async fn a_bot_without_session_starts_left_is_sent_away() {
    let fake = Fake::start(&[]).await;
    fake.set("limits", json!({"remaining": 0})).await;
    let mut bot = bot(&fake, &hasty().await, TOKEN, 0, 1);
    assert_eq!(bot.event("closed").await["code"], 4004);
    let record = fake
        .record_when(|record| record.totals.violations == 1)
        .await;
    assert_eq!(record.totals.ready, 0);
}

#[tokio::test]
async fn a_bot_with_another_token_is_sent_away() {
    let fake = Fake::start(&[]).await;
    let mut bot = bot(&fake, &hasty().await, "another", 0, 1);
    assert_eq!(bot.event("closed").await["code"], 4004);
    let record = fake.record_when(|_| true).await;
    assert_eq!(record.totals.identifies, 0);
}

#[tokio::test]
async fn the_queue_holds_while_no_session_start_is_left_and_then_goes_on() {
    let fake = Fake::start(&[]).await;
    fake.set(
        "limits",
        json!({"remaining": 0, "reset_after_ms": 3_600_000}),
    )
    .await;
    let queue = Queue::start(&fake).await;
    let mut bot = bot(&fake, &queue.url, TOKEN, 0, 1);
    bot.event("asked").await;
    // The start guard is over by then, and the limits were told several times.
    let record = fake.record_when(|record| record.totals.fetches >= 4).await;
    assert_eq!(record.totals.identifies, 0);
    fake.set("limits", json!({"remaining": 100})).await;
    bot.event("ready").await;
    let record = fake.record_when(|record| record.totals.ready == 1).await;
    assert_eq!(record.totals.violations, 0);
}

#[tokio::test]
async fn a_queue_that_starts_while_discord_is_away_grants_when_it_is_back() {
    let fake = Fake::start(&[]).await;
    fake.set("outage", json!({"mode": "status", "status": 503}))
        .await;
    let queue = Queue::start(&fake).await;
    fake.record_when(|record| record.totals.fetches >= 2).await;
    fake.set("outage", json!({"mode": "ok"})).await;
    let mut bot = bot(&fake, &queue.url, TOKEN, 0, 1);
    bot.event("ready").await;
}

#[tokio::test]
async fn a_shard_that_waits_outlives_its_queue() {
    let fake = Fake::start(&[]).await;
    let queue = Queue::start(&fake).await;
    let mut bot = bot(&fake, &queue.url, TOKEN, 0, 1);
    // The start guard has only begun: the shard waits for its turn.
    bot.event("asked").await;
    let queue = queue.replaced(&fake).await;
    bot.event("ready").await;
    let record = fake.record_when(|record| record.totals.ready == 1).await;
    assert_eq!(record.totals.violations, 0);
    drop(queue);
}
