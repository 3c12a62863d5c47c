//! Limits how often a child is reverted that another client keeps changing: the first two
//! reverts are immediate, then the pauses double. Also remembers what admission makes of each
//! child. Time is an argument.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::apply::drift::Deviation;
use crate::desired::{Kind, Owner};
use crate::lock;
use crate::pause::doubled;

/// The pause after the second revert in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// The time within which a working watch returns what was applied.
const WATCH_DELAY: Duration = Duration::from_secs(5);

/// The time without a change after which the pauses start again.
const RESET: Duration = Duration::from_secs(900);

/// What was applied recently.
#[derive(Debug, Default)]
pub struct DriftBackoff {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: HashMap<Key, LastApply>,
    /// The children that are known not to exist (an object of another owner may), and were not
    /// applied since.
    missing: HashSet<Key>,
}

/// Namespace, name and kind.
type Key = (String, String, Kind);

#[derive(Debug)]
struct LastApply {
    /// The hash of the manifest. Another hash is a new spec, not a revert.
    hash: String,
    /// The version of the child that it replaced.
    over: Option<String>,
    /// The reverts in a row.
    count: u32,
    at: Instant,
    /// Whether its watch has returned the child since.
    is_observed: bool,
    /// The fields that admission rewrote.
    rewritten: BTreeSet<Deviation>,
}

/// What to report about an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The child or its spec is new.
    Nothing,
    /// The child was reverted this many times in a row.
    Reverted(u32),
    /// Admission rewrites the child, which was not known.
    Rewritten,
}

/// The child before an apply.
#[derive(Clone, Copy, Debug, Default)]
pub struct Over<'a> {
    /// The observed version, if the child existed.
    pub version: Option<&'a str>,
    /// Whether another client changed it from the desired state.
    pub edited: bool,
}

impl DriftBackoff {
    /// Returns when a drifted child, observed at `version`, may be applied, if not now: another
    /// client keeps changing it, or the watch has not returned the last apply yet.
    pub fn not_before(
        &self,
        owner: &Owner,
        kind: Kind,
        hash: &str,
        version: Option<&str>,
        now: Instant,
    ) -> Option<Instant> {
        let state = lock(&self.state);
        let last = state.of(owner, kind, hash)?;
        let delay = match version {
            Some(version) if last.over.as_deref() == Some(version) => WATCH_DELAY,
            _ => Duration::ZERO,
        };
        let at = last.at + pause(last.count).max(delay);
        (now < at).then_some(at)
    }

    /// Records that a child was applied, and which of its fields admission has `rewritten`. The
    /// first apply of a spec is not a revert, unless the child was edited.
    pub fn applied(
        &self,
        owner: &Owner,
        kind: Kind,
        hash: &str,
        over: Over<'_>,
        rewritten: BTreeSet<Deviation>,
        now: Instant,
    ) -> Report {
        let Over { version, edited } = over;
        let mut state = lock(&self.state);
        let is_recent = |last: &LastApply| now.saturating_duration_since(last.at) < RESET;
        state
            .last
            .retain(|_, last| is_recent(last) || !last.rewritten.is_empty());
        state.missing.remove(&key(owner, kind));
        let before = state.of(owner, kind, hash);
        let count = match before.filter(|last| is_recent(last)) {
            Some(last) => last.count.saturating_add(1),
            None => u32::from(edited),
        };
        let known = before.map(|last| &last.rewritten);
        let report = if rewritten.is_empty() || known == Some(&rewritten) {
            match count {
                0 => Report::Nothing,
                count => Report::Reverted(count),
            }
        } else if known.is_none_or(BTreeSet::is_empty) {
            Report::Rewritten
        } else {
            // Rewritten in another way than before, which was reported.
            Report::Nothing
        };
        let last = LastApply {
            hash: hash.to_owned(),
            over: version.map(str::to_owned),
            count,
            at: now,
            is_observed: false,
            rewritten,
        };
        state.last.insert(key(owner, kind), last);
        report
    }

    /// Records that the watch of a child has returned it.
    pub fn observed(&self, owner: &Owner, kind: Kind) {
        if let Some(last) = lock(&self.state).last.get_mut(&key(owner, kind)) {
            last.is_observed = true;
        }
    }

    /// Returns until when the watch may take to return a child that was applied a moment ago; none
    /// if it has returned it since, or takes too long.
    pub fn unobserved_until(
        &self,
        owner: &Owner,
        kind: Kind,
        hash: &str,
        now: Instant,
    ) -> Option<Instant> {
        let state = lock(&self.state);
        let last = state.of(owner, kind, hash)?;
        let until = last.at + WATCH_DELAY;
        (!last.is_observed && now < until).then_some(until)
    }

    /// Returns the fields of a child that admission is known to rewrite: applying again changes
    /// nothing.
    pub fn rewritten(&self, owner: &Owner, kind: Kind, hash: &str) -> BTreeSet<Deviation> {
        let state = lock(&self.state);
        let last = state.of(owner, kind, hash);
        last.map(|last| last.rewritten.clone()).unwrap_or_default()
    }

    /// Whether a child is known not to exist.
    pub fn is_missing(&self, owner: &Owner, kind: Kind) -> bool {
        lock(&self.state).missing.contains(&key(owner, kind))
    }

    /// Records that a child does not exist, whatever object has its name.
    pub fn note_missing(&self, owner: &Owner, kind: Kind) {
        lock(&self.state).missing.insert(key(owner, kind));
    }

    /// Forgets a child that the operator deleted.
    pub fn forget(&self, owner: &Owner, kind: Kind) {
        lock(&self.state).last.remove(&key(owner, kind));
    }

    /// Forgets all children of a deleted GatewayQueue.
    pub fn forget_all(&self, namespace: &str, name: &str) {
        let mut state = lock(&self.state);
        let is_other =
            |(other_namespace, other, _): &Key| (&**other_namespace, &**other) != (namespace, name);
        state.last.retain(|key, _| is_other(key));
        state.missing.retain(|key| is_other(key));
    }
}

impl State {
    /// The last apply of a child, if it was of this hash.
    fn of(&self, owner: &Owner, kind: Kind, hash: &str) -> Option<&LastApply> {
        let last = self.last.get(&key(owner, kind));
        last.filter(|last| last.hash == hash)
    }
}

fn key(owner: &Owner, kind: Kind) -> Key {
    (owner.namespace.clone(), owner.name.clone(), kind)
}

/// The pause after `count` reverts in a row.
fn pause(count: u32) -> Duration {
    match count.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => doubled(FIRST_PAUSE, doublings, MAX_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, owner};

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

    impl DriftBackoff {
        /// Records that a Service was applied, of which admission rewrites nothing.
        fn apply(&self, hash: &str, over: Over<'_>, now: Instant) -> Report {
            self.applied(&owner(), Kind::Service, hash, over, none(), now)
        }

        /// The seconds until the Service of this version may be applied.
        fn pause(&self, version: Option<&str>, now: Instant) -> u64 {
            let at = self.not_before(&owner(), Kind::Service, "m", version, now);
            at.map_or(0, |at| (at - now).as_secs())
        }
    }

    #[test]
    fn an_apply_is_not_repeated_before_the_watch_returns_it() {
        let (drift_backoff, start) = (DriftBackoff::default(), Instant::now());
        let over = Over {
            version: Some("7"),
            edited: false,
        };
        drift_backoff.apply("m", over, start);
        let pause = |version, seconds| drift_backoff.pause(Some(version), after(start, seconds));
        // After five seconds, the watch may have missed it.
        assert_eq!([pause("7", 0), pause("7", 4), pause("7", 5)], [5, 1, 0]);
        assert_eq!(pause("8", 0), 0);
    }

    #[test]
    fn the_first_two_reverts_are_immediate_and_then_the_pauses_double() {
        let (drift_backoff, mut now) = (DriftBackoff::default(), Instant::now());
        let mut pauses = Vec::new();
        for count in 1..=12 {
            let pause = drift_backoff.pause(None, now);
            pauses.push(pause);
            now = after(now, pause);
            let over = if count == 1 { EDITED } else { NEW };
            assert_eq!(drift_backoff.apply("m", over, now), Report::Reverted(count));
        }
        assert_eq!(pauses, [0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn creating_a_child_is_not_a_revert_and_creating_it_again_is() {
        let (drift_backoff, now) = (DriftBackoff::default(), Instant::now());
        let reports = [0, 1, 2].map(|_| drift_backoff.apply("m", NEW, now));
        let expected = [Report::Nothing, Report::Reverted(1), Report::Reverted(2)];
        assert_eq!(reports, expected);
    }

    #[test]
    fn a_new_spec_and_another_child_are_applied_without_a_pause() {
        let (drift_backoff, now) = (DriftBackoff::default(), Instant::now());
        for _ in 0..5 {
            drift_backoff.apply("m", EDITED, now);
        }
        let mut other = owner();
        other.name = "other".to_owned();
        let waits = |owner: &Owner, kind, hash| {
            let at = drift_backoff.not_before(owner, kind, hash, None, now);
            at.is_some()
        };
        assert!(waits(&owner(), Kind::Service, "m"));
        assert!(!waits(&owner(), Kind::Service, "new"));
        assert!(!waits(&owner(), Kind::Deployment, "m"));
        assert!(!waits(&other, Kind::Service, "m"));
        assert_eq!(drift_backoff.apply("new", NEW, now), Report::Nothing);
    }

    #[test]
    fn the_pauses_start_again_after_a_time_without_changes() {
        let (drift_backoff, start) = (DriftBackoff::default(), Instant::now());
        for _ in 0..5 {
            drift_backoff.apply("m", EDITED, start);
        }
        let late = after(start, 900);
        assert_eq!(drift_backoff.apply("m", EDITED, late), Report::Reverted(1));
    }

    #[test]
    fn a_child_is_unobserved_until_its_watch_returns_it_or_takes_too_long() {
        let (drift_backoff, start) = (DriftBackoff::default(), Instant::now());
        let until = |hash, seconds| {
            let now = after(start, seconds);
            drift_backoff.unobserved_until(&owner(), Kind::Service, hash, now)
        };
        assert_eq!(until("m", 0), None);
        drift_backoff.apply("m", NEW, start);
        assert_eq!(until("m", 4), Some(after(start, 5)));
        assert_eq!((until("m", 5), until("new", 4)), (None, None));
        drift_backoff.observed(&owner(), Kind::Service);
        assert_eq!(until("m", 4), None);
        // It was deleted, and is applied again.
        drift_backoff.apply("m", NEW, after(start, 4));
        assert_eq!(until("m", 4), Some(after(start, 9)));
    }

    fn label(value: &str) -> BTreeSet<Deviation> {
        BTreeSet::from([Deviation {
            field: "metadata.labels.a".to_owned(),
            value: Some(value.to_owned()),
        }])
    }

    #[test]
    fn what_admission_rewrites_is_reported_once_and_remembered_until_the_spec_changes() {
        let (drift_backoff, start) = (DriftBackoff::default(), Instant::now());
        let applied = |hash, rewritten, seconds| {
            let now = after(start, seconds);
            drift_backoff.applied(&owner(), Kind::Service, hash, EDITED, rewritten, now)
        };
        let known = |hash| drift_backoff.rewritten(&owner(), Kind::Service, hash);
        assert_eq!(applied("m", label("x"), 0), Report::Rewritten);
        assert_eq!(known("m"), label("x"));
        // Another client edited another field.
        assert_eq!(applied("m", label("x"), 1), Report::Reverted(2));
        assert_eq!(applied("m", label("y"), 2), Report::Nothing);
        assert_eq!(known("m"), label("y"));
        // Not forgotten when another child is applied, however late.
        drift_backoff.applied(&owner(), Kind::Role, "r", NEW, none(), after(start, 5000));
        assert_eq!((known("m"), known("new")), (label("y"), none()));
        assert_eq!(applied("new", none(), 5001), Report::Reverted(1));
        assert_eq!(known("m"), none());
    }

    #[test]
    fn a_missing_child_is_remembered_until_it_is_applied_or_its_queue_is_deleted() {
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
