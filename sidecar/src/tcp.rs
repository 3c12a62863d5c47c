//! The TCP settings that detect a lost peer.

use std::time::Duration;

use socket2::TcpKeepalive;

/// Detects a lost peer within 10 + 15 * 1 seconds.
///
/// There are many probes, because the kernel itself may drop them: those of all clients that
/// connected within a quarter of a second are sent in the same instant, and an interface without
/// hardware (loopback, the `veth` of a pod) drops all but 1,000 of them (`netdev_max_backlog`).
pub(crate) const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(1))
    .with_retries(15);

/// The time after which [`KEEPALIVE`] detects a lost peer.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(25);
