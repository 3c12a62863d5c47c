use super::*;

fn drawn(json: &str, room: Room) -> String {
    let now = "2026-11-24T22:48:00Z".parse().unwrap();
    let seen = RemoteState::parse(json.as_bytes()).unwrap();
    print(&table(&seen, now, room.rows), room, Paint::None)
}

const LEADS: &str = r#"{"role":"leader","leader":null,"token":"accepted","blocked_by":null,"last_error":null,
    "max_concurrency":16,"recommended_shards":3,
    "session_starts":{"total":1000,"remaining":993,"reset_time":"2026-11-25T02:00:00Z"},
    "waiting":13,"held_requests":9,"buckets":[
        {"bucket":0,"next_grant_in_ms":3120,"shards":[0,16]},
        {"bucket":1,"next_grant_in_ms":0,"shards":[]},
        {"bucket":7,"next_grant_in_ms":0,"shards":[7]},
        {"bucket":15,"next_grant_in_ms":12000,"shards":[15,31,47,63,79,95,111,127,143,159]}]}"#;

#[test]
fn a_queue_that_grants_shows_who_waits_where_and_for_how_long() {
    let expected = "\
leader          this queue
token           accepted
session starts  993 of 1000 left, reset in 3 h 12 min (2026-11-25T02:00:00Z)
granting        yes
waiting         13 in the buckets (16 buckets), 9 clients held here

BUCKET     NEXT IN   WAIT  SHARDS
     0       3.1 s      2  0 16
     7         now      1  7
    15        12 s     10  15 31 47 63 79 95 111 127 …
";
    assert_eq!(drawn(LEADS, Room::PAPER), expected);
}

#[test]
fn a_newer_queue_also_says_its_name_and_what_it_granted_last() {
    let expected = "\
leader          my-bot-1 (0.2.0)
token           accepted
session starts  not known
granting        yes
waiting         0 in the buckets (1 bucket), 0 clients held here
last grants     shard 4 1.5 s ago, shard 0 6.7 s ago
";
    let json = r#"{"role":"leader","pod":"my-bot-1","version":"0.2.0","token":"accepted","max_concurrency":1,
        "last_grants":[{"shard":0,"bucket":0,"granted_ms_ago":6749},{"shard":4,"bucket":0,"granted_ms_ago":1499}],
        "waiting":0,"held_requests":0,"buckets":[]}"#;
    assert_eq!(drawn(json, Room::PAPER), expected);
}

#[test]
fn a_queue_that_holds_says_why() {
    let expected = "\
leader          this queue
token           accepted
session starts  0 of 1000 left, reset was due at 2026-11-24T22:00:00Z
granting        NO: no session start is left
waiting         1 in the buckets (1 bucket), 1 clients held here

BUCKET     NEXT IN   WAIT  SHARDS
     0           -      1  4
";
    let json = r#"{"role":"leader","token":"accepted","blocked_by":"session_starts_exhausted","max_concurrency":1,
        "session_starts":{"total":1000,"remaining":0,"reset_time":"2026-11-24T22:00:00Z"},
        "waiting":1,"held_requests":1,"buckets":[{"bucket":0,"next_grant_in_ms":null,"shards":[4]}]}"#;
    assert_eq!(drawn(json, Room::PAPER), expected);
}

#[test]
fn a_pod_that_does_not_lead_says_who_does() {
    let expected = "\
leader          my-bot-1, at 10.0.0.7:9091; asked was my-bot-2
token           unchecked
session starts  not known
granting        the leader does; ask it for its buckets
waiting         0 in the buckets, 3 clients held here
";
    let json = r#"{"role":"follower","leader":"10.0.0.7:9091","leader_pod":"my-bot-1","pod":"my-bot-2","token":"unchecked","waiting":0,"held_requests":3,"buckets":[]}"#;
    assert_eq!(
        drawn(json, Room::PAPER),
        expected.replace("unchecked", "not checked yet")
    );
}

#[test]
fn what_does_not_fit_is_cut_and_counted() {
    let room = Room {
        rows: 9,
        columns: 31,
    };
    let drawn = drawn(LEADS, room);
    assert!(
        drawn.lines().all(|line| line.chars().count() <= 31),
        "{drawn}"
    );
    assert_eq!(drawn.lines().count(), 9);
    assert!(
        drawn.contains("\n     0       3.1 s      2  0 16\n"),
        "{drawn}"
    );
    assert!(
        drawn.ends_with("\n… and 2 more buckets, in which…\n"),
        "{drawn}"
    );
}
