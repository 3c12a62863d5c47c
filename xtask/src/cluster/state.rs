//! What is known of the node that is there, and what follows from it.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::layout::RUN;
use super::processes::Identity;
use crate::files;

/// What a start wrote down about itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// The checkout that started it.
    pub(crate) checkout: String,
    /// A hash of its programs and their configuration.
    pub(crate) version: String,
    /// Its first process.
    pub(crate) init: Identity,
    /// Whether the start came to its end.
    pub(crate) ready: bool,
}

/// What `up` finds.
#[derive(Debug)]
pub(crate) struct Found {
    /// What the last start wrote down, when that can be read.
    pub(crate) state: Option<State>,
    /// The node's first process, when it runs.
    pub(crate) init: Option<Identity>,
    /// Whether anything of a node is left: a process, a namespace, a folder.
    pub(crate) leftovers: bool,
    /// Programs of the node that do not run.
    pub(crate) missing: Vec<&'static str>,
    /// Why the node does not serve, when it does not.
    pub(crate) sick: Option<String>,
}

/// What `up` does about it.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing: it is ours, of this version, and works.
    Keep,
    /// Remove what is there, for this reason, and start.
    Replace(String),
    /// Just start.
    Start,
}

/// Whether to keep the node that was found by this `checkout`, which would start `version`.
pub(crate) fn verdict(found: &Found, checkout: &str, version: &str) -> Verdict {
    let Found {
        state,
        init,
        leftovers,
        missing,
        sick,
    } = found;
    if state.is_none() && init.is_none() && !leftovers {
        return Verdict::Start;
    }
    let replace = |reason: &str| Verdict::Replace(reason.to_owned());
    let Some(state) = state else {
        return replace("nothing tells what it is");
    };
    if state.checkout != checkout {
        return replace(&format!("it belongs to {}", state.checkout));
    }
    if state.version != version {
        return replace("it is of another version");
    }
    if *init != Some(state.init) {
        return replace("its processes were killed");
    }
    if !state.ready {
        return replace("its start did not come to an end");
    }
    if !missing.is_empty() {
        return replace(&format!("{} no longer runs", missing.join(", ")));
    }
    match sick {
        Some(reason) => replace(reason),
        None => Verdict::Keep,
    }
}

/// Reads what the last start wrote. What cannot be read tells as little as what
/// is not there.
pub(crate) fn read() -> Option<State> {
    parse(&fs::read_to_string(path()).ok()?)
}

/// Writes it down.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write(state: &State) -> Result<()> {
    files::replace(path().as_ref(), text(state).as_bytes(), 0o644)
}

fn path() -> impl AsRef<Path> {
    format!("{RUN}/state.json")
}

fn text(state: &State) -> String {
    let State {
        checkout,
        version,
        init,
        ready,
    } = state;
    let init = json!({ "pid": init.pid, "started": init.started });
    json!({ "checkout": checkout, "version": version, "init": init, "ready": ready }).to_string()
}

fn parse(text: &str) -> Option<State> {
    let value: Value = serde_json::from_str(text).ok()?;
    let init = &value["init"];
    Some(State {
        checkout: value["checkout"].as_str()?.to_owned(),
        version: value["version"].as_str()?.to_owned(),
        init: Identity {
            pid: i32::try_from(init["pid"].as_i64()?).ok()?,
            started: init["started"].as_u64()?,
        },
        ready: value["ready"].as_bool()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: Identity = Identity {
        pid: 42,
        started: 1000,
    };

    fn state() -> State {
        State {
            checkout: "/a".into(),
            version: "v1".into(),
            init: INIT,
            ready: true,
        }
    }

    fn healthy() -> Found {
        Found {
            state: Some(state()),
            init: Some(INIT),
            leftovers: true,
            missing: vec![],
            sick: None,
        }
    }

    fn reason(found: &Found) -> String {
        match verdict(found, "/a", "v1") {
            Verdict::Replace(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(parse(&text(&state())), Some(state()));
    }

    #[test]
    fn half_a_state_is_none() {
        let text = text(&state());
        assert_eq!(parse(&text[..text.len() / 2]), None);
        assert_eq!(parse(""), None);
        assert_eq!(
            parse(r#"{"checkout":"/a","version":"v1","ready":true}"#),
            None
        );
    }

    #[test]
    fn a_healthy_node_of_this_checkout_and_version_is_kept() {
        assert_eq!(verdict(&healthy(), "/a", "v1"), Verdict::Keep);
    }

    #[test]
    fn an_empty_machine_is_just_started_on() {
        let found = Found {
            state: None,
            init: None,
            leftovers: false,
            missing: vec![],
            sick: None,
        };
        assert_eq!(verdict(&found, "/a", "v1"), Verdict::Start);
    }

    #[test]
    fn a_node_of_another_checkout_or_version_is_replaced() {
        assert_eq!(
            verdict(&healthy(), "/b", "v1"),
            Verdict::Replace("it belongs to /a".into())
        );
        assert_eq!(
            verdict(&healthy(), "/a", "v2"),
            Verdict::Replace("it is of another version".into())
        );
    }

    #[test]
    fn a_first_process_that_is_gone_or_whose_number_was_reused_is_replaced() {
        let reused = Identity {
            started: 2000,
            ..INIT
        };
        assert_eq!(
            reason(&Found {
                init: None,
                ..healthy()
            }),
            "its processes were killed"
        );
        assert_eq!(
            reason(&Found {
                init: Some(reused),
                ..healthy()
            }),
            "its processes were killed"
        );
    }

    #[test]
    fn a_node_without_a_program_or_without_answers_is_replaced() {
        assert_eq!(
            reason(&Found {
                missing: vec!["kubelet"],
                ..healthy()
            }),
            "kubelet no longer runs"
        );
        assert_eq!(
            reason(&Found {
                sick: Some("no DNS".into()),
                ..healthy()
            }),
            "no DNS"
        );
    }

    #[test]
    fn a_half_started_node_and_one_that_lost_its_state_are_replaced() {
        let half = State {
            ready: false,
            ..state()
        };
        assert_eq!(
            reason(&Found {
                state: Some(half),
                ..healthy()
            }),
            "its start did not come to an end"
        );
        assert_eq!(
            reason(&Found {
                state: None,
                ..healthy()
            }),
            "nothing tells what it is"
        );
    }
}
