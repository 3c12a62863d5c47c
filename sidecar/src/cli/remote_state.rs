//! What a queue says of itself at /state, as far as it is understood here: it
//! may be older or newer than this program. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What /state says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)] // The names are those of /state.
pub struct RemoteState {
    /// Whatever has none is no queue.
    pub role: String,
    #[serde(default, deserialize_with = "lenient")]
    pub leader: Option<SocketAddr>,
    #[serde(default, deserialize_with = "lenient")]
    pub leader_pod: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub pod: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub admin_port: Option<u16>,
    #[serde(default, deserialize_with = "lenient")]
    pub version: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub token: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub blocked_by: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub last_error: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub message: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub max_concurrency: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    pub session_starts: Option<SessionStarts>,
    #[serde(default, deserialize_with = "lenient")]
    pub waiting: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    pub held_requests: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    pub buckets: Vec<Bucket>,
    #[serde(default, deserialize_with = "lenient")]
    pub last_grants: Vec<LastGrant>,
}

/// What is left of the session starts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct SessionStarts {
    pub total: u64,
    pub remaining: u64,
    pub reset_time: Option<String>,
}

/// Who waits in a bucket.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct Bucket {
    pub bucket: u32,
    pub next_grant_in_ms: Option<u64>,
    pub shards: Vec<u32>,
}

/// One of the last grants.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct LastGrant {
    pub shard: u32,
    pub bucket: u32,
    pub granted_ms_ago: u64,
}

/// A field that says something else than is understood here says nothing.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl RemoteState {
    /// Reads the document; none when it is not that of a queue.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Why nothing is granted here; none when shards may identify. Who follows
    /// knows of its leader only whether it answers.
    pub fn why_not(&self) -> Option<String> {
        // The queue's own sentence is the better one.
        let why = self.message.as_deref().filter(|why| !why.is_empty());
        let words = match (self.role.as_str(), self.blocked_by.as_deref()) {
            ("leader", None) => return None,
            _ if why.is_some() => return why.map(str::to_owned),
            ("follower", _) => {
                let silent = |last_error: &&String| last_error.starts_with("the leader ");
                return self.last_error.as_ref().filter(silent).cloned();
            }
            ("leader", Some(blocked_by)) => match blocked_by {
                "token_missing" => "there is no token",
                "token_rejected" => "Discord rejects the token",
                "session_starts_unknown" => "the session starts are not known yet",
                "session_starts_exhausted" => "no session start is left",
                other => other,
            },
            ("expired", _) => "this pod holds the Lease, but cannot renew it",
            ("none", _) => "nobody leads, as far as this pod knows",
            (other, _) => other,
        };
        match self.last_error.as_deref() {
            Some(last_error) => Some(format!("{words}: {last_error}")),
            None => Some(words.to_owned()),
        }
    }

    /// Where the leader that this pod follows may be asked, as all pods of a queue have
    /// the same settings. `own` is the port at which this pod was asked.
    pub fn leader_admin(&self, own: u16) -> Option<SocketAddr> {
        let leader = self.leader.filter(|_| self.role == "follower")?;
        Some(SocketAddr::new(leader.ip(), self.admin_port.unwrap_or(own)))
    }
}

impl Bucket {
    /// Until the next may go, if anybody may.
    pub fn next_in(&self) -> Option<Duration> {
        self.next_grant_in_ms.map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(json: &str) -> RemoteState {
        RemoteState::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn fields_that_are_absent_null_or_new_are_borne() {
        let old = seen(r#"{"role":"leader"}"#);
        assert_eq!((old.why_not(), old.buckets.len()), (None, 0));
        let new =
            seen(r#"{"role":"leader","message":{"a":1},"last_grants":null,"x":[],"waiting":"2"}"#);
        assert_eq!(
            (new.message, new.last_grants.len(), new.waiting),
            (None, 0, None)
        );
        for text in ["", "[]", "{}", "<html>"] {
            assert_eq!(RemoteState::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn why_nothing_is_granted_is_said_as_well_as_it_is_known() {
        for (json, why) in [
            (
                r#"{"role":"leader","blocked_by":null,"last_error":"Discord answered 500"}"#,
                None,
            ),
            (r#"{"role":"follower","last_error":null}"#, None),
            (
                r#"{"role":"follower","last_error":"the leader does not answer"}"#,
                Some("the leader does not answer"),
            ),
            (
                r#"{"role":"follower","message":"It does not answer."}"#,
                Some("It does not answer."),
            ),
            (
                r#"{"role":"leader","blocked_by":"token_missing","last_error":"cannot read /t"}"#,
                Some("there is no token: cannot read /t"),
            ),
            (
                r#"{"role":"leader","blocked_by":"session_starts_exhausted","message":"All used up."}"#,
                Some("All used up."),
            ),
            (r#"{"role":"leader","blocked_by":"tired"}"#, Some("tired")),
            (
                r#"{"role":"none","blocked_by":null}"#,
                Some("nobody leads, as far as this pod knows"),
            ),
            (
                r#"{"role":"expired"}"#,
                Some("this pod holds the Lease, but cannot renew it"),
            ),
        ] {
            assert_eq!(seen(json).why_not().as_deref(), why, "{json}");
        }
    }
}
