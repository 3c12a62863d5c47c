//! Durations for people. Pure.

use std::time::Duration;

/// Returns the duration in at most two units, such as `3.1 s`, `42 s`, `12 min`, `3 h 12 min` and `2 d 3 h`.
pub(crate) fn human(duration: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_millis() as f64 / 1000.0),
        10..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => two(seconds, MINUTE, "min", 1, "s"),
        HOUR..DAY => two(seconds, HOUR, "h", MINUTE, "min"),
        _ => two(seconds, DAY, "d", HOUR, "h"),
    }
}

fn two(seconds: u64, unit: u64, name: &str, smaller: u64, smaller_name: &str) -> String {
    match seconds % unit / smaller {
        0 => format!("{} {name}", seconds / unit),
        rest => format!("{} {name} {rest} {smaller_name}", seconds / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_at_most_two_units() {
        for (ms, text) in [
            (0, "0.0 s"),
            (3120, "3.1 s"),
            (9999, "10.0 s"),
            (42_900, "42 s"),
            (60_000, "1 min"),
            (754_000, "12 min 34 s"),
            (11_520_000, "3 h 12 min"),
            (86_400_000, "1 d"),
            (183_600_000, "2 d 3 h"),
        ] {
            assert_eq!(human(Duration::from_millis(ms)), text);
        }
    }
}
