//! The reports to the server.

use std::time::Duration;

use crate::server::{Server, with_causes};

/// The time limit of a report: the server answers immediately.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// Discord has started a session (`READY`).
    Ready,
    /// Discord has resumed the session (`RESUMED`).
    Resumed,
    /// Discord has refused the identify, or ended the session (`INVALID_SESSION`).
    InvalidSession,
    /// The connection was closed.
    Closed,
}

impl Report {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Resumed => "resumed",
            Self::InvalidSession => "invalid_session",
            Self::Closed => "closed",
        }
    }
}

/// Sends one report.
pub(crate) async fn send(server: Server, shard: u32, report: Report) {
    let report = report.as_str();
    let request = server.get(shard, "report", report).timeout(TIMEOUT);
    let response = request.send().await;
    if let Err(error) = response.and_then(reqwest::Response::error_for_status) {
        let error = with_causes(&error);
        tracing::debug!(shard, report, error, "the report failed");
    }
}
