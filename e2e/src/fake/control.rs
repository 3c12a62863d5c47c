//! The record and the switches, for whoever tests.
//!
//! - `GET /livez`: `200`
//! - `GET /record`: all that happened; with `?after=VERSION` the answer waits,
//!   up to 25 s, until something has happened after that version
//! - `POST /limits`: `{"max_concurrency", "total", "remaining", "reset_after_ms"}`,
//!   each of them optional
//! - `POST /outage`: `{"mode": "ok" | "refuse"}`, `{"mode": "status", "status": 503}`,
//!   `{"mode": "rate_limited", "retry_after": 30}`; open sessions go on

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::time::timeout;

use super::book::LeaseObject;
use super::discord::Discord;
use super::outage::Outage;
use super::rules::Change;

/// Shorter than what proxies in between allow.
const LONGEST_POLL: Duration = Duration::from_secs(25);

type Shared = State<Arc<Discord>>;

pub(super) fn router(discord: Arc<Discord>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/record", get(record))
        .route("/limits", post(limits))
        .route("/outage", post(outage))
        .with_state(discord)
}

#[derive(Deserialize)]
struct Since {
    after: Option<u64>,
}

async fn record(State(discord): Shared, Query(since): Query<Since>) -> Json<LeaseObject> {
    if let Some(version) = since.after {
        // When the time is over, the answer is the same version again.
        let _ = timeout(LONGEST_POLL, discord.changed_after(version)).await;
    }
    Json(discord.book(|book| book.record(discord.now())))
}

async fn limits(State(discord): Shared, Json(change): Json<Change>) -> Json<LeaseObject> {
    Json(discord.book(|book| {
        book.change_limits(discord.now(), change);
        book.record(discord.now())
    }))
}

async fn outage(State(discord): Shared, Json(outage): Json<Outage>) -> Response {
    if matches!(outage, Outage::Status { status } if !(400..600).contains(&status)) {
        let message = "a status from 400 to 599 is accepted\n";
        return (StatusCode::UNPROCESSABLE_ENTITY, message).into_response();
    }
    Json(discord.book(|book| {
        book.set_outage(outage);
        book.record(discord.now())
    }))
    .into_response()
}
