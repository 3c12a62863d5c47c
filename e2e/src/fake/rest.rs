//! Discord's REST API, and the upgrade to the gateway.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, HOST, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::compression;
use super::discord::Discord;
use super::{gateway, protocol};

type Shared = State<Arc<Discord>>;

pub(super) fn router(discord: Arc<Discord>) -> Router {
    let api = Router::new()
        .route("/gateway", get(url))
        .route("/gateway/bot", get(gateway_bot))
        .route("/users/@me", get(user))
        .route("/oauth2/applications/@me", get(application));
    Router::new()
        .route("/", get(connect))
        .nest("/api/{version}", api.clone())
        .merge(api)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&discord),
            record_and_fail,
        ))
        .with_state(discord)
}

/// Answers every request during an outage, and records the requests for the limits.
async fn record_and_fail(State(discord): Shared, request: Request, next: Next) -> Response {
    let is_fetch = request.uri().path().ends_with("/gateway/bot");
    let mut response = match discord.state(|state| state.outage()) {
        None => next.run(request).await,
        Some(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Refusal(status, "an outage of the fake").into_response()
        }
    };
    if is_fetch {
        let status = response.status().as_u16();
        discord.state(|state| state.fetched(discord.now(), status));
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A response that refuses a request.
struct Refusal(StatusCode, &'static str);

async fn gateway_bot(State(discord): Shared, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    authorize(&discord, &headers)?;
    let limit = discord.state(|state| state.session_start_limit(discord.now()));
    Ok(Json(json!({
        "url": gateway_url(&discord, &headers)?,
        "shards": discord.shards,
        "session_start_limit": limit,
    })))
}

async fn url(State(discord): Shared, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({"url": gateway_url(&discord, &headers)?})))
}

async fn user(State(discord): Shared, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    authorize(&discord, &headers)?;
    Ok(Json(protocol::user()))
}

async fn application(State(discord): Shared, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    authorize(&discord, &headers)?;
    Ok(Json(json!({
        "id": "1", "name": "fake", "icon": null, "description": "", "summary": "", "flags": 0,
        "bot_public": true, "bot_require_code_grant": false, "verify_key": "", "team": null,
        "owner": protocol::user(),
    })))
}

/// The query of the gateway's URL.
#[derive(Deserialize)]
struct Format {
    encoding: Option<String>,
    compress: Option<compression::Format>,
}

async fn connect(
    State(discord): Shared,
    Query(format): Query<Format>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    if format.encoding.is_some_and(|encoding| encoding != "json") {
        let message = "the fake speaks only encoding=json";
        return Err(Refusal(StatusCode::BAD_REQUEST, message));
    }
    let url = gateway_url(&discord, &headers)?;
    Ok(upgrade.on_upgrade(move |socket| gateway::session(socket, discord, url, format.compress)))
}

fn authorize(discord: &Discord, headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers.contains_key(USER_AGENT) {
        let message = "a User-Agent is required, as at Discord";
        return Err(Refusal(StatusCode::FORBIDDEN, message));
    }
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let right = format!("Bot {}", discord.token.0);
    if given == Some(right.as_bytes()) {
        Ok(())
    } else {
        Err(Refusal(StatusCode::UNAUTHORIZED, "401: Unauthorized"))
    }
}

/// The gateway's URL: as configured, or else the host that the bot called.
fn gateway_url(discord: &Discord, headers: &HeaderMap) -> Result<String, Refusal> {
    if let Some(url) = &discord.gateway_url {
        return Ok(url.clone());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or(Refusal(StatusCode::BAD_REQUEST, "a Host is required"))?;
    Ok(format!("ws://{host}"))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        (status, Json(json!({"message": message, "code": 0}))).into_response()
    }
}
