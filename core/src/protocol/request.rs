//! What a client asks for: the query of its request.

use std::time::Duration;

/// Nobody may ask to wait longer before it is told that its turn has not come.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A request's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The shard that wants to identify.
    pub shard: u32,
    /// False when the shard was absent, unreadable or given twice.
    pub clear: bool,
    /// How long the client wants to wait. Who says so has opted in to other
    /// answers than the grant; none waits as long as it takes.
    pub wait: Option<Duration>,
}

/// What a client that opted in got wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// `shard`.
    Shard,
    /// `wait`.
    Wait,
}

/// One parameter, as it was given.
enum Given<T> {
    Absent,
    Read(T),
    /// More than once; here is the first.
    Twice(Option<T>),
    Unreadable,
}

/// Reads `shard=N` and `wait=S`. Other parameters are not looked at.
///
/// Without `wait` there is no error, since nothing but a grant may be answered:
/// a shard that is absent or cannot be read is 0, as in the original, and of
/// two the first counts.
///
/// # Errors
///
/// With `wait`: what cannot be read, or was given twice.
pub fn parse(query: Option<&str>) -> Result<Ask, Malformed> {
    let query = query.unwrap_or_default().as_bytes();
    let wait = match given(query, "wait", seconds) {
        Given::Absent => None,
        Given::Read(wait) => Some(wait),
        Given::Twice(_) | Given::Unreadable => return Err(Malformed::Wait),
    };
    let (shard, clear) = match given(query, "shard", number) {
        Given::Read(shard) => (shard, true),
        Given::Absent => (0, false),
        Given::Twice(_) | Given::Unreadable if wait.is_some() => return Err(Malformed::Shard),
        Given::Twice(first) => (first.unwrap_or(0), false),
        Given::Unreadable => (0, false),
    };
    Ok(Ask { shard, clear, wait })
}

/// No client has waited longer, as far as a leader believes.
pub const OLDEST: Duration = Duration::from_secs(7 * 86_400);

/// What one queue asks another for a client that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRequest {
    /// The holder that it asks. An address may be another pod's by now, and
    /// even another bot's.
    pub leader: String,
    /// The shard that wants to identify.
    pub shard: u32,
    /// How long its client has waited already.
    pub age: Duration,
    /// How long it wants to wait yet.
    pub wait: Option<Duration>,
}

impl ForwardedRequest {
    /// Returns the query of the forwarded request.
    pub fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("leader", &self.leader);
        query.append_pair("shard", &self.shard.to_string());
        query.append_pair("age", &self.age.as_millis().to_string());
        if let Some(wait) = self.wait {
            query.append_pair("wait", &wait.as_secs_f64().to_string());
        }
        query.finish()
    }

    /// Reads [`ForwardedRequest::query`]; none when it is anything else.
    pub fn parse(query: Option<&str>) -> Option<Self> {
        let ask = parse(query).ok().filter(|ask| ask.clear)?;
        let query = query?.as_bytes();
        let age = given(query, "age", |text| text.parse().ok());
        let leader = given(query, "leader", |text| Some(text.to_owned()));
        let (Given::Read(age), Given::Read(leader)) = (age, leader) else {
            return None;
        };
        Some(Self {
            leader,
            shard: ask.shard,
            age: Duration::from_millis(age).min(OLDEST),
            wait: ask.wait,
        })
    }
}

/// Where a queue asks another whether it leads by a name.
const PROBE: &str = "/probe";

/// The path and query of a probe.
pub fn probe(leader: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("leader", leader);
    format!("{PROBE}?{}", query.finish())
}

/// The leader that a probe names; none when the request is anything else.
pub fn probed(path: &str, query: Option<&str>) -> Option<String> {
    let query = query.filter(|_| path == PROBE)?.as_bytes();
    match given(query, "leader", |text| Some(text.to_owned())) {
        Given::Read(leader) => Some(leader),
        Given::Absent | Given::Twice(_) | Given::Unreadable => None,
    }
}

fn given<T>(query: &[u8], name: &str, read: impl Fn(&str) -> Option<T>) -> Given<T> {
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

/// Digits only: `parse` alone would take a plus sign.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Whole or decimal seconds: `parse` alone would take `inf` and `1e3`, too.
fn seconds(text: &str) -> Option<Duration> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds = plain.then(|| text.parse().ok())??;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    (wait <= LONGEST_WAIT).then_some(wait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shard(query: &str) -> Option<u32> {
        let ask = parse(Some(query)).unwrap();
        ask.clear.then_some(ask.shard)
    }

    fn wait(query: &str) -> Result<Option<Duration>, Malformed> {
        parse(Some(query)).map(|ask| ask.wait)
    }

    #[test]
    fn a_shard_is_read_wherever_it_stands() {
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
    fn without_wait_what_cannot_be_read_is_shard_0_and_says_so() {
        for query in UNREADABLE.into_iter().chain(["SHARD=1", "&&==", ""]) {
            assert_eq!(shard(query), None, "{query}");
            assert_eq!(parse(Some(query)).unwrap().shard, 0);
        }
        assert!(!parse(None).unwrap().clear);
    }

    #[test]
    fn of_two_shards_the_first_counts_and_it_is_noted() {
        let ask = parse(Some("shard=3&shard=4")).unwrap();
        assert_eq!((ask.shard, ask.clear), (3, false));
    }

    #[test]
    fn with_wait_what_cannot_be_read_is_refused() {
        for query in UNREADABLE.into_iter().chain(["shard=1&shard=1"]) {
            let query = format!("{query}&wait=1");
            assert_eq!(parse(Some(&query)), Err(Malformed::Shard), "{query}");
        }
        // Absent is 0, as always.
        assert_eq!(parse(Some("wait=1")).unwrap().shard, 0);
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
    fn a_forwarded_request_is_read_as_it_was_written() {
        for wait in [None, Some(Duration::from_millis(1500))] {
            let forwarded = ForwardedRequest {
                leader: "my-bot-7d9f_0badcafe-1".to_owned(),
                shard: 7,
                age: Duration::from_secs(90),
                wait,
            };
            assert_eq!(
                ForwardedRequest::parse(Some(&forwarded.query())),
                Some(forwarded)
            );
        }
        for query in [
            "",
            "leader=a&shard=1",
            "leader=a&age=1",
            "shard=1&age=1",
            "leader=a&shard=x&age=1",
            "leader=a&shard=1&age=-1",
        ] {
            assert_eq!(ForwardedRequest::parse(Some(query)), None, "{query}");
        }
        let forged = format!("leader=a&shard=1&age={}", u64::MAX);
        assert_eq!(ForwardedRequest::parse(Some(&forged)).unwrap().age, OLDEST);
    }

    #[test]
    fn a_probe_is_read_as_it_was_written_and_nothing_else_is_one() {
        let target = probe("my-bot-7d9f_0bad&cafe-1");
        let (path, query) = target.split_once('?').unwrap();
        let leader = probed(path, Some(query));
        assert_eq!(leader.as_deref(), Some("my-bot-7d9f_0bad&cafe-1"));
        assert_eq!(ForwardedRequest::parse(Some(query)), None);
        assert_eq!(probed("/", Some(query)), None);
        assert_eq!(probed(path, None), None);
        assert_eq!(probed(path, Some("leader=a&leader=b")), None);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_only_a_wait_is_ever_refused(
            words in prop::collection::vec("(shard|wait|Wait|=|&|%73hard|%|[0-9]|-|\\PC){1,3}", 0..12),
        ) {
            let query = words.concat();
            let opted_in = url::form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == "wait");
            prop_assert!(parse(Some(&query)).is_ok() || opted_in);
        }

        #[test]
        fn every_shard_and_every_wait_is_read_as_it_was_meant(
            shard: u32,
            millis in 0..=3_600_000_u64,
        ) {
            let query = format!("shard={shard}&wait={}", millis as f64 / 1000.0);
            let ask = parse(Some(&query)).unwrap();
            prop_assert_eq!((ask.shard, ask.clear), (shard, true));
            let wait = ask.wait.unwrap();
            prop_assert!(wait.abs_diff(Duration::from_millis(millis)) < Duration::from_micros(1));
        }
    }
}
