//! One story for each client: it starts while the queue restarts, and loses a connection and
//! resumes. While no session start is left, it loses two sessions, and later it starts again.

use std::time::{Duration, Instant};

use gateway_queue_e2e::fake::record::{Record, Totals};
use serde_json::json;

use crate::examples::{
    CURL, DISCORD_JS, DISCORD_PY, DISCORDENO, DISCORDJS_WS, DISGO, Example, HIKARI, JDA, OCEANIC,
    SANDWICH, SHARDS,
};
use crate::process::{PATIENCE, Process};
use crate::scene::{Scene, grants, wait_for_waiters};
use crate::table::Row;

/// Longer than a bot takes to start.
const RESET: Duration = Duration::from_secs(15);

/// Longer than the minute after which discord.py gives up waiting for anything.
const LONG_RESET: Duration = Duration::from_secs(75);

#[tokio::test]
async fn discord_js_waits_for_the_queue() {
    story(&DISCORD_JS, RESET).await;
}

#[tokio::test]
async fn discordjs_ws_waits_for_the_queue() {
    story(&DISCORDJS_WS, RESET).await;
}

#[tokio::test]
async fn discordeno_waits_for_the_queue() {
    story(&DISCORDENO, RESET).await;
}

#[tokio::test]
async fn oceanic_waits_for_the_queue() {
    story(&OCEANIC, RESET).await;
}

#[tokio::test]
async fn discord_py_waits_for_the_queue() {
    story(&DISCORD_PY, LONG_RESET).await;
}

#[tokio::test]
async fn hikari_waits_for_the_queue() {
    story(&HIKARI, RESET).await;
}

#[tokio::test]
async fn disgo_waits_for_the_queue() {
    story(&DISGO, RESET).await;
}

#[tokio::test]
async fn jda_waits_for_the_queue() {
    story(&JDA, RESET).await;
}

#[tokio::test]
async fn the_shell_script_waits_for_the_queue() {
    story(&CURL, RESET).await;
}

#[tokio::test]
async fn sandwich_waits_for_the_queue() {
    story(&SANDWICH, RESET).await;
}

async fn story(example: &Example, reset: Duration) {
    let name = example.library.replace(['/', '@'], "");
    let scene = example.scene(&name).await;
    let fake = &scene.fake;
    let mut row = Row::of(example);
    let queue = scene.queue(example.margin).await;
    let started = Instant::now();
    let mut bot = example.start(&scene).await;
    let half = |totals: &Totals| totals.ready >= SHARDS / 2;
    record_when(&scene, &mut bot, &mut row, PATIENCE, half).await;
    let mut granted = grants(&queue).await;
    queue.end().await;
    let queue = scene.queue(example.margin).await;
    let all = |totals: &Totals| totals.ready == SHARDS;
    let record = record_when(&scene, &mut bot, &mut row, PATIENCE, all).await;
    row.start = Some(started.elapsed());
    let identifies = record.totals.identifies;

    fake.set("cut", json!({"shard": 3})).await;
    let resumed = |totals: &Totals| totals.resumes == 1;
    let record = record_when(&scene, &mut bot, &mut row, PATIENCE, resumed).await;
    assert_eq!(record.resumes[0].shard, 3);
    assert_eq!(record.totals.identifies, identifies);
    granted += grants(&queue).await;
    queue.end().await;

    scene.exhaust(reset).await;
    // It knows the limits from its start on.
    let queue = scene.queue(example.margin).await;
    // Two of one bucket.
    for shard in [1, 3] {
        let lost = json!({"shard": shard, "forget": true});
        fake.set("cut", lost).await;
    }
    let within = reset + PATIENCE;
    let again = |totals: &Totals| totals.ready == SHARDS + 2;
    record_when(&scene, &mut bot, &mut row, within, again).await;
    bot.during(wait_for_waiters(&queue, 0)).await;
    bot.terminate(PATIENCE).await;
    granted += grants(&queue).await;
    queue.end().await;

    scene.exhaust(reset).await;
    let queue = scene.queue(example.margin).await;
    let mut bot = example.start(&scene).await;
    let all_again = |totals: &Totals| totals.ready == 2 * SHARDS + 2;
    let record = record_when(&scene, &mut bot, &mut row, within, all_again).await;
    granted += grants(&queue).await;
    row.granted = Some(granted);
    assert_eq!(granted, record.totals.identifies);
}

/// Follows the record of Discord until `enough`. The bot must not break a rule meanwhile, or end.
async fn record_when(
    scene: &Scene,
    bot: &mut Process,
    row: &mut Row<'_>,
    within: Duration,
    enough: impl Fn(&Totals) -> bool,
) -> Record {
    let or_violation = |record: &Record| record.totals.violations > 0 || enough(&record.totals);
    let record = bot
        .during(scene.fake.record_within(within, or_violation))
        .await;
    row.record = Some(record.clone());
    assert_eq!(record.totals.violations, 0, "{:#?}", record.violations);
    record
}

/// A shard that reconnects ignores that the bot stops.
#[tokio::test]
async fn disgo_ends_at_once_while_a_shard_that_reconnects_waits() {
    let scene = DISGO.scene("disgo-ends").await;
    let queue = scene.queue(DISGO.margin).await;
    let mut bot = DISGO.start(&scene).await;
    let ready = |record: &Record| record.totals.ready == SHARDS;
    bot.during(scene.fake.record_when(ready)).await;
    queue.end().await;
    scene.exhaust(Duration::from_secs(3600)).await;
    let queue = scene.queue(DISGO.margin).await;
    let lost = json!({"shard": 3, "forget": true});
    scene.fake.set("cut", lost).await;
    bot.during(wait_for_waiters(&queue, 1)).await;
    assert!(bot.terminate(Duration::from_secs(1)).await.success());
}
