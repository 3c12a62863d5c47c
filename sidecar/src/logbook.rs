//! Writes what the queue says about itself on its Lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_queue_logbook::Entry;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::settings::LeaseRef;

/// A write that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// At most one write in this time, so that a queue that grants many shards a
/// second does not write as often.
const PAUSE: Duration = Duration::from_secs(2);

/// Session starts that only count down are written this seldom.
const COUNTDOWN_PAUSE: Duration = Duration::from_secs(15);

/// The pause after a write that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A client of the cluster that this pod runs in.
///
/// # Errors
///
/// When the pod has no service account mounted.
pub fn client() -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Client::try_from(Config::incluster()?)?)
}

/// Writes each entry, the latest one if several come at once, and says in `ready` when
/// the first is written. Never ends.
pub async fn keep(
    client: Client,
    lease: LeaseRef,
    mut entries: watch::Receiver<Entry>,
    ready: Arc<AtomicBool>,
) {
    let leases: Api<Lease> = Api::namespaced(client, &lease.namespace);
    let mut backoff = BACKOFF.0;
    loop {
        let entry = entries.borrow_and_update().clone();
        let patch = Patch::Merge(json!({"metadata": {"annotations": entry.annotations()}}));
        let params = PatchParams::default();
        let writing = leases.patch_metadata(&lease.name, &params, &patch);
        let why = match timeout(PATIENCE, writing).await {
            Ok(Ok(_)) => {
                if !ready.swap(true, Ordering::Relaxed) {
                    info!(lease = lease.name, "the logbook is open");
                }
                backoff = BACKOFF.0;
                sleep(PAUSE).await;
                if wait_for_news(&entry, &mut entries).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        warn!(lease = lease.name, %why, "cannot write to the Lease");
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// Waits until there is something to write: soon for what people look out for,
/// later for a mere countdown. An error is a queue that ended.
async fn wait_for_news(
    written: &Entry,
    entries: &mut watch::Receiver<Entry>,
) -> Result<(), watch::error::RecvError> {
    entries.wait_for(|entry| entry != written).await?;
    let notable = entries.wait_for(|entry| entry.is_news_after(written));
    match timeout(COUNTDOWN_PAUSE, notable).await {
        Ok(news) => news.map(|_| ()),
        Err(_) => Ok(()),
    }
}
