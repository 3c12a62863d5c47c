//! Durations in a spec: `5s`, `250ms`, `1m30s`.

use std::time::Duration;

/// Parses a duration in the notation of Go and Kubernetes. Returns none if it is invalid or
/// negative.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let duration: kube::core::Duration = text.parse().ok()?;
    (!text.is_empty() && !duration.is_negative()).then(|| duration.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_in_the_notation_of_kubernetes() {
        for (text, millis) in [
            ("5s", 5_000),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("0.5s", 500),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn an_invalid_or_negative_duration_is_none() {
        for text in ["", "5", "five", "-5s", "5 s"] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }
}
