//! What a leader publishes on the Lease, and what a new leader takes from it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gateway_bot::Limits;
use crate::lease_state::{Entry, TOKEN_FINGERPRINT, TokenState};

/// The least time between two grants of a bucket of any leader: Discord's interval.
const INTERVAL: Duration = Duration::from_secs(5);

/// What a leader publishes, and for which token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedState {
    /// The state for the operator and for people.
    pub entry: Entry,
    /// The fingerprint of the token to which the session starts belong; none without a token.
    pub token_fingerprint: Option<String>,
}

impl PublishedState {
    /// Returns what `pod` publishes before it knows anything.
    pub fn new(pod: &str) -> Self {
        Self {
            entry: Entry::new(pod),
            token_fingerprint: None,
        }
    }

    /// Returns the annotations: those of the entry, and the fingerprint.
    pub fn annotations(&self) -> BTreeMap<&'static str, Option<String>> {
        let mut annotations = self.entry.annotations();
        annotations.insert(TOKEN_FINGERPRINT, self.token_fingerprint.clone());
        annotations
    }
}

/// The session starts of a bot that the last leader published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastKnown {
    /// The fingerprint of the token to which they belong.
    pub token_fingerprint: String,
    /// The limits when they were written, less all grants until then.
    pub limits: Limits,
}

impl LastKnown {
    /// Reads the session starts from the annotations of the Lease; none if there was no leader, if
    /// the leader did not know them, or if they are impossible.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let entry = Entry::read(annotations).filter(|entry| entry.token == TokenState::Accepted)?;
        let starts = entry.session_starts?;
        if starts.remaining > starts.total {
            return None;
        }
        Some(Self {
            token_fingerprint: annotations.get(TOKEN_FINGERPRINT)?.clone(),
            limits: Limits {
                // The first fetch is due immediately.
                url: None,
                shards: entry.recommended_shards?,
                total: starts.total,
                remaining: starts.remaining,
                reset_after: Duration::ZERO,
                max_concurrency: Some(entry.max_concurrency?),
            },
        })
    }

    /// Deducts the most that can have been granted after the last write. A leader writes with each
    /// renewal, and may grant for less than `duration` after one. Its spacing may have been shorter
    /// than `spacing`, which is this process's.
    pub fn less_unseen(mut self, duration: Duration, spacing: Duration) -> Self {
        let spacing = spacing.min(INTERVAL).as_nanos().max(1);
        let grants = duration.as_nanos() / spacing + 1;
        let buckets = u128::from(self.limits.max_concurrency.unwrap_or(u32::MAX));
        let unseen = u64::try_from(grants * buckets).unwrap_or(u64::MAX);
        self.limits.remaining = self.limits.remaining.saturating_sub(unseen);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease_state::SessionStarts;

    fn published() -> PublishedState {
        PublishedState {
            entry: Entry {
                token: TokenState::Accepted,
                max_concurrency: Some(16),
                recommended_shards: Some(100),
                session_starts: Some(SessionStarts {
                    total: 1000,
                    remaining: 500,
                    reset_time: None,
                }),
                ..Entry::new("pod")
            },
            token_fingerprint: Some("0badcafe".to_owned()),
        }
    }

    fn read(published: &PublishedState) -> Option<LastKnown> {
        let annotations = published.annotations().into_iter();
        let annotations = annotations.filter_map(|(k, v)| Some((k.to_owned(), v?)));
        LastKnown::read(&annotations.collect())
    }

    #[test]
    fn the_grants_since_the_last_write_are_deducted() {
        let known = read(&published()).unwrap();
        assert_eq!(known.token_fingerprint, "0badcafe");
        assert_eq!(known.limits.remaining, 500);
        let seconds = Duration::from_secs;
        // In 15 s a bucket grants at 0, 5, 10 and 15.
        for ours in [5, 3600] {
            let known = known.clone().less_unseen(seconds(15), seconds(ours));
            assert_eq!(known.limits.remaining, 500 - 4 * 16);
        }
        let known = known.less_unseen(seconds(3600), seconds(5));
        assert_eq!(known.limits.remaining, 0);
    }

    #[test]
    fn unknown_or_impossible_session_starts_are_not_used() {
        for token in [
            TokenState::None,
            TokenState::Unchecked,
            TokenState::Rejected,
            TokenState::Missing,
        ] {
            let mut published = published();
            published.entry.token = token;
            assert_eq!(read(&published), None);
        }
        let mut impossible = published();
        impossible.entry.session_starts.as_mut().unwrap().remaining = 1001;
        assert_eq!(read(&impossible), None);
        let mut anonymous = published();
        anonymous.token_fingerprint = None;
        assert_eq!(read(&anonymous), None);
        assert_eq!(read(&PublishedState::new("pod")), None);
    }
}
