use serde_json::{Value, json};

use super::super::remote_state::tests::leader_with;
use super::*;

fn printed(changes: Value) -> String {
    printed_to(changes, 60, usize::MAX)
}

fn printed_to(changes: Value, rows: usize, columns: usize) -> String {
    let now = "2026-11-24T22:48:00Z".parse().unwrap();
    print(
        &table(&leader_with(changes), now, rows),
        columns,
        Paint::None,
    )
}

fn busy() -> Value {
    json!({"waiting": 13, "held_requests": 9, "bucket_count": 16, "buckets": [
        {"bucket": 0, "next_grant_in_ms": 3120, "shards": [0, 16]},
        {"bucket": 1, "next_grant_in_ms": 0, "shards": []},
        {"bucket": 7, "next_grant_in_ms": 0, "shards": [7]},
        {"bucket": 15, "next_grant_in_ms": 12000, "shards": [15, 31, 47, 63, 79, 95, 111, 127, 143, 159]},
    ]})
}

#[test]
fn a_leader_shows_its_buckets_with_waiting_shards() {
    let expected = "\
leader          this queue (0.2.0)
token           accepted
session starts  993 of 1000 left, reset in 3 h 12 min (2026-11-25T02:00:00Z)
granting        yes
waiting         13 in 16 buckets; this pod holds 9

BUCKET     NEXT IN   WAIT  SHARDS
     0       3.1 s      2  0 16
     7         now      1  7
    15        12 s     10  15 31 47 63 79 95 111 127 …
";
    assert_eq!(printed(busy()), expected);
}

#[test]
fn a_leader_shows_its_pod_the_last_error_and_the_last_grants() {
    let expected = "\
leader          my-bot-1 (0.2.0)
token           not checked yet
session starts  unknown
granting        yes
waiting         0 in 1 bucket; this pod holds 0
last error      Discord answered 500
last grants     shard 4 1.5 s ago, shard 0 6.7 s ago
";
    let changes = json!({"pod": "my-bot-1", "token": "unchecked", "session_starts": null,
    "last_error": "Discord answered 500", "last_grants": [
        {"shard": 4, "bucket": 0, "granted_ms_ago": 1499},
        {"shard": 0, "bucket": 0, "granted_ms_ago": 6749},
    ]});
    assert_eq!(printed(changes), expected);
}

#[test]
fn the_start_guard_is_shown_until_the_first_grant_is_due() {
    let wait = |ms: u64| json!({"buckets": [{"bucket": 0, "next_grant_in_ms": ms, "shards": []}]});
    let shown = printed(wait(3120));
    assert!(
        shown.contains("granting        yes, the first grant is due in 3.1 s\n"),
        "{shown}"
    );
    let mut granted = wait(3120);
    granted["last_grants"] = json!([{"shard": 0, "bucket": 0, "granted_ms_ago": 2130}]);
    for changes in [wait(0), granted] {
        let shown = printed(changes);
        assert!(shown.contains("granting        yes\n"), "{shown}");
    }
}

#[test]
fn crash_looping_shards_and_those_that_are_not_ready_are_shown() {
    let shard = |shard: u32, granted: Value, report: Value, reported: Value| {
        json!({"shard": shard, "last_grant_ms_ago": granted, "last_report": report,
            "last_report_ms_ago": reported, "invalid_sessions": 0})
    };
    let none = Value::Null;
    let mut changes = json!({"crash_looping": [
        {"shard": 7, "released_in_ms": 240_000, "waiting": 1},
        {"shard": 9, "released_in_ms": 0, "waiting": 0},
    ], "shards": [
        shard(1, json!(90_000), json!("ready"), json!(88_000)),
        shard(3, json!(40_000), json!("ready"), json!(90_000)),
        shard(4, json!(12_000), none.clone(), none.clone()),
        shard(5, json!(5000), json!("invalid_session"), json!(2000)),
        shard(6, none.clone(), json!("resumed"), json!(2000)),
        shard(8, json!(2000), json!("closed"), json!(2000)),
    ]});
    let shown = printed(changes.clone());
    let crash_loop = "crash loop      shard 7, next grant in 4 min; shard 9, next grant now\n";
    assert!(shown.contains(crash_loop), "{shown}");
    let not_ready = "not ready       shard 3 granted 40 s ago, shard 4 granted 12 s ago, \
        shard 5 invalid_session 2.0 s ago, shard 8 closed 2.0 s ago\n";
    assert!(shown.contains(not_ready), "{shown}");

    // Without any report, nothing is known.
    changes["shards"] = json!([shard(3, json!(40_000), none.clone(), none.clone())]);
    let shown = printed(changes.clone());
    assert!(!shown.contains("not ready"), "{shown}");

    let closed = |id| shard(id, none.clone(), json!("closed"), json!(2000));
    changes["shards"] = (0..100).map(closed).collect();
    let shown = printed(changes);
    assert!(
        shown.contains("shard 3 closed 2.0 s ago, and 96 more\n"),
        "{shown}"
    );
}

#[test]
fn a_queue_that_does_not_grant_shows_the_servers_message() {
    let expected = "\
leader          this queue (0.2.0)
token           accepted
session starts  0 of 1000 left, reset was due at 2026-11-24T22:00:00Z
granting        NO: All used up.
waiting         1 in 1 bucket; this pod holds 1

BUCKET     NEXT IN   WAIT  SHARDS
     0           -      1  4
";
    let changes = json!({"message": "All used up.", "waiting": 1, "held_requests": 1,
        "session_starts": {"total": 1000, "remaining": 0, "reset_time": "2026-11-24T22:00:00Z"},
        "buckets": [{"bucket": 0, "next_grant_in_ms": null, "shards": [4]}]});
    assert_eq!(printed(changes), expected);
}

#[test]
fn a_pod_that_is_not_the_leader_shows_who_is() {
    let pod = json!({"pod": "my-bot-2", "token": "unchecked", "session_starts": null,
        "held_requests": 3, "bucket_count": 0});
    for (role, leader) in [
        (
            "follower",
            "my-bot-1 at 10.0.0.7:9091; this is my-bot-2 (0.2.0)",
        ),
        (
            "expired",
            "unknown: my-bot-2 (0.2.0) could not renew the Lease",
        ),
        ("none", "unknown; this is my-bot-2 (0.2.0)"),
    ] {
        let mut changes = pod.clone();
        changes["role"] = json!(role);
        if role == "follower" {
            changes["leader"] = json!("10.0.0.7:9091");
            changes["leader_pod"] = json!("my-bot-1");
        } else {
            changes["message"] = json!("No leader.");
        }
        let granting = match role {
            "follower" => "by the leader, which has the buckets",
            _ => "NO: No leader.",
        };
        let expected = format!(
            "leader          {leader}\ntoken           not checked yet\nsession starts  unknown\n\
             granting        {granting}\nwaiting         this pod holds 3\n"
        );
        assert_eq!(printed(changes), expected);
    }
}

#[test]
fn an_agent_shows_its_upstream() {
    for (message, granting) in [
        (None, "by the upstream, which has the buckets"),
        (Some("It is gone."), "NO: It is gone."),
    ] {
        let changes = json!({"role": "agent", "upstream": "my-bot.bots.svc:80", "token": "none",
            "session_starts": null, "held_requests": 3, "bucket_count": 0, "message": message});
        let expected = format!(
            "upstream        my-bot.bots.svc:80; this is its agent (0.2.0)\n\
             granting        {granting}\nwaiting         this agent holds 3\n"
        );
        assert_eq!(printed(changes), expected);
    }
}

#[test]
fn what_does_not_fit_is_cut_and_counted() {
    let printed = printed_to(busy(), 9, 31);
    assert!(
        printed.lines().all(|line| line.chars().count() <= 31),
        "{printed}"
    );
    assert_eq!(printed.lines().count(), 9);
    assert!(
        printed.contains("\n     0       3.1 s      2  0 16\n"),
        "{printed}"
    );
    assert!(
        printed.ends_with("\n… and 2 more buckets with 11 w…\n"),
        "{printed}"
    );
}
