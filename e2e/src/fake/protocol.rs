//! The words of the gateway: what bots send, and what they are sent.

use serde::Deserialize;
use serde_json::{Value, json};

/// How often a bot must beat.
const HEARTBEAT_INTERVAL_MS: u32 = 41_250;

/// Close codes of the gateway, as Discord documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCode {
    UnknownOpcode = 4001,
    Undecodable = 4002,
    NotIdentified = 4003,
    /// Also what a bot meets whose session starts are used up: Discord resets
    /// its token.
    AuthenticationFailed = 4004,
    AlreadyIdentified = 4005,
    InvalidShard = 4010,
}

/// What a bot sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Heartbeat,
    Identify(Identify),
    Resume(Resume),
    /// Presence, voice and members: nothing to do with identifying.
    Other,
}

/// Only what the rules need; clients differ in the rest.
#[derive(Deserialize, PartialEq, Eq)]
pub(super) struct Identify {
    pub(super) token: String,
    /// The shard, and of how many.
    #[serde(default = "the_only_shard")]
    pub(super) shard: (u32, u32),
}

#[derive(Deserialize, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) token: String,
    pub(super) session_id: String,
    pub(super) seq: u64,
}

impl Command {
    pub(super) fn read(text: &str) -> Result<Self, CloseCode> {
        #[derive(Deserialize)]
        struct Frame {
            op: u8,
            #[serde(default)]
            d: Value,
        }
        let frame: Frame = serde_json::from_str(text).map_err(|_| CloseCode::Undecodable)?;
        match frame.op {
            1 => Ok(Self::Heartbeat),
            2 => payload(frame.d).map(Self::Identify),
            6 => payload(frame.d).map(Self::Resume),
            3 | 4 | 8 | 31 | 43 => Ok(Self::Other),
            _ => Err(CloseCode::UnknownOpcode),
        }
    }
}

fn payload<T: serde::de::DeserializeOwned>(payload: Value) -> Result<T, CloseCode> {
    serde_json::from_value(payload).map_err(|_| CloseCode::Undecodable)
}

fn the_only_shard() -> (u32, u32) {
    (0, 1)
}

pub(super) fn hello() -> Value {
    json!({"op": 10, "d": {"heartbeat_interval": HEARTBEAT_INTERVAL_MS}, "s": null, "t": null})
}

pub(super) fn heartbeat_ack() -> Value {
    json!({"op": 11, "d": null, "s": null, "t": null})
}

/// The session cannot be resumed, and the bot must identify anew.
pub(super) fn invalid_session() -> Value {
    json!({"op": 9, "d": false, "s": null, "t": null})
}

pub(super) fn ready(session_id: &str, resume_url: &str, shard: (u32, u32)) -> Value {
    json!({
        "op": 0,
        "t": "READY",
        "s": 1,
        "d": {
            "v": 10,
            "user": user(),
            "guilds": [],
            "session_id": session_id,
            "resume_gateway_url": resume_url,
            "shard": shard,
            "application": {"id": "1", "flags": 0},
        },
    })
}

pub(super) fn resumed(seq: u64) -> Value {
    json!({"op": 0, "t": "RESUMED", "s": seq + 1, "d": {}})
}

pub(super) fn user() -> Value {
    json!({
        "id": "1",
        "username": "fake",
        "discriminator": "0",
        "global_name": null,
        "avatar": null,
        "bot": true,
        "mfa_enabled": false,
        "verified": true,
        "email": null,
        "flags": 0,
    })
}

pub(super) fn application() -> Value {
    json!({
        "id": "1",
        "name": "fake",
        "icon": null,
        "description": "",
        "bot_public": false,
        "bot_require_code_grant": false,
        "verify_key": "",
        "flags": 0,
    })
}

// Hand-made, for the tokens in them.

impl std::fmt::Debug for Identify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identify")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resume")
            .field("session_id", &self.session_id)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{CloseCode, Command, ready};
    use twilight_model::gateway::payload::incoming::Ready;

    #[test]
    fn an_identify_without_a_shard_is_the_only_shard() {
        let text = r#"{"op":2,"d":{"token":"hunter2","intents":0,"properties":{}}}"#;
        let Ok(Command::Identify(identify)) = Command::read(text) else {
            panic!("not read as an identify");
        };
        assert_eq!(identify.shard, (0, 1));
        assert!(!format!("{identify:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_command_closes_with_discords_codes() {
        for (text, code) in [
            ("", CloseCode::Undecodable),
            (r#"{"op":2,"d":{}}"#, CloseCode::Undecodable),
            (r#"{"op":99}"#, CloseCode::UnknownOpcode),
        ] {
            assert_eq!(Command::read(text), Err(code), "{text}");
        }
        assert_eq!(
            Command::read(r#"{"op":1,"d":null}"#),
            Ok(Command::Heartbeat)
        );
    }

    #[test]
    fn ready_is_what_twilight_takes_for_one() {
        let event = ready("session-0", "ws://fake", (3, 8));
        let event: Ready = serde_json::from_value(event["d"].clone()).unwrap();
        let shard = event.shard.unwrap();
        assert_eq!((shard.number(), shard.total()), (3, 8));
        assert_eq!(event.resume_gateway_url, "ws://fake");
    }
}
