//! What the page shows of a running queue.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::browser::Browser;
use crate::process::{PATIENCE, TOKEN};
use crate::queue::{Discord, Queue, granted};

#[tokio::test]
async fn a_shard_that_waits_counts_down_and_is_then_granted() {
    let discord = Discord::start(&[("MAX_CONCURRENCY", "4")]).await;
    let queue = Queue::start(&[
        ("DISCORD_API", &discord.api),
        ("DISCORD_TOKEN", TOKEN),
        ("IDENTIFY_INTERVAL", "20s"),
    ])
    .await;
    let browser = Browser::open(&queue.page).await;
    browser.sees("#link", "live").await;
    browser.sees("#headline", "Ready").await;
    browser
        .sees("#last", "none since this process started")
        .await;
    browser.sees("[data-bucket='0'] .next", "free").await;
    granted(queue.ask(4).await).await;
    browser.sees("#token", "Accepted").await;
    browser.sees("#leader", "This process").await;
    browser.sees("#starts", "999").await;
    browser.sees("#last", "shard 4 of bucket 0").await;

    let waiter = queue.ask(8).await;
    browser.sees("[data-bucket='0'] .line", "8").await;
    let second = queue.ask(12).await;
    browser.sees("[data-bucket='0'] .line", "8 12").await;
    browser.sees("[data-bucket='0'] h3", "2 wait").await;
    browser
        .sees("[data-bucket='1'] .line", "nobody waits")
        .await;
    browser.sees("#headline", "Turns are granted").await;
    let first = countdown(&browser).await;
    let started = Instant::now();
    while countdown(&browser).await >= first {
        assert!(started.elapsed() < PATIENCE, "it stands at {first} s");
        sleep(Duration::from_millis(50)).await;
    }
    drop(second);
    granted(waiter).await;
    browser
        .sees("[data-bucket='0'] .line", "nobody waits")
        .await;
    browser.sees("[data-bucket='0'] .next", "free in").await;
    browser.sees("#last", "shard 8 of bucket 0").await;
    browser.sees("#track b", "8").await;
    browser.sees("#starts", "998").await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

/// The seconds until the next grant of bucket 0.
async fn countdown(browser: &Browser) -> u32 {
    let text = browser.text("[data-bucket='0'] .next").await;
    let number = text
        .strip_prefix("next in ")
        .and_then(|t| t.strip_suffix(" s"));
    number
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("no countdown: {text}"))
}

#[tokio::test]
async fn used_up_session_starts_are_said_with_when_there_are_new_ones() {
    let discord = Discord::start(&[]).await;
    let nothing = json!({"remaining": 0, "reset_after_ms": 37_800_000});
    discord.set("limits", nothing).await;
    let queue = Queue::start(&[
        ("DISCORD_API", &discord.api),
        ("DISCORD_TOKEN", TOKEN),
        // What was granted is deducted for two of them.
        ("IDENTIFY_INTERVAL", "5s"),
        ("REFRESH_INTERVAL", "1s"),
    ])
    .await;
    let waiter = queue.ask(0).await;
    let browser = Browser::open(&queue.page).await;
    browser.sees("#headline", "Nothing is granted").await;
    browser
        .sees(
            "#message",
            "All session starts are used up. Discord gives new ones at 20",
        )
        .await;
    browser.sees("#starts", "0").await;
    browser.sees("#starts-total", "of 1,000").await;
    browser.sees("#starts-note", "new ones in 10 h ").await;
    browser.sees("[data-bucket='0'] .next", "held").await;
    browser.picture("exhausted").await;
    discord.set("limits", json!({"remaining": 100})).await;
    granted(waiter).await;
    browser.sees("#headline", "Ready").await;
    browser.sees("#starts", "99").await;

    // Discord falls silent: what it said last stays in force.
    discord.set("outage", json!({"status": 503})).await;
    browser
        .sees("#token-note", "last: Discord answered 503")
        .await;
    browser.sees("#headline", "Ready").await;
}

#[tokio::test]
async fn without_a_token_the_page_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let queue = Queue::start(&[("DISCORD_TOKEN_FILE", file.to_str().unwrap())]).await;
    let browser = Browser::open(&queue.page).await;
    browser.sees("#headline", "Nothing is granted").await;
    browser
        .sees("#message", "There is no token. Cannot read /")
        .await;
    browser.sees("#message", "DISCORD_TOKEN_FILE").await;
    browser.sees("#token", "Missing").await;
}

#[tokio::test]
async fn a_queue_that_goes_away_is_said_to_be_gone_until_it_is_back() {
    let queue = Queue::start(&[]).await;
    let browser = Browser::open(&queue.page).await;
    browser.sees("#link", "live").await;
    let port = queue.admin.port().to_string();
    queue.end().await;
    browser.sees("#link", "not connected").await;
    browser.sees("#headline", "Not connected").await;
    let queue = Queue::start(&[
        ("ADMIN_PORT", &port),
        ("MAX_CONCURRENCY", "3"),
        ("IDENTIFY_INTERVAL", "1m"),
    ])
    .await;
    browser.sees("#link", "live").await;
    browser.sees("#spacing", "3 buckets").await;
    granted(queue.ask(1).await).await;
    let _waiter = queue.ask(4).await;
    browser.sees("[data-bucket='1'] .line", "4").await;
}
