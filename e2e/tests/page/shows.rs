//! What the page shows about a running queue.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::browser::Browser;
use crate::fake::Fake;
use crate::process::PATIENCE;
use crate::queues::{granted, report, request, start, start_with_token};

#[tokio::test]
async fn a_waiting_shard_has_a_countdown_until_its_grant() {
    let fake = Fake::start(&[("MAX_CONCURRENCY", "4")]).await;
    let queue = start_with_token(&fake, &[("IDENTIFY_INTERVAL", "20s")]).await;
    let browser = Browser::open(queue.admin).await;
    browser.shows("#link", "live").await;
    browser.shows("#headline", "Ready").await;
    browser.shows("#last", "none in this term").await;
    browser.lane(0, ".next", "free").await;
    granted(request(queue.clients, 4).await).await;
    browser.shows("#token", "Accepted").await;
    browser.shows("#leader", "This process").await;
    browser.shows("#starts", "999").await;
    browser.shows("#last", "shard 4 of bucket 0").await;

    let waiter = request(queue.clients, 8).await;
    browser.lane(0, ".line", "8").await;
    let second = request(queue.clients, 12).await;
    browser.lane(0, ".line", "8 12").await;
    browser.lane(0, "h3", "2 waiting").await;
    browser.lane(1, ".line", "none waiting").await;
    browser.shows("#headline", "Granting").await;
    let first = countdown(&browser).await;
    let started = Instant::now();
    while countdown(&browser).await >= first {
        assert!(
            started.elapsed() < PATIENCE,
            "the countdown stays at {first} s"
        );
        sleep(Duration::from_millis(50)).await;
    }
    drop(second);
    granted(waiter).await;
    browser.lane(0, ".line", "none waiting").await;
    browser.lane(0, ".next", "free in").await;
    browser.shows("#last", "shard 8 of bucket 0").await;
    browser.shows("#track b", "8").await;
    browser.shows("#starts", "998").await;
    assert_eq!(browser.console_errors().await, [""; 0]);
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
async fn used_up_session_starts_are_shown_with_the_time_of_the_reset() {
    let fake = Fake::start(&[]).await;
    let nothing = json!({"remaining": 0, "reset_after_ms": 37_800_000});
    fake.set("limits", nothing).await;
    let queue = start_with_token(
        &fake,
        &[
            // Grants are deducted for two intervals.
            ("IDENTIFY_INTERVAL", "5s"),
            ("REFRESH_INTERVAL", "1s"),
        ],
    )
    .await;
    let waiter = request(queue.clients, 0).await;
    let browser = Browser::open(queue.admin).await;
    browser.shows("#headline", "Nothing is granted").await;
    browser
        .shows("#message", "No session starts left. The limit resets at 20")
        .await;
    browser.shows("#starts", "0").await;
    browser.shows("#starts-total", "of 1,000").await;
    browser.shows("#starts-note", "reset in 10 h ").await;
    browser.lane(0, ".next", "blocked").await;
    browser.screenshot_as("exhausted").await;
    fake.set("limits", json!({"remaining": 100})).await;
    granted(waiter).await;
    browser.shows("#headline", "Ready").await;
    browser.shows("#starts", "99").await;

    // During an outage the last limits stay in force.
    fake.set("outage", json!({"status": 503})).await;
    browser
        .shows("#token-note", "last error: Discord answered 503")
        .await;
    browser.shows("#headline", "Ready").await;
}

#[tokio::test]
async fn crash_looping_shards_and_those_that_are_not_ready_are_shown() {
    let queue = start(&[("SHARD_BURST", "1"), ("IDENTIFY_INTERVAL", "20s")]).await;
    let browser = Browser::open(queue.admin).await;
    browser.shows("#headline", "Ready").await;
    granted(request(queue.clients, 4).await).await;
    browser.shows("#last", "shard 4 of bucket 0").await;
    assert_eq!(browser.text("#crash-loop").await, "");
    let _waiter = request(queue.clients, 4).await;
    let crash_loop = "Crash loop: shard 4, next grant in 10 min";
    browser.shows("#crash-loop", crash_loop).await;
    report(queue.clients, 5, "ready").await;
    browser
        .shows("#not-ready", "Not ready: shard 4 granted")
        .await;
    report(queue.clients, 4, "closed").await;
    browser.shows("#not-ready", "shard 4 closed").await;
    report(queue.clients, 4, "ready").await;
    report(queue.clients, 5, "closed").await;
    browser
        .shows("#not-ready", "Not ready: shard 5 closed")
        .await;
    assert_eq!(browser.console_errors().await, [""; 0]);
}

#[tokio::test]
async fn without_a_token_the_page_shows_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let queue = start(&[("DISCORD_TOKEN_FILE", file.to_str().unwrap())]).await;
    let browser = Browser::open(queue.admin).await;
    browser.shows("#headline", "Nothing is granted").await;
    browser
        .shows("#message", "The queue has no usable token: cannot read /")
        .await;
    browser.shows("#message", "DISCORD_TOKEN_FILE").await;
    browser.shows("#token", "Missing").await;
}

#[tokio::test]
async fn a_stopped_queue_is_shown_as_not_connected_until_it_is_back() {
    let queue = start(&[]).await;
    let browser = Browser::open(queue.admin).await;
    browser.shows("#link", "live").await;
    let port = queue.admin.port().to_string();
    queue.end().await;
    browser.shows("#link", "not connected").await;
    browser.shows("#headline", "Not connected").await;
    let queue = start(&[
        ("ADMIN_PORT", &port),
        ("MAX_CONCURRENCY", "3"),
        ("IDENTIFY_INTERVAL", "1m"),
    ])
    .await;
    browser.shows("#link", "live").await;
    browser.shows("#spacing", "3 buckets").await;
    granted(request(queue.clients, 1).await).await;
    let _waiter = request(queue.clients, 4).await;
    browser.lane(1, ".line", "4").await;
}
