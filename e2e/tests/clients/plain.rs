//! Clients without a library.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::time::sleep;

use crate::examples::{PLURALKIT, SHARDS, folder};
use crate::fake::http;
use crate::namespace::Namespace;
use crate::process::PATIENCE;
use crate::readme;
use crate::scene::grants;
use crate::table::Row;

/// The queue, as it is reached without its name.
const QUEUE: &str = "http://127.0.0.1:80/";

/// Runs the shell script.
pub(crate) fn curl(
    namespace: Arc<Namespace>,
    shard: u32,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let mut script = namespace.command("sh");
        script.arg(format!("{}/curl.sh", folder()));
        script.arg(shard.to_string()).kill_on_drop(true);
        let status = script.status().await.unwrap();
        assert!(status.success(), "{status}");
    })
}

/// Sends what Sandwich-Daemon's `IdentifyViaURL` sends, and waits as it does.
pub(crate) fn sandwich(_: Arc<Namespace>, shard: u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    const PAUSE: Duration = Duration::from_secs(5);

    Box::pin(async move {
        loop {
            let url = readme::sandwich_url().replace("{shard_id}", &shard.to_string());
            let url = url.replace("http://my-bot/", QUEUE);
            let body = json!({
                "shard_id": shard, "shard_count": SHARDS, "max_concurrency": 2, "token": "secret",
                "token_hash": "hash",
            });
            let pause = match http().post(url).json(&body).send().await {
                Ok(response)
                    if [StatusCode::OK, StatusCode::NO_CONTENT].contains(&response.status()) =>
                {
                    return;
                }
                Ok(response) => {
                    let header = response.headers().get("x-retry-after-ms");
                    let ms = header.and_then(|ms| ms.to_str().ok()?.parse().ok());
                    ms.map_or(PAUSE, Duration::from_millis)
                }
                // The real one crashes.
                Err(_) => PAUSE,
            };
            sleep(pause).await;
        }
    })
}

/// Waits as PluralKit's client does: any response is a grant.
pub(crate) fn pluralkit(_: Arc<Namespace>, shard: u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        loop {
            let request = http().get(format!("{QUEUE}?shard={shard}"));
            match request.timeout(Duration::from_secs(30)).send().await {
                Ok(_) => return,
                Err(error) => assert!(error.is_timeout(), "{error}"),
            }
        }
    })
}

#[tokio::test]
async fn a_client_that_ignores_the_status_and_gives_up_after_30_s_is_granted_after_90_s() {
    const RESET: Duration = Duration::from_secs(90);

    let mut row = Row::of(&PLURALKIT);
    let scene = PLURALKIT.scene("pluralkit").await;
    scene.exhaust(RESET).await;
    let queue = scene.queue(PLURALKIT.margin).await;
    let started = Instant::now();
    let mut bot = PLURALKIT.start(&scene).await;
    let ready = scene
        .fake
        .record_within(RESET + PATIENCE, |record| record.totals.ready == SHARDS);
    let record = bot.during(ready).await;
    row.start = Some(started.elapsed());
    let granted = grants(&queue).await;
    row.granted = Some(granted);
    row.record = Some(record.clone());
    assert_eq!(record.totals.violations, 0, "{:#?}", record.violations);
    assert_eq!(granted, record.totals.identifies);
}
