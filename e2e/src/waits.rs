//! The requests of clients that waited for grants, and figures computed from them. Pure: all times
//! are durations since a common instant.

use std::collections::BTreeMap;
use std::time::Duration;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The shard.
    pub shard: u32,
    /// The shard's bucket.
    pub bucket: u32,
    /// The test's name for the target of the request.
    pub target: String,
    /// When the request was sent.
    pub sent: Duration,
    /// When and how it ended; none while it waits.
    pub end: Option<(Duration, End)>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a grant.
    Granted,
    /// With anything else, after the connection was established.
    Closed(String),
    /// The connection was refused.
    Refused(String),
}

/// Figures about a number of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Grants.
    pub grants: usize,
    /// Connections that were closed without a grant.
    pub closed: usize,
    /// Refused connections.
    pub refused: usize,
    /// Waiting requests.
    pub waiting: usize,
    /// The shortest time between two grants of one bucket.
    pub shortest_spacing: Option<Duration>,
    /// The longest time without a grant in a bucket with waiting requests.
    pub longest_gap: Duration,
    /// The longest time without a grant in any bucket while requests waited.
    pub longest_silence: Duration,
}

impl Figures {
    /// Computes the figures at the time `now`.
    pub fn of(waits: &[Wait], now: Duration) -> Self {
        let ended = |wanted: fn(&End) -> bool| {
            let ends = waits.iter().filter_map(|wait| wait.end.as_ref());
            ends.filter(|(_, end)| wanted(end)).count()
        };
        let mut buckets: BTreeMap<u32, Vec<&Wait>> = BTreeMap::new();
        for wait in waits {
            buckets.entry(wait.bucket).or_default().push(wait);
        }
        let gaps = buckets.values().map(|bucket| longest_gap(bucket, now));
        Self {
            grants: ended(|end| *end == End::Granted),
            closed: ended(|end| matches!(end, End::Closed(_))),
            refused: ended(|end| matches!(end, End::Refused(_))),
            waiting: waits.iter().filter(|wait| wait.end.is_none()).count(),
            shortest_spacing: buckets.values().filter_map(|bucket| spacing(bucket)).min(),
            longest_gap: gaps.max().unwrap_or_default(),
            longest_silence: longest_gap(&waits.iter().collect::<Vec<_>>(), now),
        }
    }
}

/// The times of the grants, in order.
pub fn grants<'a>(waits: impl IntoIterator<Item = &'a Wait>) -> Vec<Duration> {
    let granted = |wait: &Wait| match &wait.end {
        Some((at, End::Granted)) => Some(*at),
        _ => None,
    };
    let mut grants: Vec<_> = waits.into_iter().filter_map(granted).collect();
    grants.sort_unstable();
    grants
}

/// Lists all requests, one line each, for the report of a failed test.
pub fn list(waits: &[Wait]) -> String {
    let mut waits: Vec<_> = waits.iter().collect();
    waits.sort_by_key(|wait| (wait.bucket, wait.end.as_ref().map(|(at, _)| *at)));
    let line = |wait: &&Wait| {
        let Wait {
            shard,
            bucket,
            target,
            sent,
            end,
        } = wait;
        let sent = sent.as_secs_f64();
        let end = match end {
            Some((at, end)) => format!("{:.3} {end:?}", at.as_secs_f64()),
            None => "waits".to_owned(),
        };
        format!("bucket {bucket} shard {shard} at {target}: {sent:.3} to {end}\n")
    };
    waits.iter().map(line).collect()
}

/// The shortest time between two grants.
fn spacing(waits: &[&Wait]) -> Option<Duration> {
    let grants = grants(waits.iter().copied());
    grants.windows(2).map(|pair| pair[1] - pair[0]).min()
}

/// The longest time without a grant while requests waited.
fn longest_gap(waits: &[&Wait], now: Duration) -> Duration {
    enum Event {
        Start,
        End { granted: bool },
    }
    let mut events = Vec::new();
    for wait in waits {
        match &wait.end {
            // It never waited.
            Some((_, End::Refused(_))) => {}
            Some((at, end)) => {
                let granted = *end == End::Granted;
                events.push((wait.sent, Event::Start));
                events.push((*at, Event::End { granted }));
            }
            None => events.push((wait.sent, Event::Start)),
        }
    }
    // The sort is stable, and a start is pushed before its end.
    events.sort_by_key(|(at, _)| *at);
    let (mut waiting, mut since, mut longest) = (0_usize, now, Duration::ZERO);
    for (at, event) in events {
        match event {
            Event::Start => {
                if waiting == 0 {
                    since = at;
                }
                waiting += 1;
            }
            Event::End { granted } => {
                longest = longest.max(at.saturating_sub(since));
                waiting -= 1;
                if granted {
                    since = at;
                }
            }
        }
    }
    match waiting {
        0 => longest,
        _ => longest.max(now.saturating_sub(since)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn wait(bucket: u32, sent: u64, end: Option<(u64, End)>) -> Wait {
        Wait {
            shard: bucket,
            bucket,
            target: "one".to_owned(),
            sent: ms(sent),
            end: end.map(|(at, end)| (ms(at), end)),
        }
    }

    fn granted(bucket: u32, sent: u64, at: u64) -> Wait {
        wait(bucket, sent, Some((at, End::Granted)))
    }

    fn closed(bucket: u32, sent: u64, at: u64) -> Wait {
        wait(bucket, sent, Some((at, End::Closed("reset".to_owned()))))
    }

    #[test]
    fn spacing_is_between_grants_of_one_bucket_at_any_target() {
        let mut elsewhere = granted(0, 0, 5200);
        elsewhere.target = "another".to_owned();
        let others = [15_650, 10_400].map(|at| granted(0, 0, at));
        let waits = [&others[..], &[granted(1, 0, 5300), elsewhere]].concat();
        let shortest_spacing = |waits: &[Wait]| Figures::of(waits, ms(16_000)).shortest_spacing;
        assert_eq!(shortest_spacing(&waits), Some(ms(5200)));
        assert_eq!(shortest_spacing(&waits[2..]), None);
    }

    #[test]
    fn a_gap_begins_with_the_last_grant_or_the_first_request_and_may_not_have_ended() {
        let gap = |waits: [Wait; 2], now| Figures::of(&waits, ms(now)).longest_gap.as_millis();
        // No request waits from 10 to 1000.
        let idle = [granted(0, 0, 10), granted(0, 1000, 1100)];
        assert_eq!(gap(idle, 2000), 100);
        // Here one does.
        let busy = [granted(0, 0, 10), granted(0, 5, 1100)];
        assert_eq!(gap(busy, 2000), 1090);
        // A gap continues when a waiting client is disconnected, unless no other one waits.
        let continued = [closed(0, 0, 500), granted(0, 400, 2000)];
        assert_eq!(gap(continued, 3000), 2000);
        let apart = [closed(0, 0, 500), granted(0, 600, 2000)];
        assert_eq!(gap(apart, 3000), 1400);
        assert_eq!(gap([granted(0, 0, 100), wait(0, 50, None)], 9000), 8900);
    }

    #[test]
    fn a_grant_in_another_bucket_ends_the_silence_and_not_the_gap() {
        let waits = [granted(0, 0, 3000), granted(1, 0, 2000)];
        let figures = Figures::of(&waits, ms(3000));
        assert_eq!(
            (figures.longest_gap, figures.longest_silence),
            (ms(3000), ms(2000))
        );
    }

    #[test]
    fn ends_are_counted_by_kind_and_a_refused_request_never_waited() {
        let refused = wait(0, 0, Some((9000, End::Refused("refused".to_owned()))));
        let waits = [
            refused,
            closed(0, 0, 10),
            granted(0, 20, 30),
            wait(1, 40, None),
        ];
        let figures = Figures::of(&waits, ms(40));
        let counts = [
            figures.refused,
            figures.closed,
            figures.grants,
            figures.waiting,
        ];
        assert_eq!((counts, figures.longest_gap), ([1; 4], ms(10)));
    }
}
