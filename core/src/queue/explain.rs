//! Why nothing is granted, as a message for people.

use crate::leadership::state::Role;
use crate::lease_state::BlockedBy;
use crate::queue::snapshot::{About, LeaderView, Snapshot};

/// Returns why nothing is granted and what to do; none while this pod or its leader grants.
///
/// The message contains no countdown, so that a screen reader announces it once.
pub fn message(snapshot: &Snapshot, about: &About) -> Option<String> {
    match snapshot.role {
        Role::Leader => blocked_by(snapshot, about),
        Role::Expired => Some(
            "This pod holds the Lease but cannot renew it, so it grants nothing. Check that it can \
             reach the API server; its log has the error."
                .to_owned(),
        ),
        Role::Follower if !snapshot.leader_health.is_ready() => {
            let pod = leader_pod(snapshot);
            let address = snapshot.leader.map(|address| format!(" at {address}"));
            let address = address.unwrap_or_default();
            Some(format!(
                "This pod cannot reach the leader{pod}{address}, although it renews its Lease, and \
                 is not ready. Allow the queue's pods to reach each other on the leader's peer \
                 port: check NetworkPolicies and the service mesh."
            ))
        }
        Role::Follower if snapshot.leader_silent => Some(format!(
            "The leader{} does not answer this pod. If it no longer runs, another pod takes over \
             when its Lease expires; if it runs, check the network between the pods.",
            leader_pod(snapshot)
        )),
        Role::Agent if snapshot.leader_silent => {
            let upstream = about.upstream.as_deref().unwrap_or_default();
            Some(format!(
                "The queue at {upstream} does not answer this agent, so requests wait. Check that it \
                 runs and is not an agent itself, the name and port in UPSTREAM, and NetworkPolicies."
            ))
        }
        Role::Follower | Role::Agent => None,
        Role::None => Some(
            "No leader is known, so requests wait. If this lasts longer than 30 s, check that the \
             queue's pods run and can reach the API server."
                .to_owned(),
        ),
    }
}

/// Returns the name of the leader's pod, after a space; empty if it is unknown.
fn leader_pod(snapshot: &Snapshot) -> String {
    let pod = snapshot.leader_pod.as_ref();
    pod.map_or_else(String::new, |pod| format!(" {pod}"))
}

fn blocked_by(snapshot: &Snapshot, about: &About) -> Option<String> {
    let view = snapshot.leader_view.as_ref()?;
    let cause = cause(snapshot.last_error.as_deref());
    Some(match view.blocked_by? {
        BlockedBy::TokenMissing => {
            let remedy = match about.pod {
                Some(_) => "Create or correct the Secret that the GatewayQueue names",
                None => "Write the bot's token to the file that DISCORD_TOKEN_FILE names",
            };
            format!("The queue has no usable token{cause}. {remedy}; no restart is needed.")
        }
        BlockedBy::TokenRejected => {
            let place = match about.pod {
                Some(_) => "into the Secret",
                None => "where this process reads it",
            };
            format!(
                "Discord rejects the token. Put the bot's current token {place}; the Developer \
                 Portal can create a new one (Bot, Reset Token)."
            )
        }
        BlockedBy::SessionStartsUnknown => format!(
            "Discord has not reported how many session starts are left{cause}. The queue retries; \
             check that it can reach Discord."
        ),
        BlockedBy::SessionStartsExhausted => exhausted(view, about.reserve),
    })
}

fn exhausted(view: &LeaderView, reserve: u64) -> String {
    let reserve = match reserve {
        0 => String::new(),
        n => format!(" above the reserve of {n}"),
    };
    let reset = match view.reset_time {
        Some(time) => time.strftime("at %Y-%m-%d %H:%M:%S UTC").to_string(),
        None => "when Discord opens the next window".to_owned(),
    };
    format!("No session starts left{reserve}. The limit resets {reset}.")
}

/// Returns the error after a colon, without a full stop; empty if there is none.
fn cause(error: Option<&str>) -> String {
    error.map_or_else(String::new, |error| {
        format!(": {}", error.trim_end_matches('.'))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::leadership::leader_health::Health;
    use crate::leadership::state::Leader;
    use crate::queue::snapshot::Pod;
    use crate::testing::{about, leader, view};
    use crate::time::Moment;

    /// Asserts that the message contains this text.
    fn assert_message(snapshot: &Snapshot, about: &About, text: &str) {
        let message = message(snapshot, about).unwrap();
        assert!(message.contains(text), "{message}");
    }

    #[test]
    fn every_reason_has_a_message_with_a_remedy() {
        let mut snapshot = leader(&[1]);
        let mut about = about();
        assert_eq!(message(&snapshot, &about), None);
        for blocked_by in BlockedBy::ALL {
            view(&mut snapshot).blocked_by = Some(blocked_by);
            for last_error in [None, Some("it broke"), Some("it broke.")] {
                snapshot.last_error = last_error.map(str::to_owned);
                let message = message(&snapshot, &about).unwrap();
                assert!(
                    message.ends_with('.') && !message.contains(".."),
                    "{message}"
                );
                assert!(!message.contains("  "), "{message}");
                let quotes = [BlockedBy::TokenMissing, BlockedBy::SessionStartsUnknown];
                let is_quoted = message.contains(": it broke. ");
                let expected = quotes.contains(&blocked_by) && last_error.is_some();
                assert_eq!(is_quoted, expected, "{message}");
            }
        }
        view(&mut snapshot).blocked_by = Some(BlockedBy::TokenMissing);
        assert_message(&snapshot, &about, "DISCORD_TOKEN_FILE");
        about.pod = Some(Pod {
            namespace: "n".to_owned(),
            name: "p".to_owned(),
        });
        assert_message(&snapshot, &about, "Secret");
    }

    #[test]
    fn exhausted_session_starts_are_shown_with_the_time_of_the_reset() {
        let mut snapshot = leader(&[1]);
        let mut about = about();
        view(&mut snapshot).blocked_by = Some(BlockedBy::SessionStartsExhausted);
        assert_message(&snapshot, &about, "opens the next window.");
        view(&mut snapshot).reset_time = Some("2026-11-25T02:00:00Z".parse().unwrap());
        let at_reset = "No session starts left. The limit resets at 2026-11-25 02:00:00 UTC.";
        assert_message(&snapshot, &about, at_reset);
        about.reserve = 20;
        assert_message(&snapshot, &about, "above the reserve of 20.");
    }

    #[test]
    fn without_a_leader_the_session_starts_are_not_the_reason() {
        let mut snapshot = leader(&[]);
        view(&mut snapshot).blocked_by = Some(BlockedBy::SessionStartsExhausted);
        for (role, text) in [
            (Role::None, "No leader is known"),
            (Role::Expired, "cannot renew"),
        ] {
            snapshot.role = role;
            assert_message(&snapshot, &about(), text);
        }
        snapshot.role = Role::Follower;
        assert_eq!(message(&snapshot, &about()), None);
        snapshot.leader_silent = true;
        assert_message(&snapshot, &about(), "The leader does not answer");
        snapshot.leader_pod = Some("other".to_owned());
        assert_message(&snapshot, &about(), "The leader other does not answer");
        let address = ([10, 0, 0, 1], 9091).into();
        snapshot.leader = Some(address);
        snapshot.leader_health = Health::Unreachable {
            leader: Leader {
                holder: "other_1".to_owned(),
                address,
            },
            since: Moment::ZERO,
            lives: true,
        };
        let address = "cannot reach the leader other at 10.0.0.1:9091, although";
        assert_message(&snapshot, &about(), address);
        assert_message(&snapshot, &about(), "NetworkPolicies");
    }

    #[test]
    fn an_agent_names_an_upstream_that_does_not_answer() {
        let mut snapshot = leader(&[]);
        (snapshot.role, snapshot.leader_view) = (Role::Agent, None);
        let mut about = about();
        about.upstream = Some("my-bot.bots.svc:80".to_owned());
        assert_eq!(message(&snapshot, &about), None);
        snapshot.leader_silent = true;
        assert_message(
            &snapshot,
            &about,
            "The queue at my-bot.bots.svc:80 does not",
        );
    }
}
