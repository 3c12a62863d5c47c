//! A rollout under real shards.

use std::time::Duration;

use gateway_queue_e2e::fake::record::Record;
use serde_json::json;

use super::queue::Queue;
use super::{INTERVAL, NO_SLOT_LOST};
use crate::kubectl::{Namespace, say, shards_image};
use crate::schedule::{ChangesPods, Phase};
use crate::wait::{wait_for, wait_until};

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_rollout_under_forty_real_shards_is_invisible_to_them_and_to_discord() {
    let namespace = Namespace::in_phase("shards", Phase::Timing);
    let pods = ChangesPods::wait();
    namespace.create_secret("my-bot");
    let fake = include_str!("../../../manifests/fake-discord.yaml");
    let fake = with(fake, "MAX_CONCURRENCY", "2", "8");
    namespace.apply(&fake).unwrap();
    let rolled_out = "rollout status deployment/fake-discord";
    namespace.kubectl(rolled_out).unwrap();
    let api = format!("http://fake-discord.{}.svc:8080/api/v10", namespace.name());
    let spec = json!({"tokenSecretRef": {"name": "my-bot"}, "discordApi": api});
    let queue = Queue::start(&namespace, spec);
    let before = queue.leader();
    let bot = include_str!("../../../manifests/bot.yaml");
    let bot = with(bot, "SHARDS_TOTAL", "8", "40");
    let bot = with(&bot, "SHARDS_PER_POD", "2", "10");
    namespace.apply(&bot).unwrap();

    wait_until("the first identifies", PATIENCE, || {
        record(&queue).totals.identifies >= 8
    });
    queue.patch(&json!({"logLevel": "debug"}));
    let identified = wait_for("a new leader", PATIENCE, || {
        let identified = record(&queue).totals.identifies;
        let leader = queue.leader_now()?;
        (leader != before).then_some(identified)
    });
    drop(pods);
    let record = wait_for("all shards", PATIENCE, || {
        let record = record(&queue);
        (record.totals.ready >= 40).then_some(record)
    });

    let spacings = record.identifies.iter().filter_map(|i| i.since_last_ms);
    let (min, max) = spacings.fold((f64::MAX, 0_f64), |(min, max), ms| {
        (min.min(ms), max.max(ms))
    });
    say(&format!(
        "rollout under real shards: {} identifies, {identified} of them before the new leader, \
         {} too early, {min:.0} ms to {max:.0} ms apart in a bucket",
        record.totals.identifies, record.totals.violations,
    ));
    assert_eq!(record.totals.violations, 0, "{:#?}", record.violations);
    assert_eq!(record.totals.identifies, 40, "{:#?}", record.identifies);
    assert!(identified < 40, "no shard waited while the leader changed");
    assert!(min >= INTERVAL.as_secs_f64() * 1e3);
    // A shard takes its own time from the grant to the identify.
    let allowed = NO_SLOT_LOST + Duration::from_millis(100);
    let allowed = allowed.as_secs_f64() * 1e3;
    assert!(max <= allowed, "{:#?}", record.identifies);
    let logs = "logs --selector=app.kubernetes.io/name=bot --tail=-1";
    let log = namespace.kubectl(logs).unwrap();
    assert!(log.contains("granted"), "{log}");
    // The client logs only failures.
    assert!(!log.contains("gateway_queue_client"), "{log}");
}

/// Returns a manifest with another value of a variable, and the image of this run.
fn with(manifest: &str, variable: &str, from: &str, to: &str) -> String {
    let line = |value| format!("- name: {variable}\n              value: \"{value}\"");
    let image = "gateway-queue-e2e:dev";
    assert!(manifest.contains(&line(from)), "{variable}");
    manifest
        .replace(&line(from), &line(to))
        .replace(image, &shards_image())
}

fn record(queue: &Queue<'_>) -> Record {
    let service = "services/fake-discord:control/proxy/record";
    let path = format!("/api/v1/namespaces/{}/{service}", queue.namespace.name());
    let record = queue.api.read(&path).unwrap();
    serde_json::from_value(record).unwrap()
}
