//! A queue as users have it: with a token, and asked by shards.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Namespace, TOKEN, variable};

/// The selector of the pods that [`start`] makes.
pub(crate) const PODS: &str = "app.kubernetes.io/instance=bot";

/// The address of the fake Discord that the scenario before these tests left.
pub(crate) fn discord_api() -> String {
    let namespace = variable("E2E_NAMESPACE");
    format!("http://fake-discord.{namespace}.svc:8080/api/v10")
}

/// The queue `bot`, once it grants and all its pods are ready.
pub(crate) fn start(namespace: &Namespace, replicas: u32) {
    let token = format!("--from-literal=token={TOKEN}");
    let secret = ["create", "secret", "generic", "bot", &token];
    namespace.kubectl(&secret).unwrap();
    let queue = json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1",
        "kind": "GatewayQueue",
        "metadata": {"name": "bot"},
        "spec": {
            "tokenSecretRef": {"name": "bot"},
            "discordApi": discord_api(),
            "port": 80,
            "replicas": replicas,
        },
    });
    namespace
        .feed(&["apply", "--filename", "-"], &queue.to_string())
        .unwrap();
    namespace.wait_until_ready("bot");
    // That is said as soon as one pod grants.
    let all = ["rollout", "status", "deployment/bot", "--timeout=180s"];
    namespace.kubectl(&all).unwrap();
}

/// A port of each pod with this label; our machine reaches the pods.
pub(crate) fn addresses(namespace: &Namespace, label: &str, port: u16) -> Vec<SocketAddr> {
    let selector = format!("--selector={label}");
    let said = namespace
        .kubectl(&["get", "pods", &selector, "--output=json"])
        .unwrap();
    let list: Value = serde_json::from_str(&said).unwrap();
    let pods = list["items"].as_array().unwrap();
    pods.iter()
        .filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok())
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

/// The body of a 200, by HTTP/1.0, so that it is as long as the connection.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    let said = exchange().map_err(|error| format!("{address}: {error}"))?;
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(said),
    }
}
