//! A point in time, as a number.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds of the program's clock, which tests can simulate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The first moment.
    pub const ZERO: Self = Self(0);

    /// Returns the moment `nanos` nanoseconds after [`Moment::ZERO`].
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since [`Moment::ZERO`].
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at the last moment.
impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(nanos(length)))
    }
}

/// Saturates at [`Moment::ZERO`].
impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(length)))
    }
}

/// Returns a length in milliseconds, rounded up.
pub(crate) fn millis_rounded_up(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        let second = Duration::from_secs(1);
        assert_eq!(Moment::ZERO - second, Moment::ZERO);
        assert_eq!(Moment::ZERO.since(Moment::ZERO + second), Duration::ZERO);
        assert_eq!((Moment::ZERO + second).since(Moment::ZERO), second);
        assert_eq!(Moment::ZERO + Duration::MAX, Moment::from_nanos(u64::MAX));
    }
}
