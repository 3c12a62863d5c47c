//! What clients saw that waited for their turns, and what follows from it. Pure:
//! all times are how long after some common beginning.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One request for a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who asked.
    pub shard: u32,
    /// The shard's bucket.
    pub bucket: u32,
    /// Where it asked, as the test calls it.
    pub place: String,
    /// When it asked.
    pub asked: Duration,
    /// When that ended, and how; none while it waits.
    pub end: Option<(Duration, End)>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With its turn.
    Granted,
    /// With anything else, once there was a connection.
    Closed(String),
    /// Nobody took the connection.
    Refused(String),
}

/// What follows from a number of waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Turns that were granted.
    pub grants: usize,
    /// Connections that were closed without a turn.
    pub closed: usize,
    /// Connections that nobody took.
    pub refused: usize,
    /// Requests that still wait.
    pub waiting: usize,
    /// The least time between two grants of one bucket.
    pub earliest: Option<Duration>,
    /// The longest time in which nobody in some bucket was granted a turn,
    /// though somebody waited in it all that time.
    pub gap: Duration,
    /// The longest time in which nobody at all was granted a turn, though
    /// somebody waited.
    pub silence: Duration,
}

impl Figures {
    /// Of all `waits`, as of `now`.
    pub fn of(waits: &[Wait], now: Duration) -> Self {
        let ended = |wanted: fn(&End) -> bool| {
            let ends = waits.iter().filter_map(|wait| wait.end.as_ref());
            ends.filter(|(_, end)| wanted(end)).count()
        };
        let mut buckets: BTreeMap<u32, Vec<&Wait>> = BTreeMap::new();
        for wait in waits {
            buckets.entry(wait.bucket).or_default().push(wait);
        }
        let gaps = buckets.values().map(|bucket| hungry(bucket, now));
        Self {
            grants: ended(|end| *end == End::Granted),
            closed: ended(|end| matches!(end, End::Closed(_))),
            refused: ended(|end| matches!(end, End::Refused(_))),
            waiting: waits.iter().filter(|wait| wait.end.is_none()).count(),
            earliest: buckets.values().filter_map(|bucket| closest(bucket)).min(),
            gap: gaps.max().unwrap_or_default(),
            silence: hungry(&waits.iter().collect::<Vec<_>>(), now),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let earliest = self
            .earliest
            .map_or_else(|| "none".to_owned(), |e| format!("{:.3} s", seconds(e)));
        write!(
            f,
            "{} grants, earliest spacing {earliest}, largest gap in a bucket while somebody \
             waited {:.3} s, longest time without a grant {:.3} s, connections closed {}, \
             refused {}, still waiting {}",
            self.grants,
            seconds(self.gap),
            seconds(self.silence),
            self.closed,
            self.refused,
            self.waiting,
        )
    }
}

/// The moments of the grants among `waits`, in their order.
pub fn grants<'a>(waits: impl IntoIterator<Item = &'a Wait>) -> Vec<Duration> {
    let granted = |wait: &Wait| match &wait.end {
        Some((at, End::Granted)) => Some(*at),
        _ => None,
    };
    let mut grants: Vec<_> = waits.into_iter().filter_map(granted).collect();
    grants.sort_unstable();
    grants
}

/// All that happened, one line for each request, for whoever reads about a
/// failed test.
pub fn tell(waits: &[Wait]) -> String {
    let mut waits: Vec<_> = waits.iter().collect();
    waits.sort_by_key(|wait| (wait.bucket, wait.end.as_ref().map(|(at, _)| *at)));
    let line = |wait: &&Wait| {
        let Wait {
            shard,
            bucket,
            place,
            asked,
            end,
        } = wait;
        let asked = seconds(*asked);
        let end = match end {
            Some((at, end)) => format!("{:.3} {end:?}", seconds(*at)),
            None => "waits".to_owned(),
        };
        format!("bucket {bucket} shard {shard} at {place}: {asked:.3} to {end}\n")
    };
    waits.iter().map(line).collect()
}

/// The least time between two grants.
fn closest(waits: &[&Wait]) -> Option<Duration> {
    let grants = grants(waits.iter().copied());
    grants.windows(2).map(|pair| pair[1] - pair[0]).min()
}

/// The longest time in which somebody waited all the time and nobody was
/// granted a turn.
fn hungry(waits: &[&Wait], now: Duration) -> Duration {
    enum What {
        Comes,
        Leaves { granted: bool },
    }
    let mut events = Vec::new();
    for wait in waits {
        match &wait.end {
            // It never waited.
            Some((_, End::Refused(_))) => {}
            Some((at, end)) => {
                let granted = *end == End::Granted;
                events.push((wait.asked, What::Comes));
                events.push((*at, What::Leaves { granted }));
            }
            None => events.push((wait.asked, What::Comes)),
        }
    }
    // Stable: who comes is pushed before it leaves.
    events.sort_by_key(|(at, _)| *at);
    let (mut waiting, mut since, mut longest) = (0_usize, now, Duration::ZERO);
    for (at, what) in events {
        match what {
            What::Comes => {
                if waiting == 0 {
                    since = at;
                }
                waiting += 1;
            }
            What::Leaves { granted } => {
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

fn seconds(length: Duration) -> f64 {
    length.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn wait(bucket: u32, asked: u64, end: Option<(u64, End)>) -> Wait {
        Wait {
            shard: bucket,
            bucket,
            place: "here".to_owned(),
            asked: ms(asked),
            end: end.map(|(at, end)| (ms(at), end)),
        }
    }

    fn granted(bucket: u32, asked: u64, at: u64) -> Wait {
        wait(bucket, asked, Some((at, End::Granted)))
    }

    fn closed(bucket: u32, asked: u64, at: u64) -> Wait {
        wait(bucket, asked, Some((at, End::Closed("reset".to_owned()))))
    }

    fn figures(waits: &[Wait], now: u64) -> Figures {
        Figures::of(waits, ms(now))
    }

    #[test]
    fn spacing_is_between_grants_of_one_bucket_wherever_they_waited() {
        let mut elsewhere = granted(0, 0, 5200);
        elsewhere.place = "there".to_owned();
        let others = [15_650, 10_400].map(|at| granted(0, 0, at));
        let waits = [&others[..], &[granted(1, 0, 5300), elsewhere]].concat();
        assert_eq!(figures(&waits, 16_000).earliest, Some(ms(5200)));
        assert_eq!(figures(&waits[2..], 16_000).earliest, None);
    }

    #[test]
    fn a_gap_begins_with_the_last_grant_or_with_the_first_who_waits() {
        // Nobody waits from 10 on; who comes at 1000 waits for 100.
        let idle = [granted(0, 0, 10), granted(0, 1000, 1100)];
        assert_eq!(figures(&idle, 2000).gap, ms(100));
        // Here somebody does.
        let busy = [granted(0, 0, 10), granted(0, 5, 1100)];
        assert_eq!(figures(&busy, 2000).gap, ms(1090));
    }

    #[test]
    fn a_gap_goes_on_when_one_of_those_who_wait_is_cut_off() {
        let waits = [closed(0, 0, 500), granted(0, 400, 2000)];
        assert_eq!(figures(&waits, 3000).gap, ms(2000));
        let apart = [closed(0, 0, 500), granted(0, 600, 2000)];
        assert_eq!(figures(&apart, 3000).gap, ms(1400));
    }

    #[test]
    fn who_still_waits_makes_a_gap_that_has_not_ended() {
        let waits = [granted(0, 0, 100), wait(0, 50, None)];
        let figures = figures(&waits, 9000);
        assert_eq!((figures.gap, figures.waiting), (ms(8900), 1));
    }

    #[test]
    fn a_grant_in_another_bucket_ends_the_silence_and_not_the_gap() {
        let waits = [granted(0, 0, 3000), granted(1, 0, 2000)];
        let figures = figures(&waits, 3000);
        assert_eq!((figures.gap, figures.silence), (ms(3000), ms(2000)));
    }

    #[test]
    fn ends_are_counted_by_their_kind_and_who_was_refused_never_waited() {
        let refused = wait(0, 0, Some((9000, End::Refused("nobody".to_owned()))));
        let waits = [refused, closed(0, 0, 10), granted(0, 20, 30)];
        let figures = figures(&waits, 40);
        assert_eq!((figures.refused, figures.closed, figures.grants), (1, 1, 1));
        assert_eq!(figures.gap, ms(10));
    }

    #[test]
    fn what_happened_is_told_bucket_by_bucket_in_the_order_of_the_ends() {
        let told = tell(&[granted(1, 0, 7), granted(0, 0, 9), granted(0, 0, 8)]);
        let ends: Vec<_> = told.lines().map(|line| &line[..20]).collect();
        assert_eq!(
            ends,
            [
                "bucket 0 shard 0 at ",
                "bucket 0 shard 0 at ",
                "bucket 1 shard 1 at "
            ]
        );
        assert!(told.find("0.008").unwrap() < told.find("0.009").unwrap());
    }
}
