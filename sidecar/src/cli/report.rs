//! The findings of `check`, as text and JSON. Pure.

use gateway_queue_telemetry::{escaped, escaped_json};
use serde::Serialize;

use super::color::{Paint, Tone};

/// A subject of a check, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Flags and environment.
    Settings,
    /// The token, as read from its source.
    Token,
    /// The resolution of Discord's name.
    Dns,
    /// The connection to Discord.
    Tcp,
    /// The encryption of the connection.
    Tls,
    /// The response of Discord.
    Http,
    /// Whether Discord accepts the token.
    TokenAccepted,
    /// The session starts left.
    SessionStarts,
    /// The leader.
    Leader,
}

impl Subject {
    /// Returns the name of the subject.
    pub fn as_str(self) -> &'static str {
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

    /// Returns the exit code if this is the first failure; 1 means that the checks cannot run.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Settings => 2,
            Self::Token => 3,
            Self::Dns => 4,
            Self::Tcp => 5,
            Self::Tls => 6,
            Self::Http => 7,
            Self::TokenAccepted => 8,
            Self::SessionStarts => 9,
            Self::Leader => 10,
        }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Passed.
    Ok,
    /// Failed: something has to be done.
    Failed,
    /// Not checked.
    Skipped,
}

/// A checked subject and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub subject: Subject,
    /// The result.
    pub verdict: Verdict,
    /// The observation; for a failure also what to do.
    pub message: String,
}

impl Finding {
    /// Returns a passed check.
    pub fn ok(subject: Subject, message: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Ok,
            message: message.into(),
        }
    }

    /// Returns a failed check, with what to do.
    pub fn failed(subject: Subject, message: impl Into<String>, remedy: &str) -> Self {
        Self {
            subject,
            verdict: Verdict::Failed,
            message: format!("{}; {remedy}", message.into()),
        }
    }

    /// Returns a subject that was not checked, with the reason.
    pub fn skipped(subject: Subject, message: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Skipped,
            message: message.into(),
        }
    }
}

/// Returns the exit code of the first failure, or 0.
pub fn exit_code(findings: &[Finding]) -> u8 {
    let mut failed = findings.iter().filter(|f| f.verdict == Verdict::Failed);
    failed.next().map_or(0, |first| first.subject.exit_code())
}

/// Returns one line per check.
pub fn text(findings: &[Finding], paint: Paint) -> String {
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
    checks: Vec<Check<'a>>,
}

#[derive(Serialize)]
struct Check<'a> {
    check: &'static str,
    result: &'static str,
    message: &'a str,
}

/// Returns one JSON document on one line.
///
/// # Errors
///
/// Never, with these types.
pub fn json(findings: &[Finding]) -> serde_json::Result<String> {
    let checks = findings.iter().map(|finding| Check {
        check: finding.subject.as_str(),
        result: match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        },
        message: &finding.message,
    });
    let document = Document {
        exit_code: exit_code(findings),
        checks: checks.collect(),
    };
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
    fn each_check_is_one_line() {
        let expected = "\
ok       settings        valid
FAIL     token           it is empty; put one there
skipped  dns             no token to send
";
        assert_eq!(text(&three(), Paint::None), expected);
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
