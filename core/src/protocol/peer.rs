//! The requests of one pod to another, on the peer port.

use std::time::Duration;

use crate::names::named;
use crate::protocol::request::{Given, Report, Shard, given, parse};

/// The longest age of a forwarded request; a leader reduces a longer one to this.
pub const MAX_AGE: Duration = Duration::from_secs(7 * 86_400);

/// A request that a follower forwards to the leader for a waiting client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRequest {
    /// The holder of the Lease to which it is addressed. By the time it arrives, the address may
    /// belong to another pod, even of another bot.
    pub leader: String,
    /// The shard that will identify.
    pub shard: Shard,
    /// How long the client has waited already.
    pub age: Duration,
    /// How much longer the client is willing to wait.
    pub wait: Option<Duration>,
}

impl ForwardedRequest {
    /// Returns the query of the forwarded request.
    pub fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("leader", &self.leader);
        query.append_pair("shard", &self.shard.id.to_string());
        if !self.shard.is_valid {
            query.append_pair(INVALID_SHARD, "true");
        }
        query.append_pair("age", &self.age.as_millis().to_string());
        if let Some(wait) = self.wait {
            query.append_pair("wait", &wait.as_secs_f64().to_string());
        }
        query.finish()
    }

    /// Reads what [`ForwardedRequest::query`] returns; none if it is anything else.
    pub fn parse(query: Option<&str>) -> Option<Self> {
        let parameters = parse(query)
            .ok()
            .filter(|parameters| parameters.shard.is_valid && parameters.report.is_none())?;
        let query = query?.as_bytes();
        let age = given(query, "age", |text| text.parse().ok());
        let (Given::Read(age), Some(leader)) = (age, leader(query)) else {
            return None;
        };
        let invalid = given(query, INVALID_SHARD, |_| Some(()));
        Some(Self {
            leader,
            shard: Shard {
                is_valid: matches!(invalid, Given::Absent),
                ..parameters.shard
            },
            age: Duration::from_millis(age).min(MAX_AGE),
            wait: parameters.wait,
        })
    }
}

/// Present in a forwarded request if the client sent no valid shard.
const INVALID_SHARD: &str = "invalid_shard";

/// A report that a follower passes on to the leader.
///
/// It has no age, so that a leader of an older version does not take it for a forwarded request,
/// and grants nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedReport {
    /// The holder of the Lease to which it is addressed.
    pub leader: String,
    /// The shard that it is about.
    pub shard: u32,
    /// What the client reports.
    pub report: Report,
}

impl ForwardedReport {
    /// Returns the query of the forwarded report.
    pub fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("leader", &self.leader);
        query.append_pair("shard", &self.shard.to_string());
        query.append_pair("report", self.report.as_str());
        query.finish()
    }

    /// Reads what [`ForwardedReport::query`] returns; none if it is anything else.
    pub fn parse(query: Option<&str>) -> Option<Self> {
        let parameters = parse(query).ok()?;
        Some(Self {
            leader: leader(query?.as_bytes())?,
            shard: parameters.shard.id,
            report: parameters.report?,
        })
    }
}

/// Returns the holder to which a query is addressed.
fn leader(query: &[u8]) -> Option<String> {
    match given(query, "leader", |text| Some(text.to_owned())) {
        Given::Read(leader) => Some(leader),
        Given::Absent | Given::Twice(_) | Given::Unreadable => None,
    }
}

named! {
    /// What a follower asks its leader for itself. The name is the path.
    pub enum Question {
        /// Whether the process is still the leader.
        Probe = "/probe",
        /// The limits.
        Limits = "/gateway/bot",
    }
}

impl Question {
    /// Returns the path and query of this question to the holder `leader`.
    pub fn target(self, leader: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("leader", leader);
        format!("{}?{}", self.as_str(), query.finish())
    }

    /// Reads what [`Question::target`] returns: the question and the holder; none if it is anything
    /// else.
    pub fn read(path: &str, query: Option<&str>) -> Option<(Self, String)> {
        Some((Self::parse(path)?, leader(query?.as_bytes())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_request_is_read_as_it_was_written() {
        let waits = [None, Some(Duration::from_millis(1500))];
        for (wait, is_valid) in waits.into_iter().zip([true, false]) {
            let forwarded = ForwardedRequest {
                leader: "my-bot-7d9f_0badcafe-1".to_owned(),
                shard: Shard { id: 7, is_valid },
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
            "leader=a&shard=1&age=1&report=ready",
        ] {
            assert_eq!(ForwardedRequest::parse(Some(query)), None, "{query}");
        }
        let forged = format!("leader=a&shard=1&age={}", u64::MAX);
        assert_eq!(ForwardedRequest::parse(Some(&forged)).unwrap().age, MAX_AGE);
    }

    #[test]
    fn a_forwarded_report_is_read_as_it_was_written_and_asks_for_no_grant() {
        for report in Report::ALL {
            let forwarded = ForwardedReport {
                leader: "my-bot-7d9f_0bad&cafe-1".to_owned(),
                shard: 7,
                report,
            };
            let query = forwarded.query();
            // A leader of an older version ignores `report`, and grants only a request with an age.
            assert!(!query.contains("age="), "{query}");
            assert_eq!(ForwardedRequest::parse(Some(&query)), None);
            assert_eq!(ForwardedReport::parse(Some(&query)), Some(forwarded));
        }
        for query in [
            "",
            "leader=a&shard=1",
            "leader=a&shard=1&age=1",
            "shard=1&report=ready",
            "leader=a&report=ready",
            "leader=a&shard=1&report=x",
        ] {
            assert_eq!(ForwardedReport::parse(Some(query)), None, "{query}");
        }
    }

    #[test]
    fn a_question_is_read_as_it_was_written_and_nothing_else_is_one() {
        const HOLDER: &str = "my-bot-7d9f_0bad&cafe-1";
        for question in Question::ALL {
            let target = question.target(HOLDER);
            let (path, query) = target.split_once('?').unwrap();
            let read = Question::read(path, Some(query));
            assert_eq!(read, Some((question, HOLDER.to_owned())));
            assert_eq!(ForwardedRequest::parse(Some(query)), None);
            assert_eq!(Question::read("/", Some(query)), None);
            assert_eq!(Question::read(path, None), None);
            assert_eq!(Question::read(path, Some("leader=a&leader=b")), None);
        }
    }
}
