//! Clients without a library.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tokio::time::timeout;

use crate::examples::folder;
use crate::fake::http;
use crate::process::PATIENCE;
use crate::scene::{Scene, grants};

#[tokio::test]
async fn the_shell_script_ends_at_the_grant() {
    let scene = Scene::start("curl").await;
    let queue = scene.queue("250ms").await;
    let script = format!("{}/curl.sh", folder());
    let mut client = scene.client(&["sh", &script, "3"], &[]);
    let status = timeout(PATIENCE, client.end()).await.unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(grants(&queue).await, 1);
}

/// As PluralKit's client does.
#[tokio::test]
async fn a_client_that_ignores_the_status_and_gives_up_after_30_s_is_granted_after_90_s() {
    const RESET: Duration = Duration::from_secs(90);

    let scene = Scene::start("pluralkit").await;
    let started = Instant::now();
    scene.exhaust(RESET).await;
    let queue = scene.queue("250ms").await;
    let request = || {
        let url = format!("http://{}/?shard=1", queue.clients);
        http().get(url).timeout(Duration::from_secs(30)).send()
    };
    let response = loop {
        match request().await {
            Ok(response) => break response,
            Err(error) => assert!(error.is_timeout(), "{error}"),
        }
    };
    let waited = started.elapsed();
    assert!((RESET..RESET + PATIENCE).contains(&waited), "{waited:?}");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(grants(&queue).await, 1);
}
