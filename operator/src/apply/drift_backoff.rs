//! What was applied, what admission made of it, and how soon a child is put back that somebody keeps changing. The first repair is
//! made at once; a fight with another controller must not be one without an end.
//! Time comes in as an argument.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::apply::drift::Deviation;
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
pub struct DriftBackoff {
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    made: HashMap<Key, Made>,
    /// The children that were looked for, do not exist (another's object of the name may),
    /// and were not applied since.
    missing: HashSet<Key>,
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
    /// What admission made of it.
    rewritten: BTreeSet<Deviation>,
}

/// What there is to report of an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: the child is new, or of a new spec.
    Made,
    /// It was reverted for this many times in a row.
    Reverted(u32),
    /// Admission rewrites it, which was not known.
    Rewritten,
}

/// What a child was applied over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Over<'a> {
    /// The version that was seen; none when there was nothing.
    pub version: Option<&'a str>,
    /// It was what is desired, and somebody has changed it.
    pub edited: bool,
}

impl DriftBackoff {
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
        let notes = self.lock();
        let made = notes.of(owner, kind, mark)?;
        let seen = match version {
            Some(version) if made.over.as_deref() == Some(version) => SEEN,
            _ => Duration::ZERO,
        };
        let at = made.last + pause(made.count).max(seen);
        (now < at).then_some(at)
    }

    /// Notes that a child was applied, over this version, and which of its fields
    /// admission has `rewritten`. The first time of a spec is no revert, unless the child
    /// was `edited`.
    pub fn applied(
        &self,
        owner: &Owner,
        kind: Kind,
        mark: &str,
        over: Over<'_>,
        rewritten: BTreeSet<Deviation>,
        now: Instant,
    ) -> Applied {
        let Over { version, edited } = over;
        let mut notes = self.lock();
        notes.made.retain(|_, made| {
            let is_recent = now.saturating_duration_since(made.last) < FORGIVEN;
            is_recent || !made.rewritten.is_empty()
        });
        notes.missing.remove(&key(owner, kind));
        let before = notes.of(owner, kind, mark);
        let recent = before.filter(|made| now.saturating_duration_since(made.last) < FORGIVEN);
        let count = match recent {
            Some(made) => made.count.saturating_add(1),
            None => u32::from(edited),
        };
        let known = before.map(|made| &made.rewritten);
        let applied = if rewritten.is_empty() || known == Some(&rewritten) {
            match count {
                0 => Applied::Made,
                count => Applied::Reverted(count),
            }
        } else if known.is_none_or(BTreeSet::is_empty) {
            Applied::Rewritten
        } else {
            // In another way each time. It was reported.
            Applied::Made
        };
        let made = Made {
            mark: mark.to_owned(),
            over: version.map(str::to_owned),
            count,
            last: now,
            rewritten,
        };
        notes.made.insert(key(owner, kind), made);
        applied
    }

    /// What admission is known to make of a child. To apply it again changes nothing.
    pub fn rewritten(&self, owner: &Owner, kind: Kind, mark: &str) -> BTreeSet<Deviation> {
        let notes = self.lock();
        let made = notes.of(owner, kind, mark);
        made.map(|made| made.rewritten.clone()).unwrap_or_default()
    }

    /// Whether a child was looked for and found missing, and not applied since.
    pub fn is_missing(&self, owner: &Owner, kind: Kind) -> bool {
        self.lock().missing.contains(&key(owner, kind))
    }

    /// Notes that there is no such child, whatever else has its name.
    pub fn note_missing(&self, owner: &Owner, kind: Kind) {
        self.lock().missing.insert(key(owner, kind));
    }

    /// Notes that a child is gone because the operator did not want it any more.
    pub fn forget(&self, owner: &Owner, kind: Kind) {
        self.lock().made.remove(&key(owner, kind));
    }

    /// Forgets all children of a GatewayQueue that is gone.
    pub fn forget_all(&self, namespace: &str, name: &str) {
        let mut notes = self.lock();
        let is_other = |(in_namespace, of, _): &Key| (&**in_namespace, &**of) != (namespace, name);
        notes.made.retain(|key, _| is_other(key));
        notes.missing.retain(|key| is_other(key));
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        // Each note is whole, whatever happened to another thread.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    /// What was applied of a child, if it was this.
    fn of(&self, owner: &Owner, kind: Kind, mark: &str) -> Option<&Made> {
        let made = self.made.get(&key(owner, kind));
        made.filter(|made| made.mark == mark)
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

    fn none() -> BTreeSet<Deviation> {
        BTreeSet::new()
    }

    #[test]
    fn what_was_applied_a_moment_ago_is_not_applied_again_before_it_is_seen() {
        let (drift_backoff, start) = (DriftBackoff::default(), Instant::now());
        let over = Over {
            version: Some("7"),
            edited: false,
        };
        drift_backoff.applied(&owner(), Kind::Service, "m", over, none(), start);
        let wait = |version, seconds| {
            let now = after(start, seconds);
            drift_backoff
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
        let (drift_backoff, start) = (DriftBackoff::default(), Instant::now());
        let mut now = start;
        let mut waits = Vec::new();
        for count in 1..=12 {
            let until = drift_backoff.not_before(&owner(), Kind::Service, "m", None, now);
            waits.push(until.map_or(0, |until| (until - now).as_secs()));
            now = until.unwrap_or(now);
            let over = if count == 1 { EDITED } else { NEW };
            let made = drift_backoff.applied(&owner(), Kind::Service, "m", over, none(), now);
            assert_eq!(made, Applied::Reverted(count));
        }
        assert_eq!(waits, [0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn to_make_a_child_is_no_repair_and_to_make_it_again_is_one() {
        let (drift_backoff, now) = (DriftBackoff::default(), Instant::now());
        let made = |_| drift_backoff.applied(&owner(), Kind::Service, "m", NEW, none(), now);
        let expected = [Applied::Made, Applied::Reverted(1), Applied::Reverted(2)];
        assert_eq!([0, 1, 2].map(made), expected);
    }

    #[test]
    fn a_new_spec_is_never_kept_waiting_nor_is_another_child() {
        let (drift_backoff, now) = (DriftBackoff::default(), Instant::now());
        for _ in 0..5 {
            drift_backoff.applied(&owner(), Kind::Service, "m", EDITED, none(), now);
        }
        let waits = |kind, mark| {
            drift_backoff
                .not_before(&owner(), kind, mark, None, now)
                .is_some()
        };
        assert!(waits(Kind::Service, "m"));
        assert!(!waits(Kind::Service, "new"));
        assert!(!waits(Kind::Deployment, "m"));
        let mut other = owner();
        other.name = "other".to_owned();
        let free = drift_backoff.not_before(&other, Kind::Service, "m", None, now);
        assert_eq!(free, None);
        let made = drift_backoff.applied(&owner(), Kind::Service, "new", NEW, none(), now);
        assert_eq!(made, Applied::Made);
    }

    #[test]
    fn a_child_that_was_left_alone_for_long_starts_anew() {
        let (drift_backoff, start) = (DriftBackoff::default(), Instant::now());
        for _ in 0..5 {
            drift_backoff.applied(&owner(), Kind::Service, "m", EDITED, none(), start);
        }
        let late = after(start, 900);
        let made = drift_backoff.applied(&owner(), Kind::Service, "m", EDITED, none(), late);
        assert_eq!(made, Applied::Reverted(1));
    }

    fn label(value: &str) -> BTreeSet<Deviation> {
        BTreeSet::from([Deviation {
            field: "metadata.labels.a".to_owned(),
            value: Some(value.to_owned()),
        }])
    }

    #[test]
    fn what_admission_rewrites_is_reported_once_and_known_for_as_long_as_the_spec_stays() {
        let (drift_backoff, start) = (DriftBackoff::default(), Instant::now());
        let applied = |mark, rewritten, seconds| {
            let now = after(start, seconds);
            drift_backoff.applied(&owner(), Kind::Service, mark, EDITED, rewritten, now)
        };
        let known = |mark| drift_backoff.rewritten(&owner(), Kind::Service, mark);
        assert_eq!(applied("m", label("x"), 0), Applied::Rewritten);
        assert_eq!(known("m"), label("x"));
        // Somebody edited another field.
        assert_eq!(applied("m", label("x"), 1), Applied::Reverted(2));
        assert_eq!(applied("m", label("y"), 2), Applied::Made);
        assert_eq!(known("m"), label("y"));
        // Not forgotten when another child is applied, however late.
        drift_backoff.applied(&owner(), Kind::Role, "r", NEW, none(), after(start, 5000));
        assert_eq!((known("m"), known("new")), (label("y"), none()));
        assert_eq!(applied("new", none(), 5001), Applied::Reverted(1));
        assert_eq!(known("m"), none());
    }

    #[test]
    fn a_child_that_was_found_missing_is_so_until_it_is_applied_or_its_queue_goes() {
        let (drift_backoff, now) = (DriftBackoff::default(), Instant::now());
        let is_missing = |kind| drift_backoff.is_missing(&owner(), kind);
        assert!(!is_missing(Kind::Lease));
        drift_backoff.note_missing(&owner(), Kind::Lease);
        drift_backoff.note_missing(&owner(), Kind::NetworkPolicy);
        assert!(is_missing(Kind::Lease));
        drift_backoff.applied(&owner(), Kind::Lease, "m", NEW, none(), now);
        assert!(!is_missing(Kind::Lease) && is_missing(Kind::NetworkPolicy));
        drift_backoff.forget_all("shop", "other");
        assert!(is_missing(Kind::NetworkPolicy));
        drift_backoff.forget_all("shop", "my-bot");
        assert!(!is_missing(Kind::NetworkPolicy));
    }
}
