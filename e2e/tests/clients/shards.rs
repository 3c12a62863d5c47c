//! A bot for clients without a library: its shards are twilight's, and wait as the client does.

use std::future::IntoFuture as _;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::namespace::Namespace;
use crate::process::{Prints, Process, TOKEN};
use crate::scene::Scene;

/// Waits until the shard may identify.
pub(crate) type Wait = fn(Arc<Namespace>, u32) -> Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Deserialize)]
struct Request {
    shard: u32,
}

/// Starts a bot of four shards. Its queue is one that grants when `wait` ends.
pub(crate) async fn start(scene: &Scene, wait: Wait) -> Process {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let queue = format!("http://{}", listener.local_addr().unwrap());
    let namespace = Arc::clone(&scene.namespace);
    let grant = async move |Query(Request { shard })| wait(namespace, shard).await;
    let router = Router::new().route("/", get(grant));
    tokio::spawn(axum::serve(listener, router).into_future());
    Process::start(
        env!("CARGO_BIN_EXE_bot"),
        Prints::ToStdout,
        &[
            ("QUEUE_URL", &queue),
            ("GATEWAY_URL", &format!("ws://{}", scene.fake.discord)),
            ("DISCORD_TOKEN", TOKEN),
            ("POD_NAME", "bot-0"),
            ("SHARDS_PER_POD", "4"),
            ("SHARDS_TOTAL", "4"),
        ],
    )
}
