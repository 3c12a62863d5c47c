//! The state and the clock, which the REST API, the gateway and the control port share.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{broadcast, watch};

use super::settings::Settings;
use super::state::State;
use crate::environment::Token;

/// How many cuts a connection that is busy can have before it misses one.
const MAX_PENDING_CUTS: usize = 16;

pub(super) struct Discord {
    pub(super) token: Token,
    pub(super) shards: NonZeroU32,
    /// The URL for connecting, if it is not that of the request.
    pub(super) gateway_url: Option<String>,
    /// The shards whose connections are to be cut off.
    pub(super) cuts: broadcast::Sender<u32>,
    started: Instant,
    state: Mutex<State>,
    /// The version of the state, for readers that wait for a change.
    version: watch::Sender<u64>,
}

impl Discord {
    pub(super) fn new(settings: Settings) -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(0);
        let state = State::new(unix_ms, settings.interval, settings.max_concurrency);
        Self {
            token: settings.token,
            shards: settings.shards,
            gateway_url: settings.gateway_url,
            cuts: broadcast::Sender::new(MAX_PENDING_CUTS),
            started: Instant::now(),
            version: watch::Sender::new(state.version()),
            state: Mutex::new(state),
        }
    }

    /// The time since the start, by a monotonic clock.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Reads or changes the state. A change wakes the waiting readers.
    pub(super) fn state<T>(&self, access: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = access(&mut state);
        self.version.send_if_modified(|version| {
            let changed = *version != state.version();
            *version = state.version();
            changed
        });
        result
    }

    /// Waits for a change after `version`.
    pub(super) async fn changed_after(&self, version: u64) {
        let mut versions = self.version.subscribe();
        // The sender lives as long as self.
        let _ = versions.wait_for(|current| *current > version).await;
    }
}
