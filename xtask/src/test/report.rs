//! The results of the suites, as text. Pure.

use std::fmt::Write as _;

/// The result of one suite.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) suite: &'static str,
    pub(super) seconds: u64,
    pub(super) verdict: Verdict,
}

/// The result of a suite, with its reason.
#[derive(Debug)]
pub(super) enum Verdict {
    Passed,
    /// Some of its tests were skipped: which ones and why.
    PassedInPart(&'static str),
    /// It does not apply here: why.
    Skipped(&'static str),
    /// Its failed tests, or another cause.
    Failed(String),
    /// It needs this suite, which did not pass.
    NotRun(&'static str),
}

/// Returns the first of the needed suites that did not pass.
pub(super) fn unmet(needs: &[&'static str], outcomes: &[Outcome]) -> Option<&'static str> {
    let met = |name: &str| {
        let mut of_it = outcomes.iter().filter(|outcome| outcome.suite == name);
        of_it.any(|outcome| match outcome.verdict {
            Verdict::Passed | Verdict::PassedInPart(_) | Verdict::Skipped(_) => true,
            Verdict::Failed(_) | Verdict::NotRun(_) => false,
        })
    };
    needs.iter().copied().find(|need| !met(need))
}

/// Returns the names of the failed suites.
pub(super) fn failed(outcomes: &[Outcome]) -> Vec<&'static str> {
    names(outcomes, |verdict| matches!(verdict, Verdict::Failed(_)))
}

/// Returns the names of the suites of which all or some tests were skipped.
pub(super) fn skipped(outcomes: &[Outcome]) -> Vec<&'static str> {
    names(outcomes, |verdict| {
        matches!(verdict, Verdict::Skipped(_) | Verdict::PassedInPart(_))
    })
}

fn names(outcomes: &[Outcome], is_one: impl Fn(&Verdict) -> bool) -> Vec<&'static str> {
    let those = outcomes.iter().filter(|outcome| is_one(&outcome.verdict));
    those.map(|outcome| outcome.suite).collect()
}

/// Returns a table of all suites, followed by the failures.
pub(super) fn summary(outcomes: &[Outcome]) -> String {
    let mut text = String::from("  seconds  suite\n");
    let mut failures = String::new();
    for Outcome {
        suite,
        seconds,
        verdict,
    } in outcomes
    {
        // Writing to a String cannot fail.
        let _ = match verdict {
            Verdict::Passed => writeln!(text, "{seconds:>9}  {suite:<14} passed"),
            Verdict::PassedInPart(skipped) => {
                writeln!(text, "{seconds:>9}  {suite:<14} passed; skipped: {skipped}")
            }
            Verdict::Skipped(why) => {
                writeln!(text, "{:>9}  {suite:<14} skipped: {why}", "-")
            }
            Verdict::NotRun(need) => {
                writeln!(text, "{:>9}  {suite:<14} not run: it needs {need}", "-")
            }
            Verdict::Failed(why) => {
                let _ = writeln!(failures, "\n{suite} failed: {}", why.trim_end());
                writeln!(text, "{seconds:>9}  {suite:<14} FAILED")
            }
        };
    }
    text + &failures
}

/// Returns the failed tests in the output of `cargo test`, each with its target, and the
/// targets that crashed.
pub(super) fn failed_tests(log: &str) -> Vec<String> {
    let (mut running, mut section, mut failed) = (None, None, Vec::new());
    let crashed = |target: &str| format!("{target}: crashed");
    for line in log.lines() {
        if let Some(target) = target(line) {
            failed.extend(running.replace(target).map(crashed));
        } else if line == "failures:" {
            // There are two such sections: the tests' output, then their names.
            section = Some(Vec::new());
        } else if line.starts_with("test result: ") {
            let names = section.take().unwrap_or_default();
            let target = running.take().unwrap_or_default();
            if line.starts_with("test result: FAILED") {
                failed.extend(names.iter().map(|name| format!("{target}: {name}")));
            }
        } else if let (Some(names), Some(name)) = (&mut section, line.strip_prefix("    ")) {
            names.push(name);
        }
    }
    failed.extend(running.map(crashed));
    failed
}

/// Returns the target whose tests start at this line of `cargo test`.
fn target(line: &str) -> Option<&str> {
    if let Some(target) = line.strip_prefix("     Running ") {
        // Without the hashed name of its binary.
        return target.split(" (").next();
    }
    line.strip_prefix("   Doc-tests ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(suite: &'static str, seconds: u64, verdict: Verdict) -> Outcome {
        Outcome {
            suite,
            seconds,
            verdict,
        }
    }

    fn outcomes() -> [Outcome; 5] {
        [
            outcome("lints", 45, Verdict::Failed("a hint\n    of it\n".into())),
            outcome("unit", 312, Verdict::Passed),
            outcome("demo", 0, Verdict::NotRun("lints")),
            outcome("node", 0, Verdict::Skipped("no node")),
            outcome("cluster", 9, Verdict::PassedInPart("faults")),
        ]
    }

    #[test]
    fn the_summary_has_each_suite_and_its_seconds_and_the_failures_last() {
        assert_eq!(
            summary(&outcomes()),
            "  seconds  suite
       45  lints          FAILED
      312  unit           passed
        -  demo           not run: it needs lints
        -  node           skipped: no node
        9  cluster        passed; skipped: faults

lints failed: a hint
    of it
"
        );
        assert_eq!(failed(&outcomes()), ["lints"]);
        assert_eq!(skipped(&outcomes()), ["node", "cluster"]);
    }

    #[test]
    fn a_suite_needs_others_that_passed() {
        let outcomes = outcomes();
        assert_eq!(unmet(&["unit", "node", "cluster"], &outcomes), None);
        assert_eq!(unmet(&["unit", "lints"], &outcomes), Some("lints"));
        assert_eq!(unmet(&["demo"], &outcomes), Some("demo"));
        assert_eq!(unmet(&["unknown"], &outcomes), Some("unknown"));
    }

    #[test]
    fn failed_tests_are_named_with_their_target_whatever_they_printed() {
        let log = "     Running unittests src/lib.rs (target/debug/deps/a-0123)
running 2 tests
test one ... ok
test result: ok. 2 passed; 0 failed; 0 ignored
     Running tests/server/main.rs (target/debug/deps/server-0123)
test logs::two ... FAILED

failures:

---- logs::two stdout ----
failures:
    not a test

failures:
    logs::two
    rules::away::three

test result: FAILED. 1 passed; 2 failed; 0 ignored
     Running tests/crash.rs (target/debug/deps/crash-0123)
running 2 tests
test one ... ok
   Doc-tests gateway_queue_client

failures:
    client/src/lib.rs - HttpQueue (line 3)

test result: FAILED. 0 passed; 1 failed
";
        assert_eq!(
            failed_tests(log),
            [
                "tests/server/main.rs: logs::two",
                "tests/server/main.rs: rules::away::three",
                "tests/crash.rs: crashed",
                "gateway_queue_client: client/src/lib.rs - HttpQueue (line 3)",
            ]
        );
    }
}
