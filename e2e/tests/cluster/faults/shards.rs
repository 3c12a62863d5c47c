//! A rollout as real shards see it, and Discord.

use std::time::Duration;

use gateway_queue_e2e::fake::record::Record;
use serde_json::json;

use super::queue::Queue;
use super::{INTERVAL, NO_SLOT_LOST};
use crate::kubectl::{Namespace, discord_api_in, shards_image, wait_for};

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_rollout_under_forty_real_shards_is_unknown_to_discord_and_to_them() {
    let namespace = Namespace::alone("shards");
    namespace.create_secret("my-bot");
    let fake = include_str!("../../../manifests/fake-discord.yaml");
    let fake = with(fake, "MAX_CONCURRENCY", "2", "8");
    namespace.apply(&fake).unwrap();
    let rolled_out = ["rollout", "status", "deployment/fake-discord"];
    namespace.kubectl(&rolled_out).unwrap();
    let spec = json!({
        "tokenSecretRef": {"name": "my-bot"},
        "discordApi": discord_api_in(namespace.name()),
    });
    let queue = Queue::start(&namespace, spec);
    let before = queue.leader();
    let bot = include_str!("../../../manifests/bot.yaml");
    let bot = with(bot, "SHARDS_TOTAL", "8", "40");
    let bot = with(&bot, "SHARDS_PER_POD", "2", "10");
    namespace.apply(&bot).unwrap();

    wait_for("the first of the shards", PATIENCE, || {
        (record(&namespace).totals.identifies >= 8).then_some(())
    });
    queue.patch(&json!({"logLevel": "debug"}));
    let identified = wait_for("a new leader", PATIENCE, || {
        let identified = record(&namespace).totals.identifies;
        let leader = queue.leader_now()?;
        (leader != before).then_some(identified)
    });
    let record = wait_for("all shards", PATIENCE, || {
        let record = record(&namespace);
        (record.totals.ready >= 40).then_some(record)
    });

    let apart = record.identifies.iter().filter_map(|i| i.since_last_ms);
    let (least, most) = apart.fold((f64::MAX, 0_f64), |(least, most), ms| {
        (least.min(ms), most.max(ms))
    });
    super::say(&format!(
        "1 rollout under real shards: {} identifies, {identified} of them before the new leader, \
         {} too early, {:.3} s to {:.3} s apart in a bucket",
        record.totals.identifies,
        record.totals.violations,
        least / 1e3,
        most / 1e3,
    ));
    assert_eq!(record.totals.violations, 0, "{:#?}", record.violations);
    assert_eq!(record.totals.identifies, 40, "{:#?}", record.identifies);
    assert!(identified < 40, "nobody waited while the leaders changed");
    assert!(least >= INTERVAL.as_secs_f64() * 1e3);
    // From turn to identify is each shard's own time.
    let most_allowed = NO_SLOT_LOST + Duration::from_millis(100);
    assert!(
        most <= most_allowed.as_secs_f64() * 1e3,
        "{:#?}",
        record.identifies
    );
    let bots = ["logs", "--selector=app.kubernetes.io/name=bot", "--tail=-1"];
    let said = namespace.kubectl(&bots).unwrap();
    assert!(said.contains("granted"), "{said}");
    assert!(!said.contains("no turn from the queue"), "{said}");
}

/// A manifest with another value of a variable, and the image that is there.
fn with(manifest: &str, variable: &str, from: &str, to: &str) -> String {
    let line = |value| format!("- name: {variable}\n              value: \"{value}\"");
    let image = "gateway-queue-e2e:dev";
    assert!(manifest.contains(&line(from)), "{variable}");
    manifest
        .replace(&line(from), &line(to))
        .replace(image, &shards_image())
}

fn record(namespace: &Namespace) -> Record {
    let service = "services/fake-discord:control/proxy/record";
    let path = format!("/api/v1/namespaces/{}/{service}", namespace.name());
    let said = namespace.kubectl(&["get", "--raw", &path]).unwrap();
    serde_json::from_str(&said).unwrap()
}
