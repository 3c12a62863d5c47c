//! What goes wrong on purpose.

use serde::{Deserialize, Serialize};

/// How Discord fails, for everything but the sessions that are open.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outage {
    /// Not at all.
    #[serde(rename = "ok")]
    None,
    /// Connections are closed without a word.
    Refuse,
    /// Requests are answered with this status.
    Status {
        /// From 400 to 599.
        status: u16,
    },
    /// Requests are answered with 429 and `Retry-After`.
    RateLimited {
        /// How long to stay away, in seconds.
        retry_after: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::Outage;

    #[test]
    fn an_outage_is_named_by_its_mode() {
        for (json, outage) in [
            (r#"{"mode":"ok"}"#, Outage::None),
            (r#"{"mode":"refuse"}"#, Outage::Refuse),
            (
                r#"{"mode":"status","status":503}"#,
                Outage::Status { status: 503 },
            ),
            (
                r#"{"mode":"rate_limited","retry_after":30}"#,
                Outage::RateLimited { retry_after: 30 },
            ),
        ] {
            assert_eq!(serde_json::from_str::<Outage>(json).unwrap(), outage);
            assert_eq!(serde_json::to_string(&outage).unwrap(), json);
        }
    }
}
