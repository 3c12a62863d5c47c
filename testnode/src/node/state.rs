//! The recorded state of the node, and whether the node can be kept.

use std::fs;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::layout::RUN;
use super::processes::Identity;
use crate::host::files;

/// The state that a start records.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct State {
    /// The checkout that started the node.
    pub(crate) checkout: String,
    /// A hash of its programs and their configuration.
    pub(crate) version: String,
    /// Its first process.
    pub(crate) init: Identity,
    /// Whether the start was completed.
    pub(crate) is_ready: bool,
}

/// The observed state of the machine.
#[derive(Debug)]
pub(crate) struct Found {
    /// The recorded state, if it can be read.
    pub(crate) state: Option<State>,
    /// The node's first process, if it runs.
    pub(crate) init: Option<Identity>,
    /// Whether any part of a node exists: a process, a namespace, a folder.
    pub(crate) has_leftovers: bool,
    /// Programs of the node that do not run.
    pub(crate) missing: Vec<&'static str>,
    /// Why the node does not serve, if it does not.
    pub(crate) failure: Option<String>,
}

impl Found {
    /// Returns why the node cannot be used by `checkout`, if it cannot. A node of another
    /// `version`, if one is given, cannot be used either.
    pub(crate) fn defect(&self, checkout: &str, version: Option<&str>) -> Option<String> {
        let Some(state) = &self.state else {
            return Some("its state cannot be read".to_owned());
        };
        if state.checkout != checkout {
            Some(format!("it belongs to the checkout {}", state.checkout))
        } else if version.is_some_and(|version| state.version != version) {
            Some("it has another version".to_owned())
        } else if self.init != Some(state.init) {
            Some("its processes were killed".to_owned())
        } else if !state.is_ready {
            Some("its start was not completed".to_owned())
        } else if !self.missing.is_empty() {
            Some(format!("not running: {}", self.missing.join(", ")))
        } else {
            self.failure.clone()
        }
    }

    /// Returns whether there is nothing of a node.
    pub(crate) fn is_nothing(&self) -> bool {
        self.state.is_none() && self.init.is_none() && !self.has_leftovers
    }
}

/// Reads the recorded state, if it exists and is valid.
pub(crate) fn read() -> Option<State> {
    serde_json::from_str(&fs::read_to_string(path()).ok()?).ok()
}

/// Records the state.
pub(crate) fn write(state: &State) -> Result<()> {
    let text = serde_json::to_string(state)?;
    files::replace(path().as_ref(), text.as_bytes(), 0o644)
}

fn path() -> String {
    format!("{RUN}/state.json")
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
            is_ready: true,
        }
    }

    fn healthy() -> Found {
        Found {
            state: Some(state()),
            init: Some(INIT),
            has_leftovers: true,
            missing: vec![],
            failure: None,
        }
    }

    #[test]
    fn a_complete_state_is_read_and_half_of_one_is_not() {
        let text = serde_json::to_string(&state()).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state());
        for half in [&text[..text.len() / 2], "", r#"{"checkout":"/a"}"#] {
            assert!(serde_json::from_str::<State>(half).is_err());
        }
    }

    #[test]
    fn only_a_healthy_node_of_this_checkout_and_version_is_kept() {
        assert_eq!(healthy().defect("/a", Some("v1")), None);
        assert_eq!(healthy().defect("/a", None), None);
        for (checkout, version, reason) in [
            ("/b", "v1", "it belongs to the checkout /a"),
            ("/a", "v2", "it has another version"),
        ] {
            let defect = healthy().defect(checkout, Some(version));
            assert_eq!(defect.as_deref(), Some(reason));
        }
        let reused = Identity {
            started: 2000,
            ..INIT
        };
        let half_started = State {
            is_ready: false,
            ..state()
        };
        type Change<'a> = &'a dyn Fn(&mut Found);
        let changes: [(Change<'_>, &str); 6] = [
            (&|it| it.init = None, "its processes were killed"),
            (&|it| it.init = Some(reused), "its processes were killed"),
            (&|it| it.missing.push("kubelet"), "not running: kubelet"),
            (&|it| it.failure = Some("no DNS".into()), "no DNS"),
            (
                &|it| it.state = Some(half_started.clone()),
                "its start was not completed",
            ),
            (&|it| it.state = None, "its state cannot be read"),
        ];
        for (change, reason) in changes {
            let mut found = healthy();
            change(&mut found);
            let defect = found.defect("/a", Some("v1"));
            assert_eq!(defect.as_deref(), Some(reason));
            assert!(!found.is_nothing());
        }
    }

    #[test]
    fn an_empty_machine_has_nothing_to_replace() {
        let found = Found {
            state: None,
            init: None,
            has_leftovers: false,
            ..healthy()
        };
        assert!(found.is_nothing());
    }
}
