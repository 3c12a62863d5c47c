//! What all parts of the fake Discord share: the book, and the clock.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::book::Book;
use super::settings::Settings;
use crate::settings::Token;

pub(super) struct Discord {
    pub(super) token: Token,
    pub(super) shards: u32,
    public_url: Option<String>,
    started: Instant,
    book: Mutex<Book>,
    /// The version of the book, for those who wait for news.
    version: watch::Sender<u64>,
}

impl Discord {
    pub(super) fn new(settings: Settings) -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(0);
        let book = Book::new(unix_ms, settings.allowance);
        Self {
            token: settings.token,
            shards: settings.shards,
            public_url: settings.public_url,
            started: Instant::now(),
            version: watch::Sender::new(book.version()),
            book: Mutex::new(book),
        }
    }

    /// How long after the start it is now, by a clock that never steps.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Opens the book, and wakes those who wait for news when there are some.
    pub(super) fn book<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = look(&mut book);
        self.version.send_if_modified(|version| {
            let news = *version != book.version();
            *version = book.version();
            news
        });
        seen
    }

    /// Waits until the book has changed after `version`.
    pub(super) async fn changed_after(&self, version: u64) {
        let mut versions = self.version.subscribe();
        // An error says that the sender is gone; it lives as long as self.
        let _ = versions.wait_for(|current| *current > version).await;
    }

    /// The gateway's address for a bot that called `host`.
    pub(super) fn gateway_url(&self, host: &str) -> String {
        self.public_url
            .clone()
            .unwrap_or_else(|| format!("ws://{host}"))
    }
}
