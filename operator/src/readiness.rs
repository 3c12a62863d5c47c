//! Whether the operator is ready: its caches are filled and kept up to date, and it takes
//! part in each election. An operator on standby is ready. Time is an argument.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::watch_health::WatchHealth;

/// For how long a watch or an election may fail before the operator is not ready.
const MAX_FAILING: Duration = Duration::from_secs(120);

/// The state of all scopes.
#[derive(Debug)]
pub struct Readiness {
    scopes: Vec<Arc<ScopeHealth>>,
    watches: Arc<WatchHealth>,
}

/// The state of one scope: a namespace, or all of them.
#[derive(Debug)]
pub struct ScopeHealth {
    /// The namespace, or `*`.
    name: String,
    filled: AtomicBool,
    /// Since when no call of the election has succeeded, if the last one failed.
    election_failing: Mutex<Option<Instant>>,
}

impl Readiness {
    /// Without a scope; `watches` are those of all scopes to come.
    pub fn of(watches: Arc<WatchHealth>) -> Self {
        Self {
            scopes: Vec::new(),
            watches,
        }
    }

    /// Adds a scope, named by its namespace or `*`. Its caches are not filled yet.
    pub fn add(&mut self, name: &str) -> Arc<ScopeHealth> {
        let scope = Arc::new(ScopeHealth {
            name: name.to_owned(),
            filled: AtomicBool::new(false),
            election_failing: Mutex::default(),
        });
        self.scopes.push(Arc::clone(&scope));
        scope
    }

    /// Returns why the operator is not ready, if it is not.
    pub fn fault(&self, now: Instant) -> Option<String> {
        let filled = |scope: &Arc<ScopeHealth>| scope.filled.load(Ordering::Relaxed);
        if !self.scopes.iter().all(filled) {
            return Some("the caches are not filled yet\n".to_owned());
        }
        let failing = |scope: &Arc<ScopeHealth>| {
            self.failing_watch(now)
                .or_else(|| scope.failing_election(now))
        };
        self.scopes.iter().find_map(failing)
    }

    fn failing_watch(&self, now: Instant) -> Option<String> {
        let (failed_for, watch) = self.watches.longest_failure(now)?;
        (failed_for >= MAX_FAILING).then(|| {
            format!(
                "the watch of kind {} in {} has failed for {} s: see the log, and that the \
                 operator has its rights\n",
                watch.kind,
                place(&watch.scope),
                failed_for.as_secs()
            )
        })
    }
}

impl ScopeHealth {
    /// Notes that the caches are filled.
    pub fn filled(&self) {
        self.filled.store(true, Ordering::Relaxed);
    }

    /// Notes that a call of the election failed.
    pub fn election_failed(&self, now: Instant) {
        self.election_failing().get_or_insert(now);
    }

    /// Notes that a call of the election succeeded.
    pub fn election_works(&self) {
        *self.election_failing() = None;
    }

    fn failing_election(&self, now: Instant) -> Option<String> {
        let since = *self.election_failing();
        let failed_for = now.saturating_duration_since(since?);
        (failed_for > MAX_FAILING).then(|| {
            format!(
                "the leader election for {} has failed for {} s: see the log, and that the \
                 operator may get, create and patch its Lease\n",
                place(&self.name),
                failed_for.as_secs()
            )
        })
    }

    fn election_failing(&self) -> MutexGuard<'_, Option<Instant>> {
        // Each note is whole, whatever happened to another thread.
        self.election_failing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(scope: &str) -> String {
    match scope {
        "*" => "all namespaces".to_owned(),
        namespace => format!("namespace {namespace}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_the_caches_of_every_scope_are_filled() {
        let mut readiness = Readiness::of(Arc::default());
        let scopes = ["bots", "shop"].map(|name| readiness.add(name));
        let now = Instant::now();
        for scope in scopes {
            let fault = readiness.fault(now);
            assert_eq!(fault.as_deref(), Some("the caches are not filled yet\n"));
            scope.filled();
        }
        assert_eq!(readiness.fault(now), None);
    }

    #[test]
    fn not_ready_while_a_watch_has_failed_for_two_minutes() {
        let health = Arc::<WatchHealth>::default();
        let mut readiness = Readiness::of(Arc::clone(&health));
        readiness.add("*").filled();
        let start = Instant::now();
        let fault = |seconds| readiness.fault(start + Duration::from_secs(seconds));
        health.add("/pods", "Pod", "*");
        health.connected("/pods", start);
        assert_eq!(fault(1000), None);
        health.failed("/pods", start + Duration::from_secs(1000));
        assert_eq!(fault(1119), None);
        let message = fault(1120).unwrap();
        let expected = "the watch of kind Pod in all namespaces has failed for 120 s";
        assert!(message.starts_with(expected), "{message}");
        health.connected("/pods", start + Duration::from_secs(1200));
        assert_eq!(fault(1200), None);
    }

    #[test]
    fn not_ready_while_the_election_has_failed_for_more_than_two_minutes() {
        let mut readiness = Readiness::of(Arc::default());
        let scope = readiness.add("shop");
        scope.filled();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        scope.election_failed(start);
        scope.election_failed(after(60));
        assert_eq!(readiness.fault(after(120)), None);
        let message = readiness.fault(after(121)).unwrap();
        let expected = "the leader election for namespace shop has failed for 121 s";
        assert!(message.starts_with(expected), "{message}");
        scope.election_works();
        assert_eq!(readiness.fault(after(121)), None);
        scope.election_failed(after(200));
        assert_eq!(readiness.fault(after(300)), None);
    }
}
