//! What can be set.

/// Every setting: its variable, its default, and what it means.
pub(super) const TABLE: &[(&str, &str, &str)] = &[
    (
        "HOST",
        "",
        "IP address where the queue listens; all of IPv4 and IPv6 when absent",
    ),
    ("PORT", "80", "port where the queue listens"),
    (
        "ADMIN_PORT",
        "9090",
        "port of the page, /livez, /readyz, /metrics and /state",
    ),
    (
        "DISCORD_TOKEN",
        "",
        "the bot's token; from the environment only",
    ),
    (
        "DISCORD_TOKEN_FILE",
        "",
        "file that holds the token, watched; wins over DISCORD_TOKEN",
    ),
    (
        "DISCORD_API",
        "https://discord.com/api/v10",
        "base URL of Discord's REST API",
    ),
    (
        "MAX_CONCURRENCY",
        "1",
        "number of buckets while there is no token",
    ),
    (
        "IDENTIFY_INTERVAL",
        "5s",
        "Discord's interval between two identifies of a bucket",
    ),
    ("IDENTIFY_MARGIN", "250ms", "added to the interval"),
    (
        "ALLOW_UNSAFE_INTERVAL",
        "false",
        "accept an interval below 5s (for tests)",
    ),
    (
        "START_GUARD",
        "true",
        "grant nothing for interval + margin after a start",
    ),
    ("SESSION_RESERVE", "0", "session starts to leave untouched"),
    ("REFRESH_INTERVAL", "5m", "how often to fetch the limits"),
    (
        "RESERVATION_TTL",
        "60s",
        "how long the place of a waiter that went away is kept",
    ),
    (
        "LEASE_NAME",
        "",
        "the Lease that says who leads; none outside of Kubernetes",
    ),
    ("LEASE_NAMESPACE", "", "its namespace"),
    (
        "LEASE_DURATION",
        "15s",
        "how long a leader is believed to lead after its last renewal",
    ),
    ("POD_NAME", "", "the name of this pod"),
    ("POD_IP", "", "its IP address, for the other pods"),
    (
        "PEER_PORT",
        "9091",
        "port where the other pods of the queue ask, in the cluster",
    ),
    (
        "SHUTDOWN_GRACE",
        "10m",
        "how long to forward those who wait after SIGTERM, in the cluster",
    ),
    ("LOG_FORMAT", "text", "text or json"),
    (
        "RUST_LOG",
        "info",
        "what is logged, such as debug or gateway_queue=debug",
    ),
];
