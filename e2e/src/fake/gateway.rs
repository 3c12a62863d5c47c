//! One bot's connection to the gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::compression::{Format, Stream};
use super::discord::Discord;
use super::protocol::{self, CloseCode, Command, Identify, Resume};
use super::record::Breach;

/// How long a bot has to close its side of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection ends.
enum End {
    /// The bot disconnected.
    Gone,
    /// The fake closes the connection.
    Close(CloseCode),
}

/// Serves a connection until either side closes it. `url` is the URL for resuming.
pub(super) async fn session(
    socket: WebSocket,
    discord: Arc<Discord>,
    url: String,
    compress: Option<Format>,
) {
    let mut session = Session {
        socket,
        compressed: compress.map(Stream::new),
        cuts: discord.cuts.subscribe(),
        discord,
        url,
        shard: None,
    };
    if let Err(End::Close(code)) = session.run().await {
        tracing::info!(?code, "closed a connection");
        session.close(code).await;
    }
}

struct Session {
    socket: WebSocket,
    compressed: Option<Stream>,
    cuts: broadcast::Receiver<u32>,
    discord: Arc<Discord>,
    url: String,
    /// The shard that has identified or resumed.
    shard: Option<u32>,
}

impl Session {
    async fn run(&mut self) -> Result<(), End> {
        self.send(&protocol::hello()).await?;
        loop {
            let message = tokio::select! {
                message = self.socket.recv() => message,
                Ok(shard) = self.cuts.recv() => {
                    if self.shard == Some(shard) {
                        return Err(End::Close(CloseCode::UnknownError));
                    }
                    continue;
                }
            };
            let Some(Ok(message)) = message else {
                return Err(End::Gone);
            };
            // The time of arrival, before anything is done with it.
            let received = self.discord.now();
            let text = match message {
                Message::Text(text) => text,
                // As hikari sends it.
                Message::Binary(bytes) => {
                    Utf8Bytes::try_from(bytes).map_err(|_| End::Close(CloseCode::Undecodable))?
                }
                // The library answers at the next `recv`. Leaving earlier would cut the bot off
                // in the middle of its close.
                Message::Close(_) | Message::Ping(_) | Message::Pong(_) => continue,
            };
            match Command::read(&text).map_err(End::Close)? {
                Command::Heartbeat => self.send(&protocol::heartbeat_ack()).await?,
                Command::Identify(identify) => self.identify(received, identify).await?,
                Command::Resume(resume) => self.resume(resume).await?,
                Command::Other if self.shard.is_some() => {}
                Command::Other => return Err(End::Close(CloseCode::NotIdentified)),
            }
        }
    }

    async fn identify(&mut self, received: Duration, identify: Identify) -> Result<(), End> {
        self.admit(&identify.token)?;
        let (shard, num_shards) = identify.shard;
        if shard >= num_shards {
            return Err(End::Close(CloseCode::InvalidShard));
        }
        let (session_id, breach) = self.discord.state(|state| state.identify(received, shard));
        match breach {
            Some(Breach::TooEarly) => {
                tracing::warn!(shard, "identified too early");
                return self.send(&protocol::invalid_session()).await;
            }
            Some(Breach::NoSessionStartLeft) => {
                tracing::warn!(shard, "identified without a session start left");
                return Err(End::Close(CloseCode::AuthenticationFailed));
            }
            None => {}
        }
        self.shard = Some(shard);
        let ready = protocol::ready(&session_id, &self.url, identify.shard);
        self.send(&ready).await?;
        self.discord
            .state(|state| state.ready(self.discord.now(), &session_id));
        tracing::info!(shard, num_shards, "ready");
        Ok(())
    }

    async fn resume(&mut self, resume: Resume) -> Result<(), End> {
        self.admit(&resume.token)?;
        let now = self.discord.now();
        self.shard = self
            .discord
            .state(|state| state.resume(now, &resume.session_id));
        if self.shard.is_none() {
            return self.send(&protocol::invalid_session()).await;
        }
        tracing::info!(session = resume.session_id, "resumed");
        self.send(&protocol::resumed(resume.seq)).await
    }

    fn admit(&self, token: &str) -> Result<(), End> {
        if self.shard.is_some() {
            return Err(End::Close(CloseCode::AlreadyIdentified));
        }
        // Some clients send the token with the prefix of the HTTP header.
        let token = token.strip_prefix("Bot ").unwrap_or(token);
        if token == self.discord.token.0 {
            Ok(())
        } else {
            Err(End::Close(CloseCode::AuthenticationFailed))
        }
    }

    async fn send(&mut self, payload: &Value) -> Result<(), End> {
        let message = match &mut self.compressed {
            Some(stream) => Message::binary(stream.message(&payload.to_string())),
            None => Message::text(payload.to_string()),
        };
        self.socket.send(message).await.map_err(|_| End::Gone)
    }

    /// Closes the connection, and waits for the bot to close its side: if something from the
    /// bot is unread, the close code is lost.
    async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame {
            code: code as u16,
            reason: format!("{code:?}").into(),
        };
        if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
            let rest = async { while let Some(Ok(_)) = self.socket.recv().await {} };
            let _ = timeout(CLOSE_TIMEOUT, rest).await;
        }
    }
}
