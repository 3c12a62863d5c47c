//! A shard resumes its session after a disconnect, without a grant and a session start.

use gateway_queue_client::HttpQueue;
use tokio::time::timeout;
use twilight_gateway::{
    ConfigBuilder, Event, EventTypeFlags, Intents, Shard, ShardId, StreamExt as _,
};

use crate::fake::Fake;
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
