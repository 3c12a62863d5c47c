//! Writes what the queue says about itself on its Lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_queue_logbook::Entry;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::lease::Lease;

/// At most one write in this time, so that a queue that grants many shards a
/// second does not write as often.
const PAUSE: Duration = Duration::from_secs(2);

/// Session starts that only count down are written this seldom.
const COUNTDOWN_PAUSE: Duration = Duration::from_secs(15);

/// Without any news the same is written again after this time.
const REWRITE: Duration = Duration::from_secs(60);

/// The pause after a write that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Writes each entry, the latest one if several come at once, and says in `ready` when
/// the first is written. Ends when the queue has ended.
pub async fn keep(lease: Lease, mut entries: watch::Receiver<Entry>, ready: Arc<AtomicBool>) {
    let mut backoff = BACKOFF.0;
    loop {
        let entry = entries.borrow_and_update().clone();
        if let Err(error) = lease.annotate(&entry.annotations()).await {
            warn!(%error, "cannot write to the Lease");
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
            continue;
        }
        if !ready.swap(true, Ordering::Relaxed) {
            info!("the logbook is open");
        }
        backoff = BACKOFF.0;
        sleep(PAUSE).await;
        if wait_for_news(&entry, &mut entries).await.is_err() {
            return;
        }
    }
}

/// Waits until there is something to write: soon for what people look out for,
/// later for a mere countdown. An error is a queue that ended.
async fn wait_for_news(
    written: &Entry,
    entries: &mut watch::Receiver<Entry>,
) -> Result<(), watch::error::RecvError> {
    // Somebody may have deleted the Lease, or changed what it says. A patch
    // that changes nothing is not even stored.
    match timeout(REWRITE, entries.wait_for(|entry| entry != written)).await {
        Ok(changed) => drop(changed?),
        Err(_) => return Ok(()),
    }
    let notable = entries.wait_for(|entry| entry.is_news_after(written));
    match timeout(COUNTDOWN_PAUSE, notable).await {
        Ok(news) => news.map(|_| ()),
        Err(_) => Ok(()),
    }
}
