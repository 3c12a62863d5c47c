//! What `check` found, and how it says so. Pure.

use gateway_queue_telemetry::{escaped, escaped_json};
use serde::Serialize;

use super::color::{Paint, Tone};

/// What is checked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Flags and environment.
    Settings,
    /// The token, where it comes from.
    Token,
    /// Discord's name.
    Dns,
    /// A connection to it.
    Tcp,
    /// Encryption.
    Tls,
    /// An answer that can be used.
    Http,
    /// Whether Discord takes the token.
    TokenAccepted,
    /// What is left of the session starts.
    SessionStarts,
    /// Who leads.
    Leader,
}

impl Subject {
    /// Its name, for people and scripts.
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

    /// What the process says when this is the first that fails. 1 is what it says when
    /// it cannot do its work.
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

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Somebody has to do something.
    Failed,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub subject: Subject,
    /// What came of it.
    pub verdict: Verdict,
    /// What was found; for a failure also what to do.
    pub words: String,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(subject: Subject, words: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Ok,
            words: words.into(),
        }
    }

    /// It is not, and this is what to do.
    pub fn failed(subject: Subject, words: impl Into<String>, remedy: &str) -> Self {
        Self {
            subject,
            verdict: Verdict::Failed,
            words: format!("{}; {remedy}", words.into()),
        }
    }

    /// It was not checked, for this reason.
    pub fn skipped(subject: Subject, why: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Skipped,
            words: why.into(),
        }
    }
}

/// That of the first failure; 0 when there is none.
pub fn exit_code(findings: &[Finding]) -> u8 {
    let mut failed = findings.iter().filter(|f| f.verdict == Verdict::Failed);
    failed.next().map_or(0, |first| first.subject.exit_code())
}

/// One line a check.
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
            escaped(&finding.words)
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

/// One document in one line.
///
/// # Errors
///
/// When it cannot be written as JSON; it has no reason to.
pub fn json(findings: &[Finding]) -> serde_json::Result<String> {
    let checks = findings.iter().map(|finding| Check {
        check: finding.subject.as_str(),
        result: match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        },
        message: &finding.words,
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
            Finding::ok(Subject::Settings, "can be read"),
            Finding::failed(Subject::Token, "it is empty", "put one there"),
            Finding::skipped(Subject::Dns, "there is no token to ask with"),
        ]
    }

    #[test]
    fn a_check_is_a_line() {
        let expected = "\
ok       settings        can be read
FAIL     token           it is empty; put one there
skipped  dns             there is no token to ask with
";
        assert_eq!(text(&three(), Paint::None), expected);
    }

    #[test]
    fn what_others_say_drives_no_terminal() {
        let evil = [Finding::ok(Subject::Leader, "a\x1b[31m\nok\u{9b}b")];
        assert_eq!(
            text(&evil, Paint::None),
            "ok       leader          a\\u{1b}[31m\\nok\\u{9b}b\n"
        );
        assert!(json(&evil).unwrap().contains(r"a\u001b[31m\nok\u009bb"));
    }

    #[test]
    fn for_scripts_all_is_one_document() {
        let expected = concat!(
            r#"{"exit_code":3,"checks":[{"check":"settings","result":"ok","message":"can be read"},"#,
            r#"{"check":"token","result":"failed","message":"it is empty; put one there"},"#,
            r#"{"check":"dns","result":"skipped","message":"there is no token to ask with"}]}"#,
            "\n"
        );
        assert_eq!(json(&three()).unwrap(), expected);
    }

    #[test]
    fn the_first_failure_is_the_exit_code() {
        let mut findings = three().to_vec();
        findings.push(Finding::failed(Subject::Leader, "nobody", "wait"));
        assert_eq!(exit_code(&findings), 3);
        findings.remove(1);
        assert_eq!(exit_code(&findings), 10);
        findings.pop();
        assert_eq!(exit_code(&findings), 0);
    }
}
