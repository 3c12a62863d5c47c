//! The control port: the record and the switches.
//!
//! - `GET /livez`: `200`
//! - `GET /record`: everything that happened; with `?after=VERSION` the response waits up to
//!   25 s for a change after that version
//! - `POST /limits`: `{"remaining", "reset_after_ms"}`, each of them optional
//! - `POST /outage`: `{"status": 503}` answers every new request with this status, `{}` ends
//!   the outage; open sessions continue
//! - `POST /cut`: `{"shard": 3}` closes the connection of this shard, which can then resume;
//!   with `"forget": true` no session until now can be resumed

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::time::timeout;

use super::discord::Discord;
use super::record::Record;
use super::state::Change;

/// Shorter than the timeouts of proxies in between.
const LONGEST_POLL: Duration = Duration::from_secs(25);

type Shared = State<Arc<Discord>>;

pub(super) fn router(discord: Arc<Discord>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/record", get(record))
        .route("/limits", post(limits))
        .route("/outage", post(outage))
        .route("/cut", post(cut))
        .with_state(discord)
}

#[derive(Deserialize)]
struct Since {
    after: Option<u64>,
}

async fn record(State(discord): Shared, Query(since): Query<Since>) -> Json<Record> {
    if let Some(version) = since.after {
        // After the timeout, the response is the same version.
        let _ = timeout(LONGEST_POLL, discord.changed_after(version)).await;
    }
    Json(discord.state(|state| state.record(discord.now())))
}

async fn limits(State(discord): Shared, Json(change): Json<Change>) {
    discord.state(|state| state.change_limits(discord.now(), change));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    status: Option<u16>,
}

async fn outage(State(discord): Shared, Json(outage): Json<Outage>) {
    discord.state(|state| state.set_outage(outage.status));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    shard: u32,
    #[serde(default)]
    forget: bool,
}

async fn cut(State(discord): Shared, Json(cut): Json<Cut>) {
    if cut.forget {
        discord.state(|state| state.forget_sessions());
    }
    // An error means that there is no connection.
    let _ = discord.cuts.send(cut.shard);
}
