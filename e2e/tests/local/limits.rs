//! The limits that the fake Discord reports.

use serde_json::{Value, json};

use crate::fake::{Fake, http};
use crate::process::TOKEN;

#[tokio::test]
async fn the_limits_are_for_the_token_alone_and_unavailable_during_an_outage() {
    let fake = Fake::start(&[("MAX_CONCURRENCY", "2"), ("SHARDS", "8")]).await;
    let url = format!("{}/gateway/bot", fake.api());
    let get = async |token: &str| {
        let request = http().get(&url).header("user-agent", "test");
        let request = request.header("authorization", format!("Bot {token}"));
        request.send().await.unwrap()
    };
    let limits: Value = get(TOKEN).await.json().await.unwrap();
    assert_eq!(
        limits,
        json!({
            "url": format!("ws://{}", fake.discord),
            "shards": 8,
            "session_start_limit": {
                "total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 2
            },
        })
    );
    get("another").await;
    fake.set("outage", json!({"status": 503})).await;
    get(TOKEN).await;
    fake.set("outage", json!({})).await;
    get(TOKEN).await;
    let record = fake.record_when(|record| record.totals.fetches == 4).await;
    let statuses: Vec<_> = record.fetches.iter().map(|fetch| fetch.status).collect();
    assert_eq!(statuses, [200, 401, 503, 200]);
}
