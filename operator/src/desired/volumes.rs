//! The volumes of the queue: the bot's token, and its credentials for the API server.

use serde_json::{Value, json};

use crate::api::{DiscordCaRef, GatewayQueueSpec, TokenSecretRef};

/// The file of the bot's token, in the queue's container.
pub(super) const TOKEN_FILE: &str = "/var/run/secrets/gatewayqueue.dev/token";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/gatewayqueue.dev";
const TOKEN: &str = "token";

/// The file of the CA certificates for Discord's API, in the queue's container.
pub(super) const CA_FILE: &str = "/etc/gateway-queue/discord-ca/ca.crt";
const CA_DIRECTORY: &str = "/etc/gateway-queue/discord-ca";
const CA: &str = "discord-ca";

/// The directory in which every Kubernetes client expects its credentials.
const ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ACCOUNT: &str = "service-account";

/// The volumes of the pod.
pub(super) fn volumes(spec: &GatewayQueueSpec) -> Vec<Value> {
    let token = spec.token_secret_ref.as_ref().map(token_volume);
    let ca = spec.discord_ca_ref.as_ref().map(ca_volume);
    let all = [Some(account_volume()), token, ca];
    all.into_iter().flatten().collect()
}

/// The mounts of the container.
pub(super) fn mounts(spec: &GatewayQueueSpec) -> Vec<Value> {
    let mount = |name: &str, directory: &str| json!({"name": name, "mountPath": directory, "readOnly": true});
    let token = spec.token_secret_ref.as_ref();
    let token = token.map(|_| mount(TOKEN, TOKEN_DIRECTORY));
    let ca = spec.discord_ca_ref.as_ref();
    let ca = ca.map(|_| mount(CA, CA_DIRECTORY));
    let all = [Some(mount(ACCOUNT, ACCOUNT_DIRECTORY)), token, ca];
    all.into_iter().flatten().collect()
}

/// The token of the service account, which the kubelet renews, and the CA certificates of the API
/// server: what Kubernetes mounts by default, without what the queue does not read.
fn account_volume() -> Value {
    // Kubernetes creates it in each namespace.
    let certificates = json!({
        "name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}],
    });
    json!({"name": ACCOUNT, "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": certificates},
    ]}})
}

/// The token as a file, so that a change takes effect without a restart. It is optional: with a
/// required volume, a missing Secret would block the pod with the reason only in an event, while
/// the queue itself can report it.
fn token_volume(token: &TokenSecretRef) -> Value {
    json!({"name": TOKEN, "secret": {
        "secretName": token.name,
        "optional": true,
        "items": [{"key": token.key, "path": TOKEN}],
    }})
}

/// The CA certificates as a file. It is optional, like the token.
fn ca_volume(ca: &DiscordCaRef) -> Value {
    json!({"name": CA, "configMap": {
        "name": ca.name,
        "optional": true,
        "items": [{"key": ca.key, "path": "ca.crt"}],
    }})
}
