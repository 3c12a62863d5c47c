//! What a leader publishes on the Lease, and what a new leader takes from it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gateway_bot::Limits;
use crate::lease_state::{Entry, TOKEN_FINGERPRINT, TokenState};

/// No leader has less between two grants of a bucket: Discord's interval.
const INTERVAL: Duration = Duration::from_secs(5);

/// The lease state of a leader, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedState {
    /// For the operator and for people.
    pub entry: Entry,
    /// Whose session starts these are; none without a token.
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

    /// The annotations, as [`Entry::annotations`].
    pub fn annotations(&self) -> BTreeMap<&'static str, Option<String>> {
        let mut annotations = self.entry.annotations();
        annotations.insert(TOKEN_FINGERPRINT, self.token_fingerprint.clone());
        annotations
    }
}

/// What the last leader knew of the session starts of a bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastKnown {
    /// Whose they are.
    pub token_fingerprint: String,
    /// What was left when it was written: all grants until then are deducted.
    pub limits: Limits,
}

impl LastKnown {
    /// Reads it from the annotations of the Lease; none when the last leader
    /// did not know it, nobody led, or it cannot be true.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let entry = Entry::read(annotations).filter(|entry| entry.token == TokenState::Accepted)?;
        let starts = entry.session_starts?;
        if starts.remaining > starts.total {
            return None;
        }
        Some(Self {
            token_fingerprint: annotations.get(TOKEN_FINGERPRINT)?.clone(),
            limits: Limits {
                shards: entry.recommended_shards?,
                total: starts.total,
                remaining: starts.remaining,
                // It is asked for at once.
                reset_after: Duration::ZERO,
                max_concurrency: Some(entry.max_concurrency?),
            },
        })
    }

    /// Less the most that can have been granted after it was written. A leader
    /// writes it with each renewal, and may grant for less than `duration` after
    /// one. Its settings may have been others than ours, of which is `spacing`.
    pub fn less_unseen(mut self, duration: Duration, spacing: Duration) -> Self {
        let spacing = spacing.min(INTERVAL).as_nanos().max(1);
        let turns = duration.as_nanos() / spacing + 1;
        let buckets = u128::from(self.limits.max_concurrency.unwrap_or(u32::MAX));
        let unseen = u64::try_from(turns * buckets).unwrap_or(u64::MAX);
        self.limits.remaining = self.limits.remaining.saturating_sub(unseen);
        self
    }
}

#[cfg(test)]
mod tests {
    use crate::lease_state::SessionStarts;

    use super::*;

    fn published() -> PublishedState {
        PublishedState {
            entry: Entry {
                token: TokenState::Accepted,
                blocked_by: None,
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
        LastKnown::read(
            &annotations
                .filter_map(|(k, v)| Some((k.to_owned(), v?)))
                .collect(),
        )
    }

    #[test]
    fn what_was_known_is_less_what_can_have_been_granted_since() {
        let known = read(&published()).unwrap();
        assert_eq!(known.token_fingerprint, "0badcafe");
        assert_eq!(known.limits.remaining, 500);
        let seconds = Duration::from_secs;
        // In 15 s a bucket has turns at 0, 5, 10 and 15.
        for ours in [5, 3600] {
            let known = known.clone().less_unseen(seconds(15), seconds(ours));
            assert_eq!(known.limits.remaining, 500 - 4 * 16);
        }
        let known = known.less_unseen(seconds(3600), seconds(5));
        assert_eq!(known.limits.remaining, 0);
    }

    #[test]
    fn what_was_not_known_is_not_taken() {
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
