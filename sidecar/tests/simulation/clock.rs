//! True time, which no pod knows, and the clocks of the pods.

use std::time::Duration;

use gateway_queue_core::time::Moment;
use jiff::Timestamp;

/// Nanoseconds of true time since the simulation began.
pub(crate) type True = u64;

pub(crate) const MILLI: True = 1_000_000;
pub(crate) const SECOND: True = 1_000 * MILLI;

/// The time of the wall clock when the simulation begins, in seconds: in 2026.
const BEGINNING: i64 = 1_780_000_000;

/// The slowest and the fastest clock, in millionths of true time: at most 5 % apart.
pub(crate) const RATES: (u64, u64) = (975_000, 1_025_000);

pub(crate) fn length(time: True) -> Duration {
    Duration::from_nanos(time)
}

/// A clock with its own rate and any offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) ahead: u64,
    pub(crate) rate: u64,
    /// The error of the wall clock, in seconds.
    pub(crate) wrong: i64,
}

impl Clock {
    /// Returns what it shows at `time`.
    pub(crate) fn at(self, time: True) -> Moment {
        Moment::from_nanos(self.ahead + time * self.rate / 1_000_000)
    }

    /// Returns what the wall clock shows at `time`.
    pub(crate) fn wall(self, time: True) -> Timestamp {
        let nanos = i128::from(BEGINNING + self.wrong) * i128::from(SECOND) + i128::from(time);
        Timestamp::from_nanosecond(nanos).unwrap()
    }

    /// Returns the first time at which it shows `moment`.
    pub(crate) fn when(self, moment: Moment) -> True {
        let shown = moment.as_nanos().saturating_sub(self.ahead);
        // Far beyond the end.
        let shown = shown.min(1_000_000 * SECOND);
        shown.saturating_mul(1_000_000).div_ceil(self.rate)
    }
}
