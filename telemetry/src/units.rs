//! Durations as fields say them: their names end in the unit, and JSON has a number.

use std::time::Duration;

/// For fields that end in `_ms`.
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// For fields that end in `_us`.
pub fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
