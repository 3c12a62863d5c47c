//! How soon a peer that vanished is noticed.

use std::time::Duration;

use socket2::TcpKeepalive;

/// A peer that vanished is noticed within 10 + 3 * 5 seconds.
pub(crate) const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// So long it takes [`KEEPALIVE`] to notice that.
pub(crate) const VANISHED_AFTER: Duration = Duration::from_secs(25);
