//! What a leader leaves behind for the next: how long each bucket must still
//! be left alone.

use std::time::Duration;

/// How a Lease became free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nobody ever led: only the operator writes this, on the Lease of a
    /// GatewayQueue that is new.
    NeverLed,
    /// A leader released it.
    Left(Left),
}

/// What is left when a leader goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The Lease on which this was written. On another one it means nothing:
    /// somebody has copied it.
    pub lease: String,
    /// For each bucket, how long after this was sent it may grant again, in
    /// whole milliseconds, rounded up. When there is none all wait in full; when
    /// there are more buckets by then, all wait for the last of these.
    pub waits: Vec<Duration>,
    /// Between two grants of one bucket, as the leader kept it.
    pub spacing: Duration,
    /// Grants of the last two intervals, which Discord may not have counted;
    /// none when the leader did not know what its own predecessor granted.
    pub uncounted: Option<u64>,
}

impl Release {
    /// The annotation's value.
    pub fn write(&self) -> String {
        match self {
            Self::NeverLed => NEVER_LED.to_owned(),
            Self::Left(left) => {
                let waits: Vec<_> = left.waits.iter().map(millis).collect();
                let spacing = millis(&left.spacing);
                let uncounted = match left.uncounted {
                    Some(uncounted) => uncounted.to_string(),
                    None => UNKNOWN.to_owned(),
                };
                let Left { lease, .. } = left;
                format!("{lease} {uncounted} {spacing} {}", waits.join(","))
            }
        }
    }

    /// Reads what [`Release::write`] wrote. None for anything else, and for numbers
    /// that no leader can have written: that is as good as no record, and the Lease
    /// is waited out.
    pub fn read(text: &str) -> Option<Self> {
        if text == NEVER_LED {
            return Some(Self::NeverLed);
        }
        let (lease, rest) = text.split_once(' ')?;
        let (uncounted, rest) = rest.split_once(' ')?;
        let (spacing, waits) = rest.split_once(' ')?;
        let waits = waits.split(',').filter(|_| !waits.is_empty());
        let waits = waits.map(wait).collect::<Option<Vec<_>>>()?;
        let uncounted = match uncounted {
            UNKNOWN => None,
            uncounted => Some(uncounted.parse().ok().filter(|n| *n <= MAX_UNCOUNTED)?),
        };
        (waits.len() <= MAX_WAITS).then_some(())?;
        Some(Self::Left(Left {
            lease: lease.to_owned(),
            waits,
            spacing: wait(spacing)?,
            uncounted,
        }))
    }
}

fn wait(millis: &str) -> Option<Duration> {
    let wait = Duration::from_millis(millis.parse().ok()?);
    (wait <= MAX_WAIT).then_some(wait)
}

fn millis(length: &Duration) -> String {
    length.as_nanos().div_ceil(1_000_000).to_string()
}

/// A leader has at most this many buckets.
const MAX_WAITS: usize = 4096;

/// Spacing is at most two days, plus what each leader adds for its clock.
const MAX_WAIT: Duration = Duration::from_hours(72);

/// Far more than the grants of all buckets in two intervals.
const MAX_UNCOUNTED: u64 = 1_000_000;

const NEVER_LED: &str = "never-led";
const UNKNOWN: &str = "unknown";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_times_are_rounded_up() {
        let left = |waits: &[Duration]| {
            Release::Left(Left {
                lease: "0b6c-uid".to_owned(),
                waits: waits.to_vec(),
                spacing: Duration::from_millis(5250),
                uncounted: (waits.len() > 1).then_some(3),
            })
        };
        let millis = Duration::from_millis;
        for release in [
            Release::NeverLed,
            left(&[]),
            left(&[millis(0), millis(5250)]),
        ] {
            assert_eq!(Release::read(&release.write()), Some(release));
        }
        let odd = left(&[Duration::from_micros(1001)]).write();
        assert_eq!(Release::read(&odd), Some(left(&[millis(2)])));
    }

    #[test]
    fn what_cannot_be_read_is_no_record() {
        for text in [
            "",
            "x",
            "uid",
            "uid 1",
            "uid -1 0",
            "uid 1 a",
            "uid 1 1,,2",
            "Never-Led",
        ] {
            assert_eq!(Release::read(text), None, "{text}");
        }
    }
}
