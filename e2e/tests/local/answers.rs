//! What the fake Discord answers: its limits, and that a resumed session costs nothing.

use gateway_queue_client::HttpQueue;
use serde_json::{Value, json};
use tokio::time::timeout;
use twilight_gateway::{
    ConfigBuilder, Event, EventTypeFlags, Intents, Shard, ShardId, StreamExt as _,
};

use crate::fake::{Fake, http};
use crate::process::{PATIENCE, TOKEN};
use crate::unpaced::unpaced;

async fn next(shard: &mut Shard<HttpQueue>) -> Event {
    let wanted = EventTypeFlags::READY | EventTypeFlags::RESUMED;
    timeout(PATIENCE, shard.next_event(wanted))
        .await
        .expect("no event")
        .expect("the shard ended")
        .unwrap()
}

#[tokio::test]
async fn a_resumed_session_costs_nothing() {
    let fake = Fake::start(&[]).await;
    let queue = HttpQueue::new(&unpaced().await).unwrap();
    let config = || {
        ConfigBuilder::new(TOKEN.to_owned(), Intents::empty())
            .proxy_url(format!("ws://{}", fake.discord))
            .queue(queue.clone())
    };
    let mut shard = Shard::with_config(ShardId::ONE, config().build());
    assert!(matches!(next(&mut shard).await, Event::Ready(_)));
    let session = shard.session().unwrap().clone();
    let url = shard.resume_url().unwrap().to_owned();
    drop(shard);

    let config = config().session(session).resume_url(url).build();
    let mut shard = Shard::with_config(ShardId::ONE, config);
    assert!(matches!(next(&mut shard).await, Event::Resumed));
    let record = fake.record_when(|record| record.totals.resumes == 1).await;
    assert_eq!(record.totals.identifies, 1);
    assert_eq!(record.session_start_limit.remaining, 999);
}

#[tokio::test]
async fn a_shard_that_is_cut_off_resumes() {
    let fake = Fake::start(&[]).await;
    let config = ConfigBuilder::new(TOKEN.to_owned(), Intents::empty())
        .proxy_url(format!("ws://{}", fake.discord))
        .queue(HttpQueue::new(&unpaced().await).unwrap());
    let mut shard = Shard::with_config(ShardId::ONE, config.build());
    assert!(matches!(next(&mut shard).await, Event::Ready(_)));
    for cut in [1, 0] {
        fake.set("cut", json!({"shard": cut})).await;
    }
    assert!(matches!(next(&mut shard).await, Event::GatewayClose(_)));
    assert!(matches!(next(&mut shard).await, Event::Resumed));
    let record = fake.record_when(|record| record.totals.resumes == 1).await;
    assert_eq!(record.resumes[0].shard, 0);
    assert_eq!(record.totals.identifies, 1);
}

#[tokio::test]
async fn what_libraries_ask_at_their_start_is_answered_with_and_without_the_version() {
    let url = "wss://gateway.example";
    let fake = Fake::start(&[("GATEWAY_URL", url)]).await;
    for base in ["", "/api/v10"] {
        let get = async |path: &str| -> Value {
            let request = http().get(format!("http://{}{base}{path}", fake.discord));
            let request = request.header("authorization", format!("Bot {TOKEN}"));
            let response = request.header("user-agent", "test").send().await.unwrap();
            response.json().await.unwrap()
        };
        assert_eq!(get("/gateway").await, json!({"url": url}));
        assert_eq!(get("/gateway/bot").await["url"], url);
        let user = get("/users/@me").await;
        assert_eq!(get("/oauth2/applications/@me").await["owner"], user);
    }
}

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
