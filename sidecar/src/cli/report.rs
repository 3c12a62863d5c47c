//! The findings of `check`, as text and JSON. Pure.

use gateway_queue_telemetry::{escaped, escaped_json};
use serde::{Serialize, Serializer};

use super::color::{Paint, Tone};

/// A subject of a check, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Settings,
    Token,
    Dns,
    Tcp,
    Tls,
    Http,
    TokenAccepted,
    SessionStarts,
    Leader,
}

impl Subject {
    fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Token => "token",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::TokenAccepted => "token_accepted",
            Self::SessionStarts => "session_starts",
            Self::Leader => "leader",
        }
    }

    /// Returns the exit code if this is the first failure: 2 to 10. 1 means that the checks
    /// cannot run.
    fn exit_code(self) -> u8 {
        self as u8 + 2
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Failed,
    Skipped,
}

/// A checked subject and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    #[serde(rename = "check")]
    pub(crate) subject: Subject,
    #[serde(rename = "result")]
    pub(crate) verdict: Verdict,
    /// The observation; for a failure also what to do.
    pub(crate) message: String,
}

impl Finding {
    fn new(subject: Subject, verdict: Verdict, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            subject,
            verdict,
            message,
        }
    }

    pub(crate) fn ok(subject: Subject, message: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Ok, message)
    }

    pub(crate) fn failed(subject: Subject, message: impl Into<String>, remedy: &str) -> Self {
        let message = format!("{}; {remedy}", message.into());
        Self::new(subject, Verdict::Failed, message)
    }

    pub(crate) fn skipped(subject: Subject, message: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Skipped, message)
    }
}

/// Returns the exit code of the first failure, or 0.
pub(crate) fn exit_code(findings: &[Finding]) -> u8 {
    let mut failed = findings.iter().filter(|f| f.verdict == Verdict::Failed);
    failed.next().map_or(0, |first| first.subject.exit_code())
}

/// Returns one line per check.
pub(crate) fn text(findings: &[Finding], paint: Paint) -> String {
    let lines = findings.iter().map(|finding| {
        let (tone, word) = match finding.verdict {
            Verdict::Ok => (Tone::Good, "ok"),
            Verdict::Failed => (Tone::Bad, "FAIL"),
            Verdict::Skipped => (Tone::Faint, "skipped"),
        };
        let verdict = paint.apply(tone, &format!("{word:<8}"));
        format!(
            "{verdict} {:<15} {}\n",
            finding.subject.as_str(),
            escaped(&finding.message)
        )
    });
    lines.collect()
}

#[derive(Serialize)]
struct Document<'a> {
    exit_code: u8,
    checks: &'a [Finding],
}

/// Returns one JSON document on one line.
pub(crate) fn json(checks: &[Finding]) -> serde_json::Result<String> {
    let exit_code = exit_code(checks);
    let document = Document { exit_code, checks };
    serde_json::to_string(&document).map(|json| escaped_json(&json).into_owned() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> [Finding; 3] {
        [
            Finding::ok(Subject::Settings, "valid"),
            Finding::failed(Subject::Token, "it is empty", "put one there"),
            Finding::skipped(Subject::Dns, "no token to send"),
        ]
    }

    #[test]
    fn text_from_outside_cannot_control_the_terminal() {
        let evil = [Finding::ok(Subject::Leader, "a\x1b[31m\nok\u{9b}b")];
        assert_eq!(
            text(&evil, Paint::None),
            "ok       leader          a\\u{1b}[31m\\nok\\u{9b}b\n"
        );
        assert!(json(&evil).unwrap().contains(r"a\u001b[31m\nok\u009bb"));
    }

    #[test]
    fn the_json_is_one_document() {
        let expected = concat!(
            r#"{"exit_code":3,"checks":[{"check":"settings","result":"ok","message":"valid"},"#,
            r#"{"check":"token","result":"failed","message":"it is empty; put one there"},"#,
            r#"{"check":"dns","result":"skipped","message":"no token to send"}]}"#,
            "\n"
        );
        assert_eq!(json(&three()).unwrap(), expected);
    }

    #[test]
    fn the_first_failure_is_the_exit_code() {
        let mut findings = three().to_vec();
        findings.push(Finding::failed(Subject::Leader, "none", "wait"));
        assert_eq!(exit_code(&findings), 3);
        findings.remove(1);
        assert_eq!(exit_code(&findings), 10);
        findings.pop();
        assert_eq!(exit_code(&findings), 0);
    }
}
