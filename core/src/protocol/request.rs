//! The query of a client's request.

use std::time::Duration;

use crate::names::named;

/// The longest `wait` that a client may send.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// The parameters of a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The shard that will identify, or that the report is about.
    pub shard: Shard,
    /// How long the client is willing to wait. A client that sends it accepts other responses
    /// than the grant. None waits until the grant.
    pub wait: Option<Duration>,
    /// What the client reports. Such a request waits for no grant, and accepts other responses.
    pub report: Option<Report>,
}

/// The shard of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The id of the shard; 0 if it was absent or unreadable.
    pub id: u32,
    /// Whether the shard was given exactly once and could be read. If not, requests of many shards
    /// may have the same id.
    pub is_valid: bool,
}

impl From<u32> for Shard {
    fn from(id: u32) -> Self {
        Self { id, is_valid: true }
    }
}

named! {
    /// What a client reports about the connection of a shard.
    pub enum Report {
        /// Discord sent READY: the shard has identified.
        Ready = "ready",
        /// Discord sent RESUMED.
        Resumed = "resumed",
        /// Discord sent Invalid Session: it refused an identify or a resume.
        InvalidSession = "invalid_session",
        /// The connection was closed.
        Closed = "closed",
    }
}

impl Parameters {
    /// Returns the query of this request, with which an agent sends it to its upstream.
    pub fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        // An invalid one without a number is left out: clients of many shards may send it.
        if self.shard.is_valid || self.shard.id != 0 {
            query.append_pair("shard", &self.shard.id.to_string());
        }
        if let Some(wait) = self.wait {
            query.append_pair("wait", &wait.as_secs_f64().to_string());
        }
        if let Some(report) = self.report {
            query.append_pair("report", report.as_str());
        }
        query.finish()
    }
}

/// The parameter that a request with `wait` or `report` has wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The parameter `shard`.
    Shard,
    /// The parameter `wait`.
    Wait,
    /// The parameter `report`.
    Report,
}

/// One parameter as it was sent.
pub(super) enum Given<T> {
    Absent,
    Read(T),
    /// More than once; with the first value, if it can be read.
    Twice(Option<T>),
    Unreadable,
}

/// Reads `shard=N`, `wait=S` and `report=NAME`. Other parameters are ignored.
///
/// Without `wait` and `report` there is no error, because the only response is the grant: a shard
/// that is absent or unreadable is 0, as in the original, and the first of two shards counts.
///
/// # Errors
///
/// With `wait` or `report`, the parameter that is unreadable or was given twice; with `report`, also
/// an absent shard.
pub fn parse(query: Option<&str>) -> Result<Parameters, Malformed> {
    let query = query.unwrap_or_default().as_bytes();
    let wait = once(given(query, "wait", seconds), Malformed::Wait)?;
    let report = once(given(query, "report", Report::parse), Malformed::Report)?;
    let opted_in = wait.is_some() || report.is_some();
    let invalid = |id| Shard {
        id,
        is_valid: false,
    };
    let shard = match given(query, "shard", number) {
        Given::Read(id) => Shard::from(id),
        Given::Absent if report.is_none() => invalid(0),
        _ if opted_in => return Err(Malformed::Shard),
        Given::Twice(first) => invalid(first.unwrap_or(0)),
        Given::Absent | Given::Unreadable => invalid(0),
    };
    Ok(Parameters {
        shard,
        wait,
        report,
    })
}

/// Returns a parameter that may be absent, but must be readable and given once.
fn once<T>(given: Given<T>, malformed: Malformed) -> Result<Option<T>, Malformed> {
    match given {
        Given::Absent => Ok(None),
        Given::Read(value) => Ok(Some(value)),
        Given::Twice(_) | Given::Unreadable => Err(malformed),
    }
}

/// Reads a parameter of a query.
pub(super) fn given<T>(query: &[u8], name: &str, read: impl Fn(&str) -> Option<T>) -> Given<T> {
    // Some clients percent-encode everything.
    let mut values = url::form_urlencoded::parse(query)
        .filter(|(key, _)| key == name)
        .map(|(_, value)| read(&value));
    match (values.next(), values.next()) {
        (None, _) => Given::Absent,
        (Some(first), Some(_)) => Given::Twice(first),
        (Some(Some(value)), None) => Given::Read(value),
        (Some(None), None) => Given::Unreadable,
    }
}

/// Reads digits only: `parse` alone would accept a plus sign.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Reads whole or decimal seconds: `parse` alone would accept `inf` and `1e3`, too.
fn seconds(text: &str) -> Option<Duration> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds = plain.then(|| text.parse().ok())??;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    (wait <= MAX_WAIT).then_some(wait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shard(query: &str) -> Option<u32> {
        let shard = parse(Some(query)).unwrap().shard;
        shard.is_valid.then_some(shard.id)
    }

    /// Returns the id of a shard that is not valid.
    fn invalid(query: Option<&str>) -> u32 {
        let shard = parse(query).unwrap().shard;
        assert!(!shard.is_valid, "{query:?}");
        shard.id
    }

    fn wait(query: &str) -> Result<Option<Duration>, Malformed> {
        parse(Some(query)).map(|parameters| parameters.wait)
    }

    #[test]
    fn a_shard_is_read_at_any_position() {
        assert_eq!(shard("shard=0"), Some(0));
        assert_eq!(shard("a=b&shard=42&wait=3"), Some(42));
        assert_eq!(shard("shard=4294967295"), Some(u32::MAX));
        assert_eq!(shard("shard=%34%32"), Some(42));
        assert_eq!(shard("%73hard=0042"), Some(42));
    }

    const UNREADABLE: [&str; 12] = [
        "shard=abc",
        "shard=-1",
        "shard=+1",
        "shard=",
        "shard",
        "shard=4294967296",
        "shard=18446744073709551616",
        "shard=1.0",
        "shard= 1",
        "shard=%00",
        "shard=%ff1",
        "shard=\u{661}",
    ];

    #[test]
    fn without_wait_an_unreadable_shard_is_0_and_marked_invalid() {
        for query in UNREADABLE.into_iter().chain(["SHARD=1", "&&==", ""]) {
            assert_eq!(invalid(Some(query)), 0, "{query}");
        }
        assert_eq!(invalid(None), 0);
    }

    #[test]
    fn the_first_of_two_shards_counts_and_is_marked_invalid() {
        assert_eq!(invalid(Some("shard=3&shard=4")), 3);
    }

    #[test]
    fn with_wait_an_unreadable_shard_is_refused() {
        for query in UNREADABLE.into_iter().chain(["shard=1&shard=1"]) {
            let query = format!("{query}&wait=1");
            assert_eq!(parse(Some(&query)), Err(Malformed::Shard), "{query}");
        }
        // Absent is 0, as always.
        assert_eq!(invalid(Some("wait=1")), 0);
    }

    #[test]
    fn a_report_is_one_of_its_names_about_one_valid_shard() {
        for report in Report::ALL {
            let query = format!("shard=3&report={}", report.as_str());
            let parameters = parse(Some(&query)).unwrap();
            assert_eq!(parameters.report, Some(report));
            assert_eq!(parameters.shard, Shard::from(3));
        }
        let refused = |query: &str| parse(Some(query)).unwrap_err();
        for report in ["", "READY", "ready ", "identified", "ready&report=ready"] {
            let query = format!("shard=3&report={report}");
            assert_eq!(refused(&query), Malformed::Report, "{query}");
        }
        for shard in UNREADABLE.into_iter().chain(["shard=1&shard=1", "x=1"]) {
            let query = format!("{shard}&report=ready");
            assert_eq!(refused(&query), Malformed::Shard, "{query}");
        }
        assert_eq!(refused("shard=3&report=ready&wait=x"), Malformed::Wait);
        let both = parse(Some("shard=3&report=ready&wait=1")).unwrap();
        assert_eq!(both.report, Some(Report::Ready));
    }

    #[test]
    fn a_wait_is_whole_or_decimal_seconds_up_to_an_hour() {
        for (text, millis) in [
            ("0", 0),
            ("45", 45_000),
            ("0.25", 250),
            (".5", 500),
            ("%33%30", 30_000),
            ("3600", 3_600_000),
        ] {
            let read = wait(&format!("shard=1&wait={text}"));
            assert_eq!(read, Ok(Some(Duration::from_millis(millis))), "{text}");
        }
        for text in [
            "", "-1", "+1", "1e9", "1e1", "NaN", "inf", "3600.1", "1.2.3", ".", "1s", "0x1", " 1",
            "1,5",
        ] {
            let read = wait(&format!("shard=1&wait={text}"));
            assert_eq!(read, Err(Malformed::Wait), "{text}");
        }
        assert_eq!(wait("wait"), Err(Malformed::Wait));
        assert_eq!(wait("wait=1&wait=1"), Err(Malformed::Wait));
        assert_eq!(wait("shard=1"), Ok(None));
    }

    #[test]
    fn the_request_of_an_agent_is_read_as_it_was_written() {
        for wait in [None, Some(0), Some(1), Some(250), Some(45_000)] {
            for report in [None, Some(Report::Ready)] {
                let parameters = Parameters {
                    shard: Shard::from(7),
                    wait: wait.map(Duration::from_millis),
                    report,
                };
                assert_eq!(parse(Some(&parameters.query())), Ok(parameters));
            }
        }
        for query in ["shard=1&wait=45", "shard=1", "wait=0.25"] {
            assert_eq!(parse(Some(query)).unwrap().query(), query);
        }
    }

    proptest! {
        #[test]
        fn only_a_request_with_wait_or_report_is_refused(
            words in prop::collection::vec("(shard|wait|Wait|report|ready|=|&|%73hard|%|[0-9]|-|\\PC){1,3}", 0..12),
        ) {
            let query = words.concat();
            let mut keys = url::form_urlencoded::parse(query.as_bytes()).map(|(key, _)| key);
            let opted_in = keys.any(|key| key == "wait" || key == "report");
            prop_assert!(parse(Some(&query)).is_ok() || opted_in);
        }

        #[test]
        fn every_shard_and_every_wait_is_read(
            shard: u32,
            millis in 0..=3_600_000_u64,
        ) {
            let query = format!("shard={shard}&wait={}", millis as f64 / 1000.0);
            let parameters = parse(Some(&query)).unwrap();
            prop_assert_eq!(parameters.shard, Shard::from(shard));
            let wait = parameters.wait.unwrap();
            prop_assert!(wait.abs_diff(Duration::from_millis(millis)) < Duration::from_micros(1));
        }
    }
}
