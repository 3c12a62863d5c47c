use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::leadership::term::ReceivedHandover;
use crate::pacing::shard_history::ShardLimit;
use crate::queue::state_json;
use crate::testing::{self, story};

const SPACING: Duration = Duration::from_millis(5250);
const WALL: Timestamp = Timestamp::UNIX_EPOCH;
/// The end of the leader's right to grant.
const UNTIL: u64 = 60;

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

fn config() -> Config {
    let mut config = story::config(Duration::from_secs(60));
    config.spacing = SPACING;
    config.rules.refresh = Duration::from_secs(10);
    config
}

fn token() -> Current {
    Current::Token(BotToken::parse("abc").unwrap())
}

fn leads(number: u64, until: Moment) -> LeadershipState {
    let mut leadership = LeadershipState::alone(ReceivedHandover::NONE);
    let term = leadership.term.as_mut().unwrap();
    (term.number, term.until) = (number, until);
    leadership
}

fn follows() -> LeadershipState {
    LeadershipState {
        leader: Some(Leader {
            holder: "b_01-1".to_owned(),
            address: ([10, 0, 0, 2], 9091).into(),
        }),
        ..LeadershipState::UNKNOWN
    }
}

fn limits(remaining: u64) -> Outcome {
    Outcome::Limits(Limits {
        url: None,
        shards: 3,
        total: 1000,
        remaining,
        reset_after: Duration::from_secs(3600),
        max_concurrency: Some(1),
    })
}

fn unavailable() -> Outcome {
    Outcome::Invalid("Discord answered 503".to_owned())
}

/// Returns a leader to which Discord reported 900 session starts, that granted one, and that has
/// received no response from Discord since.
fn leader() -> TermQueue {
    let mut queue = TermQueue::new(config(), leads(1, at(UNTIL)), token(), at(0));
    assert!(queue.fetch_due(at(0)).is_some());
    queue.fetched(limits(900), at(0), WALL, 0.0);
    queue.offer(WaiterId(1), 7, at(1), at(1));
    let (grant, _) = queue.grant(at(1)).unwrap();
    queue.written(&grant, at(1));
    assert!(queue.fetch_due(at(20)).is_some());
    queue.fetched(unavailable(), at(20), WALL, 0.0);
    queue
}

/// Returns /state.
fn state(queue: &TermQueue, now: Moment) -> Value {
    let snapshot = queue.snapshot(Detail::Shards, 0, now);
    let json = state_json::json(&snapshot, &testing::about(), WALL).unwrap();
    serde_json::from_str(&json).unwrap()
}

/// Asserts that /state has no field of a leader.
fn assert_nothing_of_a_leader(queue: &TermQueue, now: Moment) {
    let state = state(queue, now);
    assert!(testing::leader_fields(&state).is_empty(), "{state}");
    assert_eq!(state["token"], "unchecked", "{state}");
}

#[test]
fn a_leader_exports_what_discord_reported() {
    let state = state(&leader(), at(21));
    assert_eq!(state["session_starts"]["remaining"], 899);
    assert_eq!(state["last_error"], "Discord answered 503");
    assert_eq!(state["last_grants"][0]["shard"], 7);
}

#[test]
fn a_former_leader_exports_nothing_that_only_a_leader_knows() {
    for leadership in [follows(), LeadershipState::UNKNOWN] {
        let mut former = leader();
        assert!(former.set_leadership(leadership.clone(), at(30)));
        assert_nothing_of_a_leader(&former, at(30));
        let never_led = TermQueue::new(config(), leadership, token(), at(0));
        assert_eq!(state(&former, at(30)), state(&never_led, at(30)));
        assert_eq!(former.published_state("a"), never_led.published_state("a"));
    }
}

#[test]
fn a_leader_whose_right_has_expired_exports_it_again_only_when_it_is_renewed() {
    let mut queue = leader();
    queue.offer(WaiterId(2), 8, at(2), at(2));
    assert_nothing_of_a_leader(&queue, at(UNTIL));
    let expired = state(&queue, at(UNTIL));
    assert_eq!(expired["role"], "expired");
    assert_eq!(expired["buckets"][0]["shards"], json!([8]));
    let published = queue.published_state("a").entry;
    assert_eq!(published.session_starts.unwrap().remaining, 899);
    // No other pod has been the leader since.
    assert!(!queue.set_leadership(leads(1, at(UNTIL + 60)), at(UNTIL + 1)));
    let state = state(&queue, at(UNTIL + 1));
    assert_eq!(state["session_starts"]["remaining"], 899);
}

#[test]
fn a_new_term_knows_nothing_of_the_term_before() {
    let mut queue = leader();
    queue.set_leadership(follows(), at(30));
    queue.set_leadership(leads(2, at(90)), at(40));
    let state = state(&queue, at(40));
    assert_eq!(state["blocked_by"], "session_starts_unknown");
    assert_eq!(state["last_error"], Value::Null);
}

#[test]
fn a_token_that_is_missing_is_reported_by_every_pod() {
    let error = "cannot read /t".to_owned();
    let mut queue = leader();
    queue.token_changed(Current::Missing(error.clone()), at(25));
    queue.set_leadership(follows(), at(30));
    let state = state(&queue, at(30));
    assert_eq!(state["token"], "missing");
    assert_eq!(state["blocked_by"], Value::Null);
    assert_eq!(state["last_error"], error);
}

#[test]
fn a_handover_waits_for_the_last_grant() {
    let mut queue = leader();
    let term = leads(1, at(UNTIL)).term.unwrap();
    assert_eq!(queue.handover("uid", &term, at(30)), None);
    queue.offer(WaiterId(2), 8, at(30), at(30));
    let (grant, until) = queue.grant(at(30)).unwrap();
    assert_eq!(until, at(UNTIL));
    queue.set_leadership(LeadershipState::UNKNOWN, at(31));
    assert_eq!(queue.handover("uid", &term, at(31)), None);
    queue.written(&grant, at(31));
    let left = queue.handover("uid", &term, at(32)).unwrap();
    assert_eq!(left.waits, [SPACING - Duration::from_secs(1)]);
    // Another term than the one that ended never began here.
    let other = leads(2, at(UNTIL)).term.unwrap();
    let left = queue.handover("uid", &other, at(32)).unwrap();
    assert!(left.waits.is_empty());
}

#[test]
fn a_process_without_the_right_to_grant_neither_grants_nor_fetches() {
    let mut queue = leader();
    queue.offer(WaiterId(2), 8, at(30), at(30));
    assert!(queue.wake_at(at(30)).is_some());
    for now in [UNTIL, UNTIL + 3600] {
        assert_eq!(queue.grant(at(now)), None);
        assert_eq!(queue.fetch_due(at(now)), None);
        assert_eq!(queue.wake_at(at(now)), None);
    }
    let refusal = queue.give_up(WaiterId(2), at(UNTIL)).unwrap();
    assert_eq!(refusal.reason, Reason::NoLeader);
    queue.set_leadership(follows(), at(UNTIL));
    assert_eq!(queue.offer(WaiterId(3), 9, at(UNTIL), at(UNTIL)), None);
}

/// Returns a leader without a token that has granted shard 7 at 1 s, as often as it may within 10 s.
fn leader_with_a_limit() -> TermQueue {
    let mut config = config();
    config.shard_limit = ShardLimit {
        burst: 1,
        window: Duration::from_secs(10),
    };
    let mut queue = TermQueue::new(config, leads(1, at(UNTIL)), Current::None, at(0));
    queue.offer(WaiterId(1), 7, at(1), at(1));
    let (grant, _) = queue.grant(at(1)).unwrap();
    queue.written(&grant, at(1));
    queue
}

#[test]
fn a_shard_is_published_as_crash_looping_from_its_next_request_on() {
    let mut queue = leader_with_a_limit();
    let published = |queue: &TermQueue| queue.published_state("a").entry.crash_looping_shards;
    assert!(published(&queue).is_empty());
    assert_eq!(queue.wake_at(at(2)), None);
    queue.offer(WaiterId(2), 7, at(2), at(2));
    assert_eq!(published(&queue), [7]);
    assert_eq!(queue.released_at(7), Some(at(11)));
    let held = json!([{"shard": 7, "released_in_ms": 9000, "waiting": 1}]);
    assert_eq!(state(&queue, at(2))["crash_looping"], held);
    assert_eq!(queue.wake_at(at(2)), Some(at(11)));

    let refusal = queue.give_up(WaiterId(2), at(3)).unwrap();
    assert_eq!(refusal.reason, Reason::CrashLooping);
    assert_eq!(refusal.position, None);
    assert_eq!(refusal.retry_after, Duration::from_secs(8));
    assert_eq!(queue.grant(at(11)), None);
    assert_eq!((queue.released_at(7), published(&queue)), (None, vec![7]));
    let released = json!([{"shard": 7, "released_in_ms": 0, "waiting": 0}]);
    assert_eq!(state(&queue, at(11))["crash_looping"], released);
    assert_eq!(queue.wake_at(at(11)), Some(at(21)));
    assert_eq!(queue.grant(at(21)), None);
    assert!(published(&queue).is_empty() && queue.wake_at(at(21)).is_none());
}

#[test]
fn a_report_is_exported_by_a_leader_and_dropped_without_the_right_to_grant() {
    let mut queue = leader_with_a_limit();
    queue.report(7, Report::Ready, at(2));
    queue.report(9, Report::Closed, at(UNTIL));
    let shard = json!([{"shard": 7, "last_grant_ms_ago": 2000, "last_report": "ready",
        "last_report_ms_ago": 1000, "invalid_sessions": 0}]);
    assert_eq!(state(&queue, at(3))["shards"], shard);
    queue.set_leadership(follows(), at(4));
    assert!(testing::leader_fields(&state(&queue, at(4))).is_empty());
    queue.report(7, Report::Closed, at(4));
    queue.set_leadership(leads(2, at(UNTIL)), at(5));
    assert_eq!(state(&queue, at(5))["shards"], json!([]));
}

#[test]
fn shards_with_many_invalid_sessions_are_published_for_as_long_as_they_count() {
    let published = |queue: &TermQueue| queue.published_state("a").entry.invalid_session_shards;
    let mut queue = TermQueue::new(config(), leads(1, at(3600)), Current::None, at(0));
    for n in 0..4 {
        let now = at(n * 60);
        assert_eq!(published(&queue), [0; 0]);
        queue.offer(WaiterId(n), 7, now, now);
        let (grant, _) = queue.grant(now).unwrap();
        queue.written(&grant, now);
        queue.report(7, Report::InvalidSession, now);
    }
    assert_eq!(published(&queue), [7]);
    assert_eq!(queue.wake_at(at(180)), Some(at(600)));
    assert_eq!(queue.grant(at(600)), None);
    assert_eq!(published(&queue), [0; 0]);
    assert_eq!(queue.wake_at(at(600)), None);
}
