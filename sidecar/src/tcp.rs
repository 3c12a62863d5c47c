//! The TCP settings that detect a lost peer.

use std::time::Duration;

use socket2::TcpKeepalive;

/// Detects a lost peer within 10 + 3 * 5 seconds.
pub(crate) const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// The time after which [`KEEPALIVE`] detects a lost peer.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(25);
