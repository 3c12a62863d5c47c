//! Durations as numbers, for fields whose names end in the unit.

use std::time::Duration;

/// Returns the milliseconds, for fields that end in `_ms`.
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the microseconds, for fields that end in `_us`.
pub fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
