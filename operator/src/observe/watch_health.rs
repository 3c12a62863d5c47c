//! Which watches work. While one fails, its cache silently remains as it was. Time is an
//! argument.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::lock;

/// The time for which a watch must work to have recovered.
const STABLE: Duration = Duration::from_secs(10);

/// The state of each watch, by the path of its collection.
#[derive(Debug)]
pub struct WatchHealth {
    watches: Mutex<BTreeMap<String, Watch>>,
    /// Counts how often all watches of a scope recovered.
    recoveries: watch::Sender<u64>,
}

#[derive(Debug)]
struct Watch {
    kind: String,
    scope: String,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Starting,
    Up {
        since: Instant,
        /// Since when it had failed before.
        failed: Option<Instant>,
    },
    Failing {
        since: Instant,
    },
}

/// The state of a watch, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchState {
    /// The kind of the objects.
    pub kind: String,
    /// Their namespace, or `*`.
    pub scope: String,
    /// Whether it works, and has for 10 s if it failed before.
    pub up: bool,
}

impl Default for WatchHealth {
    fn default() -> Self {
        Self {
            watches: Mutex::default(),
            recoveries: watch::Sender::new(0),
        }
    }
}

impl WatchHealth {
    /// Adds the watch of a collection, which does not work yet.
    pub fn add(&self, path: &str, kind: &str, scope: &str) {
        let watch = Watch {
            kind: kind.to_owned(),
            scope: scope.to_owned(),
            state: State::Starting,
        };
        lock(&self.watches).insert(path.to_owned(), watch);
    }

    /// Records a failure. Returns whether the watch worked before.
    pub fn failed(&self, path: &str, now: Instant) -> bool {
        let mut watches = lock(&self.watches);
        let Some(watch) = watches.get_mut(path) else {
            return false;
        };
        let (since, is_new) = match watch.state {
            State::Starting => (now, true),
            State::Failing { since } => (since, false),
            State::Up { .. } => match watch.failing_since(now) {
                Some(since) => (since, false),
                None => (now, true),
            },
        };
        watch.state = State::Failing { since };
        is_new
    }

    /// Records that the API server serves the watch of a collection.
    pub fn connected(&self, path: &str, now: Instant) {
        let mut watches = lock(&self.watches);
        let Some(watch) = watches.get_mut(path) else {
            return;
        };
        let failed = match watch.state {
            State::Up { .. } => return,
            State::Starting => None,
            State::Failing { since } => Some(since),
        };
        watch.state = State::Up { since: now, failed };
        let (kind, scope) = (watch.kind.clone(), watch.scope.clone());
        let mut siblings = watches.values().filter(|watch| watch.scope == scope);
        let all_work = siblings.all(Watch::is_up);
        drop(watches);
        if let Some(since) = failed {
            let failed_for = now.saturating_duration_since(since);
            tracing::info!(kind, scope, ?failed_for, "watch recovered");
            if all_work {
                self.recoveries.send_modify(|count| *count += 1);
            }
        }
    }

    /// Returns the watch of a scope that has failed for the longest time, and for how long.
    pub fn longest_failure(&self, scope: &str, now: Instant) -> Option<(Duration, WatchState)> {
        let watches = lock(&self.watches);
        let watches = watches.values().filter(|watch| watch.scope == scope);
        let failing = watches.filter_map(|watch| {
            let failed_for = now.saturating_duration_since(watch.failing_since(now)?);
            Some((failed_for, watch.report(now)))
        });
        failing.max_by_key(|(failed_for, _)| *failed_for)
    }

    /// Returns the state of all watches.
    pub fn all(&self, now: Instant) -> Vec<WatchState> {
        let watches = lock(&self.watches);
        watches.values().map(|watch| watch.report(now)).collect()
    }

    /// Returns a counter that changes when all watches of a scope have recovered.
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.recoveries.subscribe()
    }
}

impl Watch {
    fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Since when it has failed, if it does. One that has worked for less than [`STABLE`] still
    /// fails.
    fn failing_since(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Starting => None,
            State::Failing { since } => Some(since),
            State::Up { since, failed } => {
                failed.filter(|_| now.saturating_duration_since(since) < STABLE)
            }
        }
    }

    fn report(&self, now: Instant) -> WatchState {
        WatchState {
            kind: self.kind.clone(),
            scope: self.scope.clone(),
            up: self.is_up() && self.failing_since(now).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::after;

    /// Two working watches.
    fn two(start: Instant) -> WatchHealth {
        let health = WatchHealth::default();
        health.add("/pods", "Pod", "*");
        health.add("/leases", "Lease", "*");
        health.connected("/pods", start);
        health.connected("/leases", start);
        health
    }

    fn failing(health: &WatchHealth, now: Instant) -> Option<(u64, String)> {
        let longest = health.longest_failure("*", now);
        longest.map(|(failed_for, watch)| (failed_for.as_secs(), watch.kind))
    }

    fn up(health: &WatchHealth, now: Instant) -> Vec<bool> {
        health.all(now).into_iter().map(|watch| watch.up).collect()
    }

    #[test]
    fn a_failure_is_new_once_and_counts_from_the_first() {
        let start = Instant::now();
        let health = two(start);
        assert_eq!(failing(&health, start), None);
        assert!(health.failed("/pods", after(start, 60)));
        assert!(!health.failed("/pods", after(start, 90)));
        assert!(health.failed("/leases", after(start, 100)));
        let longest = failing(&health, after(start, 180));
        assert_eq!(longest, Some((120, "Pod".to_owned())));
        assert_eq!(up(&health, after(start, 180)), [false, false]);
    }

    #[test]
    fn a_scope_recovers_with_the_last_of_its_watches() {
        let start = Instant::now();
        let health = two(start);
        let recoveries = health.recoveries();
        health.failed("/pods", start);
        health.failed("/leases", start);
        health.add("/gone/pods", "Pod", "gone");
        health.failed("/gone/pods", start);
        health.connected("/pods", after(start, 1));
        assert!(!recoveries.has_changed().unwrap());
        health.connected("/leases", after(start, 2));
        assert!(recoveries.has_changed().unwrap());
        assert_eq!(failing(&health, after(start, 200)), None);
    }

    #[test]
    fn a_watch_that_fails_again_soon_has_not_recovered() {
        let start = Instant::now();
        let health = two(start);
        assert!(health.failed("/pods", after(start, 60)));
        for second in 61..180 {
            health.connected("/pods", after(start, second));
            assert_eq!(up(&health, after(start, second)), [true, false]);
            let failed_for = failing(&health, after(start, second));
            assert_eq!(failed_for, Some((second - 60, "Pod".to_owned())));
            assert!(!health.failed("/pods", after(start, second)));
        }
        let longest = failing(&health, after(start, 180));
        assert_eq!(longest, Some((120, "Pod".to_owned())));
        health.connected("/pods", after(start, 180));
        assert_eq!(up(&health, after(start, 189)), [true, false]);
        assert_eq!(up(&health, after(start, 190)), [true, true]);
        assert_eq!(failing(&health, after(start, 190)), None);
        assert!(health.failed("/pods", after(start, 190)));
    }

    #[test]
    fn a_watch_that_has_not_started_does_not_work_and_its_first_failure_is_new() {
        let (health, now) = (WatchHealth::default(), Instant::now());
        health.add("/pods", "Pod", "shop");
        assert_eq!(up(&health, now), [false]);
        assert!(health.failed("/pods", now));
        assert!(!health.failed("/pods", now));
        // An unknown watch.
        assert!(!health.failed("/secrets", now));
        health.connected("/secrets", now);
    }
}
