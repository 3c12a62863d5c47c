//! The settings.

macro_rules! table {
    ($($name:ident, $default:literal, $meaning:literal;)*) => {
        /// Every setting: its variable, its default, and its meaning.
        pub(crate) const TABLE: &[(&str, &str, &str)] =
            &[$((stringify!($name), $default, $meaning)),*];
    };
}

table! {
    HOST, "", "IP address of the queue; every IPv4 and IPv6 address if not set";
    PORT, "80", "port of the queue";
    ADMIN_PORT, "9090", "port of the status page, /livez, /readyz, /metrics and /state";
    DISCORD_TOKEN, "", "the bot's token; environment only";
    DISCORD_TOKEN_FILE, "", "file that contains the token; takes precedence over DISCORD_TOKEN";
    DISCORD_API, "https://discord.com/api/v10", "base URL of Discord's REST API";
    DISCORD_CA_FILE, "", "file of CA certificates, in PEM, to trust for DISCORD_API and a proxy";
    MAX_CONCURRENCY, "1", "number of buckets if there is no token";
    IDENTIFY_INTERVAL, "5s", "Discord's interval between two identifies of a bucket";
    IDENTIFY_MARGIN, "250ms", "added to the interval";
    ALLOW_UNSAFE_INTERVAL, "false", "allow an interval below 5s, for tests";
    START_GUARD, "true", "grant nothing for interval + margin after a start";
    SESSION_RESERVE, "0", "session starts that are never granted";
    REFRESH_INTERVAL, "5m", "how often to ask Discord for the limits";
    RESERVATION_TTL, "60s", "how long the position of a disconnected waiter is reserved";
    SHARD_BURST, "10", "grants of a shard within SHARD_WINDOW, after which it is held; 0 for no limit";
    SHARD_WINDOW, "10m", "how long a grant counts for SHARD_BURST";
    LEASE_NAME, "", "Lease of the leader election; not set outside Kubernetes";
    LEASE_NAMESPACE, "", "namespace of the Lease";
    LEASE_DURATION, "15s", "how long a leader's last renewal is valid";
    POD_NAME, "", "name of this pod";
    POD_IP, "", "IP address of this pod, for the other pods";
    PEER_PORT, "9091", "port for requests that other pods forward, in the cluster";
    SHUTDOWN_GRACE, "10m", "how long to forward waiting clients after SIGTERM, in the cluster";
    UPSTREAM, "", "http:// URL of a queue; forward requests to it as its agent, with no queue here";
    UPSTREAM_ADMIN_PORT, "9090", "admin port of that queue, for /gateway/bot";
    LOG_FORMAT, "text", "format of the log: text or json";
    RUST_LOG, "info", "level of the log, such as debug or gateway_queue=debug";
}
