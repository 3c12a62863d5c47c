//! One bot's connection to the gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use serde_json::Value;
use tokio::time::timeout;

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
pub(super) async fn session(socket: WebSocket, discord: Arc<Discord>, url: String) {
    let mut session = Session {
        socket,
        discord,
        url,
        identified: false,
    };
    if let Err(End::Close(code)) = session.run().await {
        tracing::info!(?code, "closed a connection");
        session.close(code).await;
    }
}

struct Session {
    socket: WebSocket,
    discord: Arc<Discord>,
    url: String,
    identified: bool,
}

impl Session {
    async fn run(&mut self) -> Result<(), End> {
        self.send(&protocol::hello()).await?;
        loop {
            let Some(Ok(message)) = self.socket.recv().await else {
                return Err(End::Gone);
            };
            // The time of arrival, before anything is done with it.
            let received = self.discord.now();
            let text = match message {
                Message::Text(text) => text,
                Message::Binary(_) => return Err(End::Close(CloseCode::Undecodable)),
                // The library answers at the next `recv`. Leaving earlier would cut the bot off
                // in the middle of its close.
                Message::Close(_) | Message::Ping(_) | Message::Pong(_) => continue,
            };
            match Command::read(&text).map_err(End::Close)? {
                Command::Heartbeat => self.send(&protocol::heartbeat_ack()).await?,
                Command::Identify(identify) => self.identify(received, identify).await?,
                Command::Resume(resume) => self.resume(resume).await?,
                Command::Other if self.identified => {}
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
        self.identified = true;
        let ready = protocol::ready(&session_id, &self.url, identify.shard);
        self.send(&ready).await?;
        self.discord
            .state(|state| state.ready(self.discord.now(), &session_id));
        tracing::info!(shard, num_shards, "ready");
        Ok(())
    }

    async fn resume(&mut self, resume: Resume) -> Result<(), End> {
        self.admit(&resume.token)?;
        if !self.discord.state(|state| state.resume(&resume.session_id)) {
            return self.send(&protocol::invalid_session()).await;
        }
        self.identified = true;
        tracing::info!(session = resume.session_id, "resumed");
        self.send(&protocol::resumed(resume.seq)).await
    }

    fn admit(&self, token: &str) -> Result<(), End> {
        if self.identified {
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
        let message = Message::text(payload.to_string());
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
