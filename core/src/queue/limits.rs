//! The limits for clients that would otherwise ask Discord.

use std::time::Duration;

use jiff::Timestamp;

use crate::gateway_bot::{Limits, Unknown};
use crate::lease_state::TokenState;
use crate::queue::explain;
use crate::queue::snapshot::{About, LeaderView, Snapshot};

/// Returns the JSON that Discord would send at `wall`, except that the session starts left are
/// those that the queue counts above its reserve.
///
/// # Errors
///
/// Why the limits are unknown.
pub fn json(snapshot: &Snapshot, about: &About, wall: Timestamp) -> Result<String, Unknown> {
    let accepted = snapshot.token == TokenState::Accepted;
    let view = snapshot.leader_view.as_ref().filter(|_| accepted);
    let limits = view.and_then(|view| limits(view, about.reserve, wall));
    limits
        .and_then(|limits| limits.json())
        .ok_or_else(|| Unknown {
            message: why_unknown(snapshot, about),
        })
}

fn limits(view: &LeaderView, reserve: u64, wall: Timestamp) -> Option<Limits> {
    let reported = view.limits.clone()?;
    Some(Limits {
        remaining: view.remaining?.saturating_sub(reserve),
        reset_after: match view.reset_in_ms(wall) {
            Some(left) => Duration::from_millis(left),
            None => reported.reset_after,
        },
        max_concurrency: view.max_concurrency,
        ..reported
    })
}

fn why_unknown(snapshot: &Snapshot, about: &About) -> String {
    let reason = explain::message(snapshot, about);
    reason.unwrap_or_else(|| {
        match snapshot.token {
            TokenState::None => {
                "The queue has no token, so it does not know the limits. Ask Discord, or configure \
                 the bot's token in the queue."
            }
            _ => "Discord has not reported the limits and the URL of its gateway yet.",
        }
        .to_owned()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lease_state::BlockedBy;
    use crate::testing::{about, leader, view};

    /// Returns the snapshot of a leader to which Discord reported a window that ends in second 100.
    fn reported() -> Snapshot {
        let mut snapshot = leader(&[0; 16]);
        let view = view(&mut snapshot);
        view.limits = Some(Limits {
            url: Some("wss://x".into()),
            shards: 9,
            total: 1000,
            remaining: 990,
            reset_after: Duration::from_secs(60),
            max_concurrency: Some(16),
        });
        view.remaining = Some(980);
        view.reset_time = Some(Timestamp::from_second(100).unwrap());
        snapshot
    }

    fn json_at(snapshot: &Snapshot, about: &About, second: i64) -> Result<String, String> {
        let wall = Timestamp::from_second(second).unwrap();
        json(snapshot, about, wall).map_err(|unknown| unknown.message)
    }

    #[test]
    fn the_remaining_session_starts_are_the_queues_count_above_the_reserve() {
        let (snapshot, mut about) = (reported(), about());
        for (reserve, remaining) in [(0, 980), (50, 930), (980, 0), (u64::MAX, 0)] {
            about.reserve = reserve;
            let expected = format!(
                r#"{{"url":"wss://x","shards":9,"session_start_limit":{{"total":1000,"remaining":{remaining},"reset_after":70000,"max_concurrency":16}}}}"#
            );
            assert_eq!(json_at(&snapshot, &about, 30), Ok(expected));
        }
    }

    #[test]
    fn the_time_until_the_reset_counts_down_to_zero() {
        let mut snapshot = reported();
        let reset_after = |snapshot: &Snapshot, second| {
            let json = json_at(snapshot, &about(), second).unwrap();
            let (_, rest) = json.split_once(r#""reset_after":"#).unwrap();
            rest.split_once(',').unwrap().0.parse::<u64>().unwrap()
        };
        for (second, left) in [(40, 60_000), (99, 1000), (100, 0), (5000, 0)] {
            assert_eq!(reset_after(&snapshot, second), left);
        }
        // No window is open.
        let view = view(&mut snapshot);
        view.reset_time = None;
        view.limits.as_mut().unwrap().reset_after = Duration::ZERO;
        assert_eq!(reset_after(&snapshot, 40), 0);
    }

    #[test]
    fn while_the_limits_are_unknown_the_message_says_why() {
        let why = |change: &dyn Fn(&mut Snapshot)| {
            let mut snapshot = reported();
            change(&mut snapshot);
            json_at(&snapshot, &about(), 0).unwrap_err()
        };
        let message = why(&|snapshot| view(snapshot).limits.as_mut().unwrap().url = None);
        assert!(message.contains("the URL of its gateway"), "{message}");
        let message = why(&|snapshot| {
            view(snapshot).limits = None;
            view(snapshot).blocked_by = Some(BlockedBy::SessionStartsUnknown);
        });
        assert!(message.starts_with("Discord has not reported"), "{message}");
        let message = why(&|snapshot| {
            snapshot.token = TokenState::Rejected;
            view(snapshot).blocked_by = Some(BlockedBy::TokenRejected);
        });
        assert!(message.starts_with("Discord rejects"), "{message}");
        let message = why(&|snapshot| {
            snapshot.token = TokenState::None;
            view(snapshot).limits = None;
        });
        assert!(message.starts_with("The queue has no token"), "{message}");
    }
}
