//! The messages of the gateway.

use serde::Deserialize;
use serde_json::{Value, json};

/// The interval of a bot's heartbeats.
const HEARTBEAT_INTERVAL_MS: u32 = 41_250;

/// Close codes of the gateway, as Discord documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// The bot may resume.
    UnknownError = 4000,
    UnknownOpcode = 4001,
    Undecodable = 4002,
    NotIdentified = 4003,
    /// Also for a bot without session starts left: Discord resets its token.
    AuthenticationFailed = 4004,
    AlreadyIdentified = 4005,
    InvalidShard = 4010,
}

/// A message of a bot.
pub(super) enum Command {
    Heartbeat,
    Identify(Identify),
    Resume(Resume),
    /// Presence, voice and members, which the fake ignores.
    Other,
}

/// The fields that the rules need; clients differ in the others.
#[derive(Deserialize)]
pub(super) struct Identify {
    pub(super) token: String,
    /// The shard and the number of shards.
    #[serde(default = "single_shard")]
    pub(super) shard: (u32, u32),
}

#[derive(Deserialize)]
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

fn single_shard() -> (u32, u32) {
    (0, 1)
}

pub(super) fn hello() -> Value {
    json!({"op": 10, "d": {"heartbeat_interval": HEARTBEAT_INTERVAL_MS}, "s": null, "t": null})
}

pub(super) fn heartbeat_ack() -> Value {
    json!({"op": 11, "d": null, "s": null, "t": null})
}

/// The session cannot be resumed: the bot must identify.
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
            "private_channels": [],
            "session_id": session_id,
            "resume_gateway_url": resume_url,
            "shard": shard,
            "application": {"id": "1", "flags": 0},
        },
    })
}

/// The bot, with the fields that its library requires.
pub(super) fn user() -> Value {
    json!({
        "id": "1", "username": "fake", "discriminator": "0", "global_name": null, "avatar": null,
        "bot": true, "mfa_enabled": false, "verified": true, "flags": 0,
    })
}

pub(super) fn resumed(seq: u64) -> Value {
    json!({"op": 0, "t": "RESUMED", "s": seq + 1, "d": {}})
}

#[cfg(test)]
mod tests {
    use super::{CloseCode, Command};

    #[test]
    fn an_identify_without_a_shard_is_of_the_only_shard() {
        let text = r#"{"op":2,"d":{"token":"secret","intents":0,"properties":{}}}"#;
        let Ok(Command::Identify(identify)) = Command::read(text) else {
            panic!("not read as an identify");
        };
        assert_eq!(identify.shard, (0, 1));
    }

    #[test]
    fn an_invalid_command_closes_with_discords_code() {
        for (text, code) in [
            ("", CloseCode::Undecodable),
            (r#"{"op":2,"d":{}}"#, CloseCode::Undecodable),
            (r#"{"op":99}"#, CloseCode::UnknownOpcode),
        ] {
            assert_eq!(Command::read(text).err(), Some(code), "{text}");
        }
    }
}
