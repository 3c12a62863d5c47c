//! What bots ask Discord by HTTP, and the way to the gateway.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, HOST, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::discord::Discord;
use super::outage::Outage;
use super::{gateway, protocol};

type Shared = State<Arc<Discord>>;

pub(super) fn router(discord: Arc<Discord>) -> Router {
    Router::new()
        .route("/", get(connect))
        .route("/api/{version}/gateway", get(gateway_address))
        .route("/api/{version}/gateway/bot", get(gateway_bot))
        .route("/api/{version}/users/@me", get(user))
        .route("/api/{version}/oauth2/applications/@me", get(application))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&discord),
            as_the_outage_says,
        ))
        .with_state(discord)
}

/// Answers in the place of everything else during an outage, and notes how the
/// requests for the limits fared.
async fn as_the_outage_says(State(discord): Shared, request: Request, next: Next) -> Response {
    let is_fetch = request.uri().path().ends_with("/gateway/bot");
    let mut response = match discord.book(|book| book.outage()) {
        Outage::None => next.run(request).await,
        // Let in just before the outage began.
        Outage::Refuse => {
            Refusal(StatusCode::SERVICE_UNAVAILABLE, "the fake refuses").into_response()
        }
        Outage::Status { status } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Refusal(status, "the fake was told to answer so").into_response()
        }
        Outage::RateLimited { retry_after } => rate_limited(retry_after),
    };
    if is_fetch {
        let status = response.status().as_u16();
        discord.book(|book| book.fetched(discord.now(), status));
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a bot is told when it does not get what it asked for.
struct Refusal(StatusCode, &'static str);

type Answer = Result<Json<Value>, Refusal>;

async fn gateway_address(State(discord): Shared, headers: HeaderMap) -> Answer {
    Ok(Json(json!({"url": discord.gateway_url(host(&headers)?)})))
}

async fn gateway_bot(State(discord): Shared, headers: HeaderMap) -> Answer {
    authorize(&discord, &headers)?;
    let url = discord.gateway_url(host(&headers)?);
    let limit = discord.book(|book| book.session_start_limit(discord.now()));
    Ok(Json(json!({
        "url": url,
        "shards": discord.shards,
        "session_start_limit": limit,
    })))
}

async fn user(State(discord): Shared, headers: HeaderMap) -> Answer {
    authorize(&discord, &headers)?;
    Ok(Json(protocol::user()))
}

async fn application(State(discord): Shared, headers: HeaderMap) -> Answer {
    authorize(&discord, &headers)?;
    Ok(Json(protocol::application()))
}

/// The query of the gateway's address.
#[derive(Deserialize)]
struct Wishes {
    encoding: Option<String>,
    compress: Option<String>,
}

async fn connect(
    State(discord): Shared,
    Query(wishes): Query<Wishes>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let plain = wishes.compress.is_none() && wishes.encoding.is_none_or(|e| e == "json");
    if !plain {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "the fake speaks encoding=json without compress",
        ));
    }
    let url = discord.gateway_url(host(&headers)?);
    Ok(upgrade.on_upgrade(|socket| gateway::session(socket, discord, url)))
}

fn authorize(discord: &Discord, headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers.contains_key(USER_AGENT) {
        let message = "a User-Agent is required, as at Discord";
        return Err(Refusal(StatusCode::FORBIDDEN, message));
    }
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let right = format!("Bot {}", discord.token.reveal());
    if given == Some(right.as_bytes()) {
        Ok(())
    } else {
        Err(Refusal(StatusCode::UNAUTHORIZED, "401: Unauthorized"))
    }
}

fn host(headers: &HeaderMap) -> Result<&str, Refusal> {
    headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .ok_or(Refusal(StatusCode::BAD_REQUEST, "a Host is required"))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        (status, Json(json!({"message": message, "code": 0}))).into_response()
    }
}

fn rate_limited(retry_after: u32) -> Response {
    let body = json!({
        "message": "You are being rate limited.",
        "retry_after": f64::from(retry_after),
        "global": false,
    });
    let header = [(RETRY_AFTER, retry_after.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, header, Json(body)).into_response()
}
