//! The report that a follower writes to the Lease if it cannot reach the leader. Only that pod
//! observes the fault; the operator reads the report.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The prefix of the annotation of each pod, before the pod's name.
const PREFIX: &str = "unreachable.gatewayqueue.dev/";

/// The maximum number of reports on a Lease. A GatewayQueue has at most ten pods; more reports are
/// of pods that no longer exist.
const MAX_REPORTS: usize = 16;

/// The report of a pod that cannot reach the leader.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Unreachable {
    /// The holder of the Lease that the report is about.
    pub leader: String,
    /// The address of the leader for forwarded requests.
    pub address: SocketAddr,
    /// When the leader last answered, by the pod's wall clock.
    pub since: Timestamp,
}

impl Unreachable {
    /// Returns the key of the annotation of `pod`.
    pub fn key(pod: &str) -> String {
        format!("{PREFIX}{pod}")
    }

    /// Returns the value of the annotation, as JSON.
    pub fn write(&self) -> String {
        // No known report fails; one that cannot be read is ignored.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Unreachable::write`] returns; none if it is anything else.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Returns the reports about this holder of the Lease, by pod.
pub fn unreachable<'a>(
    annotations: &'a BTreeMap<String, String>,
    holder: &str,
) -> BTreeMap<&'a str, Unreachable> {
    let reports = annotations.iter().filter_map(|(key, text)| {
        let pod = key.strip_prefix(PREFIX)?;
        Some((pod, Unreachable::read(text)?))
    });
    reports
        .filter(|(_, report)| report.leader == holder)
        .collect()
}

/// Returns the keys of the reports that are obsolete while `holder` is the leader: those about
/// another holder, those that cannot be read, and the oldest of more than 16.
pub fn obsolete(annotations: &BTreeMap<String, String>, holder: &str) -> Vec<String> {
    let reports = unreachable(annotations, holder);
    let mut newest: Vec<_> = reports.iter().collect();
    newest.sort_by_key(|(pod, report)| (std::cmp::Reverse(report.since), **pod));
    newest.truncate(MAX_REPORTS);
    let counts = |key: &String| {
        let pod = key.strip_prefix(PREFIX);
        newest.iter().any(|(kept, _)| pod == Some(**kept))
    };
    annotations
        .keys()
        .filter(|key| key.starts_with(PREFIX) && !counts(key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(leader: &str, second: i64) -> Unreachable {
        Unreachable {
            leader: leader.to_owned(),
            address: ([10, 0, 0, 1], 9091).into(),
            since: Timestamp::from_second(second).unwrap(),
        }
    }

    fn lease(reports: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::from([("other".to_owned(), "stays".to_owned())]);
        annotations.extend(
            reports
                .iter()
                .map(|(pod, text)| (Unreachable::key(pod), (*text).to_owned())),
        );
        annotations
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_nothing_else_is() {
        let report = report("my-bot-1_0badcafe-1", 7);
        let text = report.write();
        assert_eq!(
            text,
            r#"{"leader":"my-bot-1_0badcafe-1","address":"10.0.0.1:9091","since":"1970-01-01T00:00:07Z"}"#
        );
        assert_eq!(Unreachable::read(&text), Some(report));
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"leader":"a","address":"a:1","since":"1970-01-01T00:00:07Z"}"#,
            r#"{"leader":1,"address":"10.0.0.1:9091","since":"1970-01-01T00:00:07Z"}"#,
            r#"{"leader":"a","address":"10.0.0.1:9091","since":"99999-01-01T00:00:07Z"}"#,
        ] {
            assert_eq!(Unreachable::read(text), None, "{text}");
        }
    }

    #[test]
    fn only_reports_about_the_current_holder_count_and_the_rest_are_obsolete() {
        let (now, before) = (report("b", 7).write(), report("a", 5).write());
        let annotations = lease(&[("p1", &now), ("p2", &before), ("p3", "what?")]);
        let pods: Vec<_> = unreachable(&annotations, "b").into_keys().collect();
        assert_eq!(pods, ["p1"]);
        let keys = [Unreachable::key("p2"), Unreachable::key("p3")];
        assert_eq!(obsolete(&annotations, "b"), keys);
        assert_eq!(obsolete(&lease(&[]), "b"), [""; 0]);
    }

    #[test]
    fn pods_that_come_and_go_do_not_fill_the_lease() {
        let mut annotations = BTreeMap::new();
        for second in 0..1000 {
            let pod = format!("p{second}");
            let key = Unreachable::key(&pod);
            annotations.insert(key, report("a", second).write());
        }
        for key in obsolete(&annotations, "a") {
            annotations.remove(&key);
        }
        assert_eq!(annotations.len(), MAX_REPORTS);
        assert!(annotations.contains_key(&Unreachable::key("p999")));
    }
}
