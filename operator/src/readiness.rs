//! Whether the operator is ready: its caches are filled and up to date, and it takes part in
//! the election. An operator on standby is ready. Time is an argument.
//!
//! A deleted namespace must not block an upgrade of the operator, so it is ready while another
//! namespace works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lock;
use crate::observe::watch_health::WatchHealth;

/// How long a watch or election may fail before its scope counts as failed.
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
    /// Whether a call of the election has ever succeeded, or there is no election.
    elected: AtomicBool,
    /// When the calls of the election began to fail, if the last one failed.
    election_failing: Mutex<Option<Instant>>,
}

impl Readiness {
    /// Returns the readiness without scopes, given the health of all watches.
    pub fn of(watches: Arc<WatchHealth>) -> Self {
        Self {
            scopes: Vec::new(),
            watches,
        }
    }

    /// Adds a scope, named by its namespace or `*`.
    pub fn add(&mut self, name: &str) -> Arc<ScopeHealth> {
        let scope = Arc::new(ScopeHealth {
            name: name.to_owned(),
            filled: AtomicBool::new(false),
            elected: AtomicBool::new(false),
            election_failing: Mutex::default(),
        });
        self.scopes.push(Arc::clone(&scope));
        scope
    }

    /// Returns which scopes fail, one per line, if the operator is ready.
    ///
    /// # Errors
    /// Why it is not ready: some caches are not filled, or all scopes fail.
    pub fn check(&self, now: Instant) -> Result<String, String> {
        let mut faults = Vec::new();
        for scope in &self.scopes {
            let watch = self.failing_watch(&scope.name, now);
            if let Some(fault) = watch.or_else(|| scope.failing_election(now)) {
                faults.push(fault);
            } else if !scope.filled.load(Ordering::Relaxed) {
                return Err("The caches are not filled yet.\n".to_owned());
            } else if !scope.elected.load(Ordering::Relaxed) {
                // Otherwise a rollout would replace a working operator by one that may not
                // write its Lease.
                return Err("The leader election has not succeeded yet.\n".to_owned());
            }
        }
        let none_works = !faults.is_empty() && faults.len() == self.scopes.len();
        let faults = faults.concat();
        if none_works { Err(faults) } else { Ok(faults) }
    }

    fn failing_watch(&self, scope: &str, now: Instant) -> Option<String> {
        let (failed_for, watch) = self.watches.longest_failure(scope, now)?;
        (failed_for >= MAX_FAILING).then(|| {
            format!(
                "The watch of {} in {} has failed for {} s. Check the log and the operator's \
                 rights.\n",
                watch.kind,
                place(&watch.scope),
                failed_for.as_secs()
            )
        })
    }
}

impl ScopeHealth {
    /// Records that the caches are filled.
    pub fn filled(&self) {
        self.filled.store(true, Ordering::Relaxed);
    }

    /// Records that a call of the election failed.
    pub fn election_failed(&self, now: Instant) {
        lock(&self.election_failing).get_or_insert(now);
    }

    /// Records that a call of the election succeeded, or that there is no election.
    pub fn election_works(&self) {
        self.elected.store(true, Ordering::Relaxed);
        *lock(&self.election_failing) = None;
    }

    fn failing_election(&self, now: Instant) -> Option<String> {
        let since = *lock(&self.election_failing);
        let failed_for = now.saturating_duration_since(since?);
        (failed_for > MAX_FAILING).then(|| {
            format!(
                "The leader election for {} has failed for {} s. Check the log, and that the \
                 operator may get, create and patch its Lease.\n",
                place(&self.name),
                failed_for.as_secs()
            )
        })
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
    use crate::testing::after;

    fn works(scope: &ScopeHealth) {
        scope.filled();
        scope.election_works();
    }

    fn ready() -> Result<String, String> {
        Ok(String::new())
    }

    #[test]
    fn ready_only_when_the_caches_of_every_scope_are_filled() {
        let mut readiness = Readiness::of(Arc::default());
        let scopes = ["bots", "shop"].map(|name| readiness.add(name));
        let now = Instant::now();
        for scope in scopes {
            let fault = readiness.check(now).unwrap_err();
            assert_eq!(fault, "The caches are not filled yet.\n");
            scope.filled();
            let fault = readiness.check(now).unwrap_err();
            assert_eq!(fault, "The leader election has not succeeded yet.\n");
            scope.election_works();
        }
        assert_eq!(readiness.check(now), ready());
    }

    #[test]
    fn not_ready_after_a_watch_has_failed_for_two_minutes() {
        let health = Arc::<WatchHealth>::default();
        let mut readiness = Readiness::of(Arc::clone(&health));
        let scope = readiness.add("*");
        works(&scope);
        let start = Instant::now();
        let fault = |seconds| readiness.check(after(start, seconds));
        health.add("/pods", "Pod", "*");
        health.connected("/pods", start);
        assert_eq!(fault(1000), ready());
        health.failed("/pods", after(start, 1000));
        assert_eq!(fault(1119), ready());
        let message = fault(1120).unwrap_err();
        let expected = "The watch of Pod in all namespaces has failed for 120 s";
        assert!(message.starts_with(expected), "{message}");
        health.connected("/pods", after(start, 1200));
        // It may fail again soon.
        assert!(fault(1209).is_err());
        assert_eq!(fault(1210), ready());
    }

    #[test]
    fn not_ready_after_the_election_has_failed_for_more_than_two_minutes() {
        let mut readiness = Readiness::of(Arc::default());
        let scope = readiness.add("shop");
        works(&scope);
        let start = Instant::now();
        scope.election_failed(start);
        scope.election_failed(after(start, 60));
        assert_eq!(readiness.check(after(start, 120)), ready());
        let message = readiness.check(after(start, 121)).unwrap_err();
        let expected = "The leader election for namespace shop has failed for 121 s";
        assert!(message.starts_with(expected), "{message}");
        scope.election_works();
        assert_eq!(readiness.check(after(start, 121)), ready());
        scope.election_failed(after(start, 200));
        assert_eq!(readiness.check(after(start, 300)), ready());
    }

    #[test]
    fn a_deleted_namespace_is_reported_and_leaves_the_operator_ready() {
        let health = Arc::<WatchHealth>::default();
        let mut readiness = Readiness::of(Arc::clone(&health));
        // The caches of a namespace without rights are never filled.
        let [_, shop] = ["gone", "shop"].map(|name| readiness.add(name));
        let start = Instant::now();
        for scope in ["gone", "shop"] {
            health.add(&format!("/{scope}/pods"), "Pod", scope);
        }
        health.failed("/gone/pods", start);
        health.connected("/shop/pods", start);
        works(&shop);
        assert!(readiness.check(after(start, 119)).is_err());
        let report = readiness.check(after(start, 120)).unwrap();
        let expected = "The watch of Pod in namespace gone has failed for 120 s";
        assert!(report.starts_with(expected), "{report}");

        health.failed("/shop/pods", after(start, 200));
        assert!(readiness.check(after(start, 319)).is_ok());
        let fault = readiness.check(after(start, 320)).unwrap_err();
        assert_eq!(fault.lines().count(), 2, "{fault}");
    }
}
