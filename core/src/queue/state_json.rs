//! The state of the queue as JSON, for people and their scripts.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::leadership::leader_health::Health;
use crate::pacing::pacer::breaker::CrashLooping;
use crate::pacing::shard_history::ShardState;
use crate::queue::explain;
use crate::queue::snapshot::{About, Granted, LeaderView, Snapshot};
use crate::time::Moment;

#[derive(Serialize)]
struct State<'a> {
    role: &'static str,
    /// The address for forwarded requests of a leader in another pod.
    leader: Option<SocketAddr>,
    token: &'static str,
    /// Why nothing is granted; null when shards may identify.
    blocked_by: Option<&'static str>,
    last_error: Option<&'a str>,
    max_concurrency: Option<u32>,
    recommended_shards: Option<u32>,
    session_starts: Option<SessionStarts>,
    /// Requests that wait in the buckets of this pod, including those forwarded by other pods.
    waiting: usize,
    /// The waiting clients that are connected to this pod.
    held_requests: u64,
    /// Why nothing is granted, and what to do.
    message: Option<String>,
    pod: Option<&'a str>,
    namespace: Option<&'a str>,
    /// The pod of the leader, this one or another.
    leader_pod: Option<&'a str>,
    /// The queue whose agent this process is.
    upstream: Option<&'a str>,
    version: &'static str,
    admin_port: u16,
    spacing_ms: u128,
    next_fetch_in_ms: Option<u128>,
    /// The last grants, newest first.
    last_grants: Vec<LastGrant>,
    bucket_count: usize,
    buckets: Vec<Bucket<'a>>,
    /// The shards that are held because they were granted too often, or were a moment ago.
    crash_looping: Vec<Looping>,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
struct SessionStarts {
    total: u64,
    remaining: u64,
    /// RFC 3339; null while no window is open.
    reset_time: Option<String>,
    reset_in_ms: Option<u64>,
    reserve: u64,
}

#[derive(Serialize)]
struct LastGrant {
    shard: u32,
    bucket: u32,
    granted_ms_ago: u128,
}

#[derive(Serialize)]
struct Bucket<'a> {
    bucket: u32,
    /// The time until the next grant is allowed; null while nothing is granted.
    next_grant_in_ms: Option<u128>,
    /// The number of waiting requests.
    waiting: usize,
    /// The waiting shards, the next one first; may be shortened.
    shards: &'a [u32],
}

#[derive(Serialize)]
struct Looping {
    shard: u32,
    /// The time until the shard may be granted again.
    released_in_ms: u128,
    /// The number of waiting requests, which are in no bucket.
    waiting: usize,
}

/// What is known of a shard in this term.
#[derive(Serialize)]
struct Shard {
    shard: u32,
    last_grant_ms_ago: Option<u128>,
    last_report: Option<&'static str>,
    last_report_ms_ago: Option<u128>,
    /// The identifies that Discord refused within the last ten minutes.
    invalid_sessions: usize,
}

/// Returns the JSON of /state and /events. `wall` is the wall clock's time at which the snapshot
/// was taken.
///
/// # Errors
///
/// If the state cannot be written as JSON. No known state fails.
pub fn json(snapshot: &Snapshot, about: &About, wall: Timestamp) -> serde_json::Result<String> {
    let pod = about.pod.as_ref();
    let name = pod.map(|pod| pod.name.as_str());
    let view = snapshot.leader_view.as_ref();
    let state = State {
        role: snapshot.role.as_str(),
        leader: snapshot.leader,
        token: snapshot.token.as_str(),
        blocked_by: view
            .and_then(|view| view.blocked_by)
            .map(|blocked_by| blocked_by.as_str()),
        last_error: match &snapshot.leader_health {
            Health::Unreachable { lives: true, .. } => {
                Some("this pod cannot reach the leader, although it renews its Lease")
            }
            _ if snapshot.leader_silent && about.upstream.is_some() => {
                Some("the upstream does not answer this agent")
            }
            _ if snapshot.leader_silent => Some("the leader does not answer this pod"),
            _ => snapshot.last_error.as_deref(),
        },
        max_concurrency: view.and_then(|view| view.max_concurrency),
        recommended_shards: view
            .and_then(|view| view.limits.as_ref())
            .map(|limits| limits.shards),
        session_starts: view.and_then(|view| view.session_starts(about.reserve, wall)),
        waiting: snapshot.waiting,
        held_requests: snapshot.held_requests,
        message: explain::message(snapshot, about),
        pod: name,
        namespace: pod.map(|pod| pod.namespace.as_str()),
        leader_pod: match view {
            Some(_) => name,
            None => snapshot.leader_pod.as_deref(),
        },
        upstream: about.upstream.as_deref(),
        version: env!("CARGO_PKG_VERSION"),
        admin_port: about.admin_port,
        spacing_ms: about.spacing.as_millis(),
        next_fetch_in_ms: view
            .and_then(|view| view.fetch_at)
            .map(|at| at.since(snapshot.taken).as_millis()),
        last_grants: view.map_or_else(Vec::new, |view| view.last_grants(snapshot.taken)),
        bucket_count: snapshot.buckets,
        buckets: snapshot
            .lanes
            .iter()
            .map(|lane| Bucket {
                bucket: lane.bucket,
                next_grant_in_ms: view
                    .filter(|view| view.blocked_by.is_none())
                    .map(|_| lane.free_at.since(snapshot.taken).as_millis()),
                waiting: lane.waiting,
                shards: &lane.shards,
            })
            .collect(),
        crash_looping: view.map_or_else(Vec::new, |view| view.looping(snapshot.taken)),
        shards: view.map_or_else(Vec::new, |view| view.shards(snapshot.taken)),
    };
    serde_json::to_string(&state)
}

impl LeaderView {
    fn session_starts(&self, reserve: u64, wall: Timestamp) -> Option<SessionStarts> {
        let (limits, remaining) = self.limits.as_ref().zip(self.remaining)?;
        Some(SessionStarts {
            total: limits.total,
            remaining,
            reset_time: self.reset_time.map(|time| time.to_string()),
            reset_in_ms: self.reset_in_ms(wall),
            reserve,
        })
    }

    fn last_grants(&self, now: Moment) -> Vec<LastGrant> {
        let last = |granted: &Granted| LastGrant {
            shard: granted.shard,
            bucket: granted.bucket,
            granted_ms_ago: now.since(granted.at).as_millis(),
        };
        self.granted.iter().rev().map(last).collect()
    }

    fn looping(&self, now: Moment) -> Vec<Looping> {
        let looping = |looping: &CrashLooping| Looping {
            shard: looping.shard,
            released_in_ms: looping.released_at.since(now).as_millis(),
            waiting: looping.waiting,
        };
        self.crash_looping.iter().map(looping).collect()
    }

    fn shards(&self, now: Moment) -> Vec<Shard> {
        let ago = |at: Moment| now.since(at).as_millis();
        let shard = |state: &ShardState| Shard {
            shard: state.shard,
            last_grant_ms_ago: state.last_grant.map(ago),
            last_report: state.last_report.map(|(report, _)| report.as_str()),
            last_report_ms_ago: state.last_report.map(|(_, at)| ago(at)),
            invalid_sessions: state.invalid_sessions,
        };
        self.shards.iter().map(shard).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gateway_bot::Limits;
    use crate::leadership::state::Role;
    use crate::protocol::request::Report;
    use crate::queue::snapshot::{BRIEF_BUCKETS, BRIEF_SHARDS, Pod};
    use crate::testing::{about, leader, view};

    #[test]
    fn a_short_snapshot_has_the_busiest_buckets_and_counts_all() {
        let mut lanes = vec![0; 4096];
        lanes[4000] = 9000;
        (lanes[7], lanes[8]) = (1, 2);
        let mut snapshot = leader(&lanes);
        snapshot.shorten();
        let kept: Vec<_> = snapshot.lanes.iter().map(|lane| lane.bucket).collect();
        assert_eq!(kept.len(), BRIEF_BUCKETS);
        assert_eq!(kept[..5], [7, 8, 4000, 0, 1]);
        assert_eq!(snapshot.lanes[2].shards.len(), BRIEF_SHARDS);
        let json = json(&snapshot, &about(), Timestamp::UNIX_EPOCH).unwrap();
        assert!(json.contains(r#""bucket_count":4096,"#), "{json}");
        assert!(json.contains(r#""waiting":9003,"#), "{json}");
        assert!(json.contains(r#""waiting":9000,"shards":["#), "{json}");
        assert!(json.len() < 16_000, "{}", json.len());
    }

    #[test]
    fn the_last_grant_comes_first_and_time_alone_is_no_change() {
        let mut snapshot = leader(&[1]);
        let before = snapshot.clone();
        snapshot.taken = Moment::from_nanos(11_000_000_000);
        assert!(!snapshot.has_changed_since(&before));
        for (shard, seconds) in [(3, 4), (4, 10)] {
            view(&mut snapshot).granted.push(Granted {
                shard,
                bucket: 0,
                at: Moment::ZERO + Duration::from_secs(seconds),
            });
        }
        assert!(snapshot.has_changed_since(&before));
        let json = json(&snapshot, &about(), Timestamp::UNIX_EPOCH).unwrap();
        let grants = r#""last_grants":[{"shard":4,"bucket":0,"granted_ms_ago":1000},{"shard":3,"bucket":0,"granted_ms_ago":7000}]"#;
        assert!(json.contains(grants), "{json}");
    }

    #[test]
    fn crash_looping_shards_and_what_is_known_of_each_are_exported() {
        let mut snapshot = leader(&[1]);
        let now = snapshot.taken;
        let ago = |millis| now - Duration::from_millis(millis);
        let view = view(&mut snapshot);
        view.crash_looping = vec![CrashLooping {
            shard: 7,
            released_at: now + Duration::from_millis(1234),
            waiting: 1,
        }];
        let shard = |shard, last_grant, last_report, invalid_sessions| ShardState {
            shard,
            last_grant,
            last_report,
            invalid_sessions,
        };
        view.shards = vec![
            shard(3, None, Some((Report::Resumed, ago(20))), 0),
            shard(7, Some(ago(40)), Some((Report::InvalidSession, ago(30))), 2),
        ];
        let json = json(&snapshot, &about(), Timestamp::UNIX_EPOCH).unwrap();
        let looping = r#""crash_looping":[{"shard":7,"released_in_ms":1234,"waiting":1}],"#;
        assert!(json.contains(looping), "{json}");
        let shards = r#""shards":[{"shard":3,"last_grant_ms_ago":null,"last_report":"resumed","last_report_ms_ago":20,"invalid_sessions":0},{"shard":7,"last_grant_ms_ago":40,"last_report":"invalid_session","last_report_ms_ago":30,"invalid_sessions":2}]"#;
        assert!(json.contains(shards), "{json}");
    }

    #[test]
    fn a_follower_names_the_pod_of_the_leader() {
        let mut snapshot = leader(&[]);
        let mut about = about();
        about.pod = Some(Pod {
            namespace: "bots".to_owned(),
            name: "me".to_owned(),
        });
        let mut json_of = |role, pod: Option<&str>| {
            snapshot.role = role;
            snapshot.leader_view.take_if(|_| role != Role::Leader);
            snapshot.leader_pod = pod.map(str::to_owned);
            json(&snapshot, &about, Timestamp::UNIX_EPOCH).unwrap()
        };
        assert!(json_of(Role::Leader, None).contains(r#""leader_pod":"me""#));
        assert!(json_of(Role::Follower, Some("other")).contains(r#""leader_pod":"other""#));
        assert!(json_of(Role::Expired, None).contains(r#""leader_pod":null"#));
    }

    #[test]
    fn the_time_until_the_reset_is_never_negative() {
        let mut snapshot = leader(&[1]);
        let view = view(&mut snapshot);
        view.remaining = Some(3);
        view.limits = Some(Limits {
            url: None,
            shards: 1,
            total: 1000,
            remaining: 3,
            reset_after: Duration::from_secs(5),
            max_concurrency: Some(1),
        });
        view.reset_time = Some(Timestamp::from_second(100).unwrap());
        for (wall, left) in [(70, 30_000), (100, 0), (170, 0)] {
            let wall = Timestamp::from_second(wall).unwrap();
            let json = json(&snapshot, &about(), wall).unwrap();
            let field = format!(r#""reset_in_ms":{left},"#);
            assert!(json.contains(&field), "{json}");
        }
    }
}
