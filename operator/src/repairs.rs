//! How soon a child is put back that somebody keeps changing. The first repair is
//! made at once; a fight with another controller must not be one without an end.
//! Time comes in as an argument.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::desired::{Kind, Owner};

/// After the second repair in a row.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// What was applied is seen within so long, by a watch that works.
const SEEN: Duration = Duration::from_secs(5);

/// A child that was left alone for so long starts anew.
const FORGIVEN: Duration = Duration::from_secs(900);

/// What was applied of late.
#[derive(Debug, Default)]
pub struct Repairs {
    made: Mutex<HashMap<Key, Made>>,
}

/// Namespace, name and kind.
type Key = (String, String, Kind);

#[derive(Debug)]
struct Made {
    /// What was applied. Something else is no repair, but a new spec.
    mark: String,
    /// The version of the child that it was applied to.
    over: Option<String>,
    count: u32,
    last: Instant,
}

/// What a child was applied over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Over<'a> {
    /// The version that was seen; none when there was nothing.
    pub version: Option<&'a str>,
    /// It was what is desired, and somebody has changed it.
    pub edited: bool,
}

impl Repairs {
    /// When a child that is not as it shall be, seen at `version`, may be put back,
    /// if not now: others keep changing it, or what was applied a moment ago has not
    /// been seen yet.
    pub fn not_before(
        &self,
        owner: &Owner,
        kind: Kind,
        mark: &str,
        version: Option<&str>,
        now: Instant,
    ) -> Option<Instant> {
        let made = self.lock();
        let made = made.get(&key(owner, kind)).filter(|m| m.mark == mark)?;
        let seen = match version {
            Some(version) if made.over.as_deref() == Some(version) => SEEN,
            _ => Duration::ZERO,
        };
        let at = made.last + pause(made.count).max(seen);
        (now < at).then_some(at)
    }

    /// Notes that a child was applied, over this version. Says how often it was put back in a row:
    /// not at all when this is its first time, or that of another spec, unless it
    /// was `edited`.
    pub fn applied(
        &self,
        owner: &Owner,
        kind: Kind,
        mark: &str,
        over: Over<'_>,
        now: Instant,
    ) -> u32 {
        let Over { version, edited } = over;
        let mut all = self.lock();
        all.retain(|_, made| now.saturating_duration_since(made.last) < FORGIVEN);
        let before = all.get(&key(owner, kind)).filter(|made| made.mark == mark);
        let count = match before {
            Some(made) => made.count.saturating_add(1),
            None => u32::from(edited),
        };
        let made = Made {
            mark: mark.to_owned(),
            over: version.map(str::to_owned),
            count,
            last: now,
        };
        all.insert(key(owner, kind), made);
        count
    }

    /// Whether a child was applied of late, and not deleted since.
    pub fn knows(&self, owner: &Owner, kind: Kind) -> bool {
        self.lock().contains_key(&key(owner, kind))
    }

    /// Notes that a child is gone because the operator did not want it any more.
    pub fn forget(&self, owner: &Owner, kind: Kind) {
        self.lock().remove(&key(owner, kind));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Made>> {
        // Each note is whole, whatever happened to another thread.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(owner: &Owner, kind: Kind) -> Key {
    (owner.namespace.clone(), owner.name.clone(), kind)
}

/// After the first repair none, then twice as long each time.
fn pause(count: u32) -> Duration {
    match count.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST * (1 << doublings.min(16))).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::owner;

    const NEW: Over<'static> = Over {
        version: None,
        edited: false,
    };
    const EDITED: Over<'static> = Over {
        version: None,
        edited: true,
    };

    #[test]
    fn what_was_applied_a_moment_ago_is_not_applied_again_before_it_is_seen() {
        let (repairs, start) = (Repairs::default(), Instant::now());
        let over = Over {
            version: Some("7"),
            edited: false,
        };
        repairs.applied(&owner(), Kind::Service, "m", over, start);
        let wait = |version, seconds| {
            let now = after(start, seconds);
            repairs
                .not_before(&owner(), Kind::Service, "m", Some(version), now)
                .is_some()
        };
        assert!(wait("7", 0) && wait("7", 4));
        // A watch that has brought nothing since is not believed for ever.
        assert!(!wait("7", 5));
        // And this is news.
        assert!(!wait("8", 0));
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_two_repairs_are_made_at_once_and_then_later_and_later() {
        let (repairs, start) = (Repairs::default(), Instant::now());
        let mut now = start;
        let mut waits = Vec::new();
        for count in 1..=12 {
            let until = repairs.not_before(&owner(), Kind::Service, "m", None, now);
            waits.push(until.map_or(0, |until| (until - now).as_secs()));
            now = until.unwrap_or(now);
            let over = if count == 1 { EDITED } else { NEW };
            let made = repairs.applied(&owner(), Kind::Service, "m", over, now);
            assert_eq!(made, count);
        }
        assert_eq!(waits, [0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn to_make_a_child_is_no_repair_and_to_make_it_again_is_one() {
        let (repairs, now) = (Repairs::default(), Instant::now());
        let made = |_| repairs.applied(&owner(), Kind::Service, "m", NEW, now);
        assert_eq!([0, 1, 2].map(made), [0, 1, 2]);
    }

    #[test]
    fn a_new_spec_is_never_kept_waiting_nor_is_another_child() {
        let (repairs, now) = (Repairs::default(), Instant::now());
        for _ in 0..5 {
            repairs.applied(&owner(), Kind::Service, "m", EDITED, now);
        }
        let waits = |kind, mark| {
            repairs
                .not_before(&owner(), kind, mark, None, now)
                .is_some()
        };
        assert!(waits(Kind::Service, "m"));
        assert!(!waits(Kind::Service, "new"));
        assert!(!waits(Kind::Deployment, "m"));
        let mut other = owner();
        other.name = "other".to_owned();
        let free = repairs.not_before(&other, Kind::Service, "m", None, now);
        assert_eq!(free, None);
        assert_eq!(repairs.applied(&owner(), Kind::Service, "new", NEW, now), 0);
    }

    #[test]
    fn a_child_that_was_left_alone_for_long_starts_anew() {
        let (repairs, start) = (Repairs::default(), Instant::now());
        for _ in 0..5 {
            repairs.applied(&owner(), Kind::Service, "m", EDITED, start);
        }
        let late = after(start, 900);
        assert_eq!(
            repairs.applied(&owner(), Kind::Service, "m", EDITED, late),
            1
        );
    }
}
